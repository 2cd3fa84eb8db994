"""Leases that the clock ended: none of them too early.

R30 A lease does not expire within its time from a heartbeat of its worker that the engine answered,
    nor within its time from the start of an engine that found it, nor from the commit of its grant
    where that waited for a ledger that was away: that is nobody's silence.

A ledger that is slow is not away: what a slow commit takes of a lease's time is lost.

Not here: leases that end too late (`leases`).
"""

from bisect import bisect_right
from collections import defaultdict
from typing import Any, Final

from jobengine.testing.sim.audited import Attempt, hold
from jobengine.testing.sim.journal import Journal
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_expiries"]

_EARLY_S: Final = 0.002
"""What two readings of one machine's clocks may differ."""

_NOTICED_S: Final = 0.5
"""How long a grant may be on its way before its commit finds the ledger away."""

_SLOW_S: Final = 5.0
"""The longest that one slow call takes, which what stands behind it in line waits for as well."""

_NOT_AWAY: Final = (".slow", ".lost", "crash.engine", "crash.actor")
"""What else keeps a commit waiting."""


def judge_expiries(evidence: Evidence) -> None:
    renewals = _renewals(evidence.journal)
    for ledger, job in evidence.jobs():
        lease_s = job.definition.get("leaseUs", 30_000_000) / 1_000_000
        for attempt in job.attempts:
            end = attempt.ended
            if end is None or end.get("reason") != "lease_expired":
                continue
            number = attempt.started["attempt"]
            told = f"#{end['seq']}: attempt {number} of {job.job_id} expires"
            began = ledger.durable_at(attempt.started["seq"])
            ended = ledger.durable_at(end["seq"])
            restarts = [at for at in evidence.journal.lives if began <= at <= ended]
            for at in restarts:
                early = f"{told} {ended - at:.3f} s behind the engine's start"
                hold(ended - at >= lease_s - _EARLY_S, "R30", early)
            # Only the entry's own instant says when the engine decided on it.
            if evidence.clocks_are_right:
                beats = renewals.get((ledger.tenant_id, job.job_id, number), [])
                _judge_beats(evidence, attempt, lease_s, beats, told)
                if not _was_slow(evidence, attempt, began):
                    early = f"{told} {ended - began:.3f} s behind the commit of its grant"
                    hold(ended - began >= lease_s - _NOTICED_S, "R30", early)


def _judge_beats(
    evidence: Evidence,
    attempt: Attempt,
    lease_s: float,
    beats: list[tuple[float, float]],
    told: str,
) -> None:
    assert attempt.ended is not None
    decided = (attempt.ended["at"] - evidence.epoch_at) / 1_000_000
    for said, answered in beats:
        if answered <= decided - _EARLY_S:
            early = f"{told} {decided - said:.3f} s behind a heartbeat that was answered"
            hold(decided - said >= lease_s - _EARLY_S, "R30", early)


def _was_slow(evidence: Evidence, attempt: Attempt, began: float) -> bool:
    decided = (attempt.started["at"] - evidence.epoch_at) / 1_000_000
    return any(
        decided - _SLOW_S <= at <= began and site.endswith(_NOT_AWAY)
        for at, site in evidence.struck
    )


def _renewals(journal: Journal) -> dict[tuple[str, str, int], list[tuple[float, float]]]:
    """Of each lease, by tenant, job and attempt: when heartbeats that renew it were said, and when
    their answers were heard. A heartbeat speaks for what its connection was granted or kept."""
    said: dict[tuple[str, int, Any], float] = {}
    for line in journal.said:
        if line.message["op"] == "heartbeat" and line.message.get("leases") is None:
            said.setdefault((line.worker_id, line.connection, line.message.get("ref")), line.at)
    granted: dict[str, tuple[str, str, int]] = {}
    held: defaultdict[tuple[str, int], list[tuple[float, str]]] = defaultdict(list)
    renewals: defaultdict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for heard in journal.heard:
        message, connection = heard.message, (heard.worker_id, heard.connection)
        if message["op"] == "lease":
            lease = (heard.tenant_id, message["jobId"], message["attempt"])
            granted[message["leaseId"]] = lease
            held[connection].append((heard.at, message["leaseId"]))
        elif message["op"] == "welcome":
            held[connection] += [(heard.at, each) for each in message.get("resumed", ())]
        elif message["op"] == "ack" and (*connection, message.get("ref")) in said:
            at = said[*connection, message.get("ref")]
            known = held[connection]
            for _, lease_id in known[: bisect_right(known, at, key=lambda pair: pair[0])]:
                renewals[granted[lease_id]].append((at, heard.at))
    return renewals
