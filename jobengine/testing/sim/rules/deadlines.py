"""Jobs that have to start by an instant.

R34 A job that has never started when it expires is cancelled as expired within three seconds, where
    no fault of store or engine is felt; none is before it expires, and none that has started.

Where clocks are right. That none starts behind its expiry is R15.
"""

from typing import Final

from jobengine.testing.sim.audited import AuditedJob, AuditedLedger, hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_deadlines"]

_WITHIN_S: Final = 3.0
_EARLY_US: Final = 2_000
_FELT: Final = ("store.", "crash.engine", "crash.actor")


def judge_deadlines(evidence: Evidence) -> None:
    if not evidence.clocks_are_right:
        return
    for ledger, job in evidence.jobs():
        expires_at = job.definition.get("expiresAt")
        for entry in job.entries:
            if entry.get("reason") == "expired":
                told = f"#{entry['seq']}: {job.job_id} expires"
                hold(expires_at is not None, "R34", f"{told}, and has for ever")
                hold(not job.attempts, "R34", f"{told}, which has started")
                hold(entry["at"] >= (expires_at or 0) - _EARLY_US, "R34", f"{told} too early")
        if expires_at is not None:
            _judge_waiting(evidence, ledger, job, expires_at)


def _judge_waiting(
    evidence: Evidence, ledger: AuditedLedger, job: AuditedJob, expires_at: int
) -> None:
    """It waits no longer than it may."""
    since = (expires_at - evidence.epoch_at) / 1_000_000
    since = max(since, ledger.durable_at(job.created["seq"]))
    over = [
        ledger.durable_at(entry["seq"])
        for entry in job.entries
        if entry.get("to") in ("running", "cancelled")
    ]
    until = min(over, default=evidence.ended_at)
    late = until > since + _WITHIN_S and evidence.is_calm(since, since + _WITHIN_S, *_FELT)
    hold(not late, "R34", f"{job.job_id} expired at {since:.3f} and waits until {until:.3f}")
