"""A tenant's ledger as an auditor reads it: from bytes, by the specification, with none of the
engine's code.

R1  Blocks continue each other, by number and by hash, and so do the entries within them.
R2  Every change of a job's state is one of the specification's table, from the state that it had.
R3  Attempts of a job count from one; each begins once, ends once, and only one runs at a time.

Not here: what anybody was told of it, limits, policies (`rules`).
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import attrs

__all__ = ["FINAL", "Attempt", "AuditedJob", "AuditedLedger", "BlockBytes", "Entry", "hold"]
__all__ += ["ViolationError"]

Entry = dict[str, Any]
"""An entry of a ledger, as its JSON says it."""

FINAL: Final = frozenset({"completed", "cancelled", "failed"})
_TABLE: Final = {
    ("job.created", None, "pending"),
    ("job.scheduled", "pending", "scheduled"),
    ("job.cancelled", "pending", "cancelled"),
    ("job.cancelled", "scheduled", "cancelled"),
    ("job.started", "scheduled", "running"),
    ("job.completed", "running", "completed"),
    ("job.failed", "running", "failed"),
    ("job.released", "running", "scheduled"),
    ("job.cancelled", "running", "cancelled"),
    ("job.retried", "failed", "scheduled"),
}


class ViolationError(AssertionError):
    """The ledger, or what somebody was told of it, breaks a rule; the message says which."""


def hold(condition: bool, rule: str, message: str) -> None:
    """Raises `ViolationError` where a rule does not hold."""
    if not condition:
        raise ViolationError(f"{rule}: {message}")


class BlockBytes(Protocol):
    """A block as it is stored."""

    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def previous(self) -> bytes: ...
    @property
    def link(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...


@attrs.define(eq=False)
class Attempt:
    """One attempt of a job: the entry that began it and, once it has, the one that ended it.
    `failures` and `crashes` are those that the job had before."""

    started: Entry
    failures: int
    crashes: int
    ended: Entry | None = None

    @property
    def end(self) -> str | None:
        """The kind of the entry that ended it."""
        return None if self.ended is None else str(self.ended["kind"])


@attrs.define(eq=False)
class AuditedJob:
    """A job as the ledger leaves it. `entries` are all that name it, `attempts` in their order."""

    job_id: str
    definition: dict[str, Any]
    created: Entry
    state: str = "pending"
    failures: int = 0
    crashes: int = 0
    entries: list[Entry] = attrs.field(factory=list)
    attempts: list[Attempt] = attrs.field(factory=list)
    dead_letters: int = 0
    cancel_asked: bool = False

    @property
    def digest(self) -> str:
        return str(self.definition["payloadDigest"])

    @property
    def last_error(self) -> dict[str, Any]:
        """Of the last failure; empty where there was none."""
        for attempt in reversed(self.attempts):
            if attempt.end == "job.failed" and attempt.ended is not None:
                return dict(attempt.ended.get("error", {}))
        return {}


class AuditedLedger:
    """`entries` are all of them in order; `jobs` by id, as the ledger leaves them.

    `commits` say when, in virtual seconds, entries up to which seq were durable, in that order;
    what is not told there was durable from the beginning.
    """

    def __init__(
        self,
        tenant_id: str,
        blocks: Iterable[BlockBytes],
        commits: Sequence[tuple[float, int]] = (),
    ) -> None:
        self.tenant_id = tenant_id
        self.entries: list[Entry] = []
        self.jobs: dict[str, AuditedJob] = {}
        self._commits_at = [at for at, _ in commits]
        self._committed = [seq for _, seq in commits]
        for entry in self._read(blocks):
            self.entries.append(entry)
            if entry.get("job"):
                self._step(entry)

    def durable_at(self, seq: int) -> float:
        """When an entry was in the store, in virtual seconds."""
        place = bisect_left(self._committed, seq)
        return self._commits_at[place] if place < len(self._committed) else 0.0

    def _read(self, blocks: Iterable[BlockBytes]) -> Iterator[Entry]:
        seq, link = 0, bytes(32)
        for block in blocks:
            first = block.first_seq
            self._hold(first == seq + 1, "R1", f"a gap before block {first}")
            self._hold(block.previous == link, "R1", f"block {first} does not follow its link")
            link = hashlib.sha256(link + block.body).digest()
            self._hold(block.link == link, "R1", f"block {first} has another link")
            for line in block.body.splitlines():
                entry = json.loads(line)
                seq += 1
                told = entry["seq"]
                self._hold(told == seq, "R1", f"entry {told} stands where {seq} belongs")
                yield entry
            self._hold(block.last_seq == seq, "R1", f"block {first} ends at {block.last_seq}")

    def _hold(self, condition: bool, rule: str, message: str) -> None:
        hold(condition, rule, f"{self.tenant_id}: {message}")

    def _step(self, entry: Entry) -> None:
        kind, seq, job_id = entry["kind"], entry["seq"], entry["job"]
        before, after = entry.get("from"), entry.get("to")
        if kind == "job.created":
            self._hold(job_id not in self.jobs, "R2", f"#{seq}: {job_id} is created twice")
            job = self.jobs[job_id] = AuditedJob(job_id, entry["data"], entry)
            job.entries.append(entry)
            self._hold(after == "pending", "R2", f"#{seq}: {job_id} begins as {after}")
            return
        self._hold(job_id in self.jobs, "R2", f"#{seq}: {job_id} was never created")
        job = self.jobs[job_id]
        job.entries.append(entry)
        job.dead_letters += kind == "job.dead_lettered"
        job.cancel_asked |= kind == "job.cancel_requested"
        if after is None:
            return
        legal = (kind, before, after) in _TABLE
        self._hold(legal, "R2", f"#{seq}: {kind} does not lead {before} → {after}")
        self._hold(before == job.state, "R2", f"#{seq}: {job_id} was {job.state}, not {before}")
        if after == "running":
            self._start(job, entry)
        elif before == "running":
            self._end(job, entry)
        job.state = after

    def _start(self, job: AuditedJob, entry: Entry) -> None:
        number, expected = entry["attempt"], len(job.attempts) + 1
        told = f"#{entry['seq']}: attempt {number} of {job.job_id}, and {expected} is due"
        self._hold(number == expected, "R3", told)
        job.attempts.append(Attempt(entry, job.failures, job.crashes))

    def _end(self, job: AuditedJob, entry: Entry) -> None:
        seq, attempt = entry["seq"], job.attempts[-1]
        same = entry["attempt"] == len(job.attempts)
        self._hold(same, "R3", f"#{seq}: another attempt of {job.job_id} ends than runs")
        self._hold(attempt.ended is None, "R3", f"#{seq}: an attempt of {job.job_id} ends twice")
        attempt.ended = entry
        if entry["kind"] == "job.failed":
            job.failures += 1
            job.crashes += entry.get("reason") == "lease_expired"
