"""Work conservation: what may start does.

R22 While no fault is felt, a job that is due, meets no closed gate and has a worker with credit
    starts within three seconds.

A job that waits for tokens is not held against the engine while others take them: its time begins
anew with each start out of a bucket that it needs too. Nor is one whose host has pushed back, for
what rate was learned from that is the engine's to know.
"""

from collections.abc import Iterator
from heapq import merge
from math import inf
from typing import Any, Final

from jobengine.testing.sim.audited import AuditedJob, AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.credit import Crew, moments_of
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.gates import LedgerGates
from jobengine.testing.sim.rules.rates import rates_of

__all__ = ["WITHIN_S", "judge_work"]

WITHIN_S: Final = 3.0
_DEFERRED_PRIORITY_MAX: Final = 1
"""Work up to this priority may be put off where the engine is busy."""

_PUSH_BACKS: Final = (429, 503)


def judge_work(evidence: Evidence) -> None:
    for ledger in evidence.ledgers.values():
        _Watch(evidence, ledger).watch()


class _Watch:
    def __init__(self, evidence: Evidence, ledger: AuditedLedger) -> None:
        self._evidence = evidence
        self._ledger = ledger
        self._gates = LedgerGates(ledger.jobs)
        self._crew = Crew()
        self._waiting: dict[str, float] = {}
        """From when on each scheduled job is due, in virtual seconds."""
        self._ready_since: dict[str, float] = {}
        self._now = 0.0
        self._priorities: dict[str, int] = {}
        self._pushed_back: set[str] = set()
        """Hosts whose rate may be a learned one."""

    def watch(self) -> None:
        """Look at the waiting jobs wherever a while passes in which nothing happens to any."""
        for at, what in self._happenings():
            if at > self._now:
                self._look(at)
                self._now = at
            if isinstance(what, dict):
                self._step(what)
            else:
                self._crew.step(what)

    def _happenings(self) -> Iterator[tuple[float, Any]]:
        durable_at = self._ledger.durable_at
        entries = [(durable_at(entry["seq"]), entry) for entry in self._ledger.entries]
        moments = moments_of(self._evidence.journal, self._ledger.tenant_id)
        lines = [(line.at, line) for line in moments]
        end = (self._evidence.ended_at, {"kind": "the end"})
        return merge(entries, lines, [end], key=lambda pair: pair[0])

    def _look(self, until: float) -> None:
        """Which jobs are ready from now until then, and whether one was for too long."""
        if not self._waiting or not self._evidence.is_calm(self._now, until):
            self._ready_since.clear()
            return
        for job_id, due_at in self._waiting.items():
            if due_at >= until or not self._may_start(self._ledger.jobs[job_id], until):
                self._ready_since.pop(job_id, None)
                continue
            since = self._ready_since.setdefault(job_id, max(due_at, self._now))
            hold(
                until - since <= WITHIN_S,
                "R22",
                f"{job_id} may start from {since:.3f} on, and has not by {until:.3f}",
            )

    def _may_start(self, job: AuditedJob, until: float) -> bool:
        priority = self._priorities.get(job.job_id, job.definition.get("priority", 5))
        if priority <= _DEFERRED_PRIORITY_MAX:
            return False
        if not self._crew.takes(job.definition["jobType"], until):
            return False
        if any(True for _ in self._gates.closed(job.job_id)):
            return False
        by_the_hour = any("maxPerHour" in q for _, q in self._gates.of(job.job_id, "quota"))
        closed_by_clock = any(True for _ in self._gates.of(job.job_id, "blackout"))
        source = self._gates.source_of(job.job_id)
        if source is not None and source[1].get("host") in self._pushed_back:
            return False
        is_probe = source is not None and self._gates.breaker(source[0]) == "half_open"
        return not (by_the_hour or closed_by_clock or is_probe)

    def _step(self, entry: Entry) -> None:
        job_id = entry.get("job", "")
        if entry.get("to") == "running":
            self._restart_time_of_rivals(job_id)
        self._gates.step(entry)
        if entry.get("error", {}).get("httpStatus") in _PUSH_BACKS:
            source = self._gates.source_of(job_id)
            self._pushed_back |= {source[1]["host"]} if source is not None else set()
        if entry["kind"] == "job.prioritized":
            self._priorities[job_id] = entry["data"]["to"]
        elif entry.get("to") == "scheduled":
            self._waiting[job_id] = self._due_at(entry)
        elif entry.get("to") is not None:
            self._waiting.pop(job_id, None)
            self._ready_since.pop(job_id, None)

    def _restart_time_of_rivals(self, job_id: str) -> None:
        keys = set(rates_of(self._gates, job_id))
        for rival in self._ready_since if keys else ():
            if keys & set(rates_of(self._gates, rival)):
                self._ready_since[rival] = self._now

    def _due_at(self, entry: Entry) -> float:
        """A delay is by the wall clock; where that was set it is anybody's guess."""
        evidence, definition = self._evidence, self._ledger.jobs[entry["job"]].definition
        due_at = definition.get("notBefore", 0) if entry["kind"] == "job.scheduled" else 0
        if entry["kind"] == "job.retried" and entry["actor"] == "engine":
            due_at = entry["at"] + entry.get("spanUs", 0)
        if not due_at:
            return self._now
        return (due_at - evidence.epoch_at) / 1_000_000 if evidence.clocks_are_right else inf
