"""Explanations.

R23 What an explanation says of a job was so between asking and answer: its state, and each gate
    that it names and the ledger knows.
R24 A job that waits and of which no gate is named starts within three seconds.

Judged where no fault is felt: what is decided and not yet durable is known to the engine alone.
"""

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, Final

from jobengine.testing.sim.audited import AuditedJob, AuditedLedger, hold
from jobengine.testing.sim.journal import Answered, Asked
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.gates import LedgerGates
from jobengine.testing.sim.rules.work import WITHIN_S

__all__ = ["judge_explanations"]

_KNOWN: Final = frozenset({"paused", "quota_active", "concurrency_key"})
_ROUND_TRIP_S: Final = 1.0


def judge_explanations(evidence: Evidence) -> None:
    asked = {each.number: each for each in evidence.journal.asked if each.verb == "explain"}
    for answered in evidence.journal.answered:
        question = asked.get(answered.number)
        if question is None or answered.refusal is not None:
            continue
        if evidence.is_calm(question.at, answered.at + WITHIN_S):
            ledger = evidence.ledgers[question.tenant_id]
            for told in answered.answer["jobs"]:
                _judge(ledger, question, answered, told)


def _judge(
    ledger: AuditedLedger, asked: Asked, answered: Answered, told: Mapping[str, Any]
) -> None:
    job = ledger.jobs[told["jobId"]]
    since, until = asked.at - _ROUND_TRIP_S, answered.at + _ROUND_TRIP_S
    states = list(_states(ledger, job, since, until))
    hold(
        told["state"] in states,
        "R23",
        f"request {asked.number}: {job.job_id} is said to be {told['state']}, and was {states}",
    )
    named = [(gate, key) for gate, key in told["gates"] if gate in _KNOWN]
    if named:
        closed = _closed(ledger, job, since, until)
        for gate, key in named:
            why = f"request {asked.number}: {gate} {key} is said to hold {job.job_id}"
            hold(gate in closed, "R23", f"{why}, and was open")
    if told["state"] == "scheduled" and not told["gates"]:
        moved = [entry for entry in job.entries if ledger.durable_at(entry["seq"]) > since]
        in_time = moved and ledger.durable_at(moved[0]["seq"]) <= until + WITHIN_S
        why = f"request {asked.number}: nothing is said to hold {job.job_id}"
        hold(bool(in_time), "R24", f"{why}, and it does not start")


def _states(ledger: AuditedLedger, job: AuditedJob, since: float, until: float) -> Iterator[str]:
    """The states that a job had within a span of time."""
    before: str | None = None
    for entry in job.entries:
        if entry.get("to") is None:
            continue
        at = ledger.durable_at(entry["seq"])
        if at > since and before is not None:
            yield before
        if at > until:
            return
        before = entry["to"]
    if before is not None:
        yield before


def _closed(ledger: AuditedLedger, job: AuditedJob, since: float, until: float) -> set[str]:
    """Which sorts of gates held a job at some time within a span."""
    gates, found = LedgerGates(ledger.jobs), set[str]()
    in_time = takewhile(lambda entry: ledger.durable_at(entry["seq"]) <= until, ledger.entries)
    for entry in in_time:
        if ledger.durable_at(entry["seq"]) > since:
            found.update(gate for gate, _, _ in gates.closed(job.job_id))
        gates.step(entry)
    found.update(gate for gate, _, _ in gates.closed(job.job_id))
    return found
