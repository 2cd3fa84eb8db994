"""Leases and reports: who was told what, who said what, and what came of it.

R7  A lease is told to the worker it was granted to and to no other, after its commit, with a token
    above all earlier ones of its job.
R8  A report that was acked is in the ledger before the ack; its attempt ended as it says.
R9  An attempt ends by a report only if its own worker made it of that very lease.
R10 A lease whose worker falls silent ends within its time and a second.
R11 A worker whose drain was acked is granted nothing any more on that connection.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import pairwise
from typing import Any, Final

import attrs

from jobengine.testing.sim.audited import Attempt, AuditedJob, AuditedLedger, hold
from jobengine.testing.sim.journal import Heard, Said
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_leases"]

_ENDS: Final = {"complete": "job.completed", "fail": "job.failed", "release": "job.released"}
_OPS: Final = {end: op for op, end in _ENDS.items()}
_FOUND_S: Final = 3.0
"""What an expiry may be late: a second, and the commit of it."""


@attrs.frozen
class _Told:
    """A lease as its worker was told of it."""

    worker_id: str
    ledger: AuditedLedger
    job: AuditedJob
    attempt: Attempt
    token: int


def judge_leases(evidence: Evidence) -> None:
    told = _judge_grants(evidence)
    reports = _judge_acks(evidence, told)
    _judge_reported_ends(evidence, reports)
    _judge_silence(evidence)
    _judge_drains(evidence)


def _judge_grants(evidence: Evidence) -> dict[str, _Told]:
    """R7; every lease that a worker was told of, by its id."""
    told: dict[str, _Told] = {}
    for heard in evidence.journal.heard:
        lease = heard.message
        if lease["op"] != "lease":
            continue
        lease_id, number, worker_id = lease["leaseId"], lease["attempt"], heard.worker_id
        job = evidence.job(heard.tenant_id, lease["jobId"])
        hold(number <= len(job.attempts), "R7", f"{lease_id} was told and never committed")
        attempt, ledger = job.attempts[number - 1], evidence.ledgers[heard.tenant_id]
        hold(
            ledger.durable_at(attempt.started["seq"]) <= heard.at,
            "R7",
            f"{lease_id} was told before its commit",
        )
        owner = attempt.started.get("worker")
        hold(owner == worker_id, "R7", f"{lease_id} is {owner}'s and was told to {worker_id}")
        now = _Told(worker_id, ledger, job, attempt, lease["token"])
        token = told.setdefault(lease_id, now).token
        hold(token == lease["token"], "R7", f"{lease_id} has two tokens")
    _judge_tokens(told)
    return told


def _judge_tokens(told: dict[str, _Told]) -> None:
    tokens: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for lease in told.values():
        tokens[lease.job.job_id].append((lease.attempt.started["attempt"], lease.token))
    for job_id, pairs in tokens.items():
        pairs.sort()
        for (_, before), (number, token) in pairwise(pairs):
            hold(before < token, "R7", f"the token of {job_id}, attempt {number}, does not grow")


def _judge_acks(evidence: Evidence, told: dict[str, _Told]) -> dict[tuple[str, int], set[str]]:
    """R8; what was reported of each attempt of a job, by its worker and with its token."""
    said: dict[tuple[str, int, Any], dict[str, Any]] = {}
    reports: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for line in evidence.journal.said:
        report = line.message
        if report["op"] not in _ENDS:
            continue
        said[_reference(line)] = report
        lease = told.get(report["leaseId"])
        if lease is not None and (line.worker_id, report["token"]) == (
            lease.worker_id,
            lease.token,
        ):
            reports[lease.job.job_id, lease.attempt.started["attempt"]].add(report["op"])
    for heard in evidence.journal.heard:
        acked = said.get(_reference(heard)) if heard.message["op"] == "ack" else None
        if acked is not None:
            _judge_ack(acked, told[acked["leaseId"]], heard.at)
    return reports


def _judge_ack(report: dict[str, Any], lease: _Told, at: float) -> None:
    lease_id, op, end = report["leaseId"], report["op"], lease.attempt.ended
    hold(end is not None, "R8", f"{lease_id}: {op} was acked, and the attempt never ended")
    assert end is not None
    as_told = end["kind"] in (_ENDS[op], "job.cancelled")
    hold(as_told, "R8", f"{lease_id}: {op} was acked, and the attempt ended by {end['kind']}")
    hold(
        lease.ledger.durable_at(end["seq"]) <= at,
        "R8",
        f"{lease_id}: {op} was acked before its commit",
    )


def _judge_reported_ends(evidence: Evidence, reports: dict[tuple[str, int], set[str]]) -> None:
    """R9."""
    for _, job in evidence.jobs():
        for number, attempt in enumerate(job.attempts, 1):
            end = attempt.ended
            if end is None or not end["actor"].startswith("worker:"):
                continue
            op = _OPS.get(end["kind"])
            made = reports.get((job.job_id, number), set())
            hold(
                op in made or (op is None and bool(made)),
                "R9",
                f"#{end['seq']}: {job.job_id}, attempt {number}, ended by {end['kind']}, which its "
                "worker did not report",
            )


def _judge_silence(evidence: Evidence) -> None:
    """R10, where nothing else than the network and workers keeps the engine from seeing it."""
    arrivals = {name: sorted(ats) for name, ats in evidence.journal.arrivals.items()}
    for ledger, job in evidence.jobs():
        lease_s = job.definition.get("leaseUs", 30_000_000) / 1_000_000
        for attempt in job.attempts:
            worker_id, end = attempt.started.get("worker"), attempt.ended
            if worker_id is None or end is None:
                continue
            since = ledger.durable_at(attempt.started["seq"])
            until = ledger.durable_at(end["seq"])
            ats = arrivals.get(worker_id, [])
            heard = ats[bisect_right(ats, since) : bisect_left(ats, until)]
            for before, after in pairwise([since, *heard, until]):
                hold(
                    after - before <= lease_s + _FOUND_S
                    or not evidence.is_calm(since, after, "store.", "crash.engine", "crash.actor"),
                    "R10",
                    f"attempt {attempt.started['attempt']} of {job.job_id} was held from "
                    f"{before:.3f} to {after:.3f} without a word of {worker_id}",
                )


def _judge_drains(evidence: Evidence) -> None:
    asked = {_reference(line) for line in evidence.journal.said if line.message["op"] == "drain"}
    drained = set[tuple[str, int]]()
    for heard in evidence.journal.heard:
        connection = (heard.worker_id, heard.connection)
        if heard.message["op"] == "ack" and _reference(heard) in asked:
            drained.add(connection)
        elif heard.message["op"] == "lease":
            told = f"{heard.worker_id} was granted {heard.message['leaseId']} behind its drain"
            hold(connection not in drained, "R11", told)


def _reference(line: Said | Heard) -> tuple[str, int, Any]:
    return line.worker_id, line.connection, line.message.get("ref")
