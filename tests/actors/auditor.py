"""An auditor of ledgers: it reads blocks, knows the specification, and shares no code with the
engine but the reading of JSON."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

LEGAL = {
    (None, "pending"),
    ("pending", "scheduled"),
    ("pending", "cancelled"),
    ("scheduled", "cancelled"),
    ("scheduled", "running"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "scheduled"),
    ("running", "cancelled"),
    ("failed", "scheduled"),
}
FINAL = {"completed", "cancelled", "failed"}


@attrs.define
class AuditedJob:
    """What the ledger says of one job. ``ends`` maps each attempt to the state it ended in."""

    definition: dict[str, Any]
    state: str = "pending"
    attempt: int = 0
    started_at: list[int] = attrs.field(factory=list)
    ends: dict[int, str] = attrs.field(factory=dict)
    dead_letters: int = 0


class Auditor:
    """``jobs`` by id, after ``read``; every violation is an ``AssertionError``."""

    def __init__(self) -> None:
        self.jobs: dict[str, AuditedJob] = {}
        self._next_seq = 1
        self._link = bytes(32)

    def read(self, blocks: Iterable[Any]) -> None:
        """The blocks of one tenant, all of them from the first."""
        for block in blocks:
            assert block.first_seq == self._next_seq, "a gap between blocks"
            assert block.previous == self._link, "a broken chain"
            assert block.link == hashlib.sha256(self._link + block.body).digest()
            self._link = block.link
            for line in block.body.splitlines():
                entry = json.loads(line)
                assert entry["seq"] == self._next_seq, "a gap within a block"
                self._next_seq += 1
                if "job" in entry:
                    self._step(entry)
            assert block.last_seq == self._next_seq - 1

    @staticmethod
    def entries(blocks: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The entries of blocks, in order."""
        for block in blocks:
            yield from map(json.loads, block.body.splitlines())

    def _step(self, entry: dict[str, Any]) -> None:
        job_id, target = entry["job"], entry.get("to")
        if entry["kind"] == "job.created":
            assert job_id not in self.jobs, f"{job_id} was created twice"
            assert target == "pending"
            self.jobs[job_id] = AuditedJob(entry["data"])
            return
        job = self.jobs[job_id]
        if entry["kind"] == "job.dead_lettered":
            job.dead_letters += 1
        if target is None:
            return
        source = entry["from"]
        assert source == job.state, f"{job_id} was {job.state}, not {source}"
        assert (source, target) in LEGAL, f"{job_id}: {source} → {target}"
        if target == "running":
            self._start(job_id, job, entry)
        elif source == "running":
            assert entry["attempt"] == job.attempt
            assert job.attempt not in job.ends, f"{job_id}: attempt {job.attempt} ended twice"
            job.ends[job.attempt] = target
        job.state = target

    def _start(self, job_id: str, job: AuditedJob, entry: dict[str, Any]) -> None:
        assert entry["attempt"] == job.attempt + 1, f"{job_id}: attempts do not grow by one"
        job.attempt += 1
        job.started_at.append(entry["at"])
        assert entry["at"] >= job.definition.get("notBefore", 0), f"{job_id} started too early"
        expires_at = job.definition.get("expiresAt")
        if job.attempt == 1 and expires_at is not None:
            assert entry["at"] < expires_at, f"{job_id} started after its expiry"
