"""What became of jobs, against their policies and their fates.

R12 Every job that was accepted has ended when the run has.
R13 A job completes only where its fate says so, with the result that it was to have.
R14 A job is retried by the engine only while its retries last, its error allows it and it has not
    crashed too often, and not before its delay; else it is dead, and has a dead letter. Nodes of
    runs that no worker does, like approvals, are neither retried nor kept as dead letters.
R15 A job does not start before it may, nor after it has expired.
R28 An attempt whose cancel was asked for is its job's last: it ends completed or cancelled.
"""

from typing import Any, Final

from jobengine.testing.sim.audited import FINAL, AuditedJob, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_ends"]

_CRASHES_MAX: Final = 3
_BACKOFF: Final = {
    "kind": "exponential",
    "baseUs": 1_000_000,
    "maxUs": 300_000_000,
    "jitter": "full",
}
_EARLY_US: Final = 2_000
"""What two clocks of one machine may differ, read one after the other."""


def judge_ends(evidence: Evidence) -> None:
    clocks_are_right = evidence.clocks_are_right
    for _, job in evidence.jobs():
        hold(job.state in FINAL, "R12", f"{job.job_id} is still {job.state}")
        _judge_fate(job, evidence.fates.get(job.digest))
        _judge_cancel(job)
        _judge_policy(job)
        if job.state == "failed" and job.attempts[-1].started.get("worker") is not None:
            hold(job.dead_letters > 0, "R14", f"{job.job_id} failed and has no dead letter")
        if clocks_are_right:
            _judge_instants(job)


def _judge_fate(job: AuditedJob, fate: dict[str, Any] | None) -> None:
    if job.state != "completed" or fate is None:
        return
    steps = fate["steps"]
    step = steps[min(job.attempts[-1].failures, len(steps) - 1)]
    hold(step == "complete", "R13", f"{job.job_id} completed, but was to {step}")


def _judge_policy(job: AuditedJob) -> None:
    """R14, at each failure: what is the engine's next word."""
    retries = job.definition.get("maxRetries", 3)
    failures = crashes = 0
    entries = iter(job.entries)
    for entry in entries:
        if entry["kind"] != "job.failed" or entry.get("worker") is None:
            continue
        failures += 1
        crashes += entry.get("reason") == "lease_expired"
        error = entry.get("error", {})
        for_good = error.get("retryable") is False
        is_loop = entry.get("reason") == "lease_expired" and crashes >= _CRASHES_MAX
        is_spent = failures > retries or is_loop or for_good
        follows = next(entries, None)
        kind = None if follows is None else follows["kind"]
        expected = "job.dead_lettered" if is_spent else "job.retried"
        hold(
            kind == expected,
            "R14",
            f"#{entry['seq']}: {job.job_id} failed {failures} times with {retries} retries and "
            f"{crashes} crashes; {expected} is due, and it is {kind}",
        )
        if kind == "job.retried" and follows is not None:
            _judge_delay(job, failures, follows)


def _judge_cancel(job: AuditedJob) -> None:
    asked = False
    for entry in job.entries:
        asked |= entry["kind"] == "job.cancel_requested"
        wrong = asked and entry.get("to") not in (None, "completed", "cancelled")
        hold(
            not wrong, "R28", f"#{entry['seq']}: {entry['kind']} of {job.job_id} behind its cancel"
        )


def _judge_delay(job: AuditedJob, failures: int, retried: Entry) -> None:
    """The delay that was decided on is that of the policy; chance is the engine's."""
    backoff: Entry = _BACKOFF | job.definition.get("backoff", {})
    growth = {"fixed": 1, "linear": failures}.get(backoff["kind"], 2 ** min(failures - 1, 40))
    wanted = min(backoff["maxUs"], backoff["baseUs"] * growth)
    delay = retried.get("spanUs", 0)
    jittered = backoff["jitter"] != "none"
    hold(
        delay == wanted or (jittered and 0 <= delay <= wanted),
        "R14",
        f"#{retried['seq']}: {job.job_id} is retried in {delay} µs, and {wanted} is right",
    )


def _judge_instants(job: AuditedJob) -> None:
    """R14 and R15 at each start: by the clock, which is right."""
    due_at = job.definition.get("notBefore", 0)
    expires_at = job.definition.get("expiresAt")
    for entry in job.entries:
        if entry["kind"] == "job.retried":
            by_engine = entry["actor"] == "engine"
            due_at = entry["at"] + (entry.get("spanUs", 0) if by_engine else 0)
        elif entry.get("to") == "running":
            seq, at = entry["seq"], entry["at"]
            hold(at >= due_at - _EARLY_US, "R15", f"#{seq}: {job.job_id} starts before it may")
            in_time = expires_at is None or at <= expires_at + _EARLY_US or entry["attempt"] > 1
            hold(in_time, "R15", f"#{seq}: {job.job_id} starts after it has expired")
            due_at = 0
