"""What users asked for and were answered.

R4  What anybody is told of is in the ledger, and was there before it was told.
R5  A request with a key has one effect and, however often it is asked, one answer.
R6  A job is created as it was asked for; a cancel that was accepted is in the ledger.
R29 A unique key names no job that had ended before the request.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from jobengine.testing.sim.audited import FINAL, AuditedJob, AuditedLedger, hold
from jobengine.testing.sim.journal import Answered, Asked
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["digest_of", "judge_requests"]

_SAME: Final = (
    "jobType",
    "priority",
    "maxRetries",
    "sourceId",
    "uniqueKey",
    "concurrencyKey",
    "concurrencyLimit",
    "hold",
)
"""Fields of a job that the ledger names as its user does."""

_DEFAULTS: Final = {"priority": 5, "maxRetries": 3}


def judge_requests(evidence: Evidence) -> None:
    created = Counter(
        (ledger.tenant_id, job.digest)
        for ledger, job in evidence.jobs()
        if job.definition.get("replayOf") is None
    )
    asked_by_number: dict[int, Asked] = {}
    for asked in evidence.journal.asked:
        asked_by_number.setdefault(asked.number, asked)
    _judge_holders(evidence, asked_by_number)
    for asked in asked_by_number.values():
        if asked.verb == "submit" and asked.key is not None:
            _judge_effect(asked, created)
    answers: dict[tuple[str, str], Any] = {}
    for answered in evidence.journal.answered:
        if answered.refusal is None:
            _judge_answer(evidence, asked_by_number[answered.number], answered, answers)


def _judge_effect(asked: Asked, created: Mapping[tuple[str, str], int]) -> None:
    for job in asked.about["jobs"]:
        times = created[asked.tenant_id, digest_of(job["payload"])]
        hold(times <= 1, "R5", f"request {asked.number} created one job {times} times")


def _judge_answer(
    evidence: Evidence, asked: Asked, answered: Answered, answers: dict[tuple[str, str], Any]
) -> None:
    answer = answered.answer
    if asked.key is not None:
        told = answers.setdefault((asked.tenant_id, asked.key), answer.get("outcomes"))
        same = told == answer.get("outcomes")
        hold(same, "R5", f"request {asked.number}: its key had another answer before")
    if asked.verb == "submit":
        for wanted, told in zip(asked.about["jobs"], answer["outcomes"], strict=True):
            if told["refusal"] is None:
                job = _durable(evidence, asked, answered, told["jobId"])
                _judge_created(asked, wanted, told["outcome"], job)
    elif asked.verb == "run":
        for job_id in answer["jobIds"]:
            _durable(evidence, asked, answered, job_id)
    elif asked.verb == "cancel":
        job = _durable(evidence, asked, answered, asked.about["jobId"])
        is_told = job.cancel_asked or job.state in FINAL
        hold(is_told, "R6", f"request {asked.number}: cancel of {job.job_id} left no trace")


def _durable(evidence: Evidence, asked: Asked, answered: Answered, job_id: str) -> AuditedJob:
    job = evidence.job(asked.tenant_id, job_id)
    durable_at = evidence.ledgers[asked.tenant_id].durable_at(job.created["seq"])
    hold(durable_at <= answered.at, "R4", f"{job_id} was told of before its commit")
    return job


def _judge_created(asked: Asked, wanted: Mapping[str, Any], outcome: str, job: AuditedJob) -> None:
    number = asked.number
    if outcome == "existing":
        same = job.definition.get("uniqueKey") == wanted.get("uniqueKey")
        hold(same, "R6", f"request {number}: {job.job_id} has another unique key")
        return
    made = job.definition
    same = job.digest == digest_of(wanted["payload"])
    hold(same, "R6", f"{job.job_id} is another job than request {number} asked for")
    for name in _SAME:
        default = _DEFAULTS.get(name)
        same = made.get(name, default) == wanted.get(name, default)
        hold(same, "R6", f"{job.job_id} has another {name} than request {number} asked for")


def _judge_holders(evidence: Evidence, asked_by_number: Mapping[int, Asked]) -> None:
    """R29. A request under an idempotency key began when that key was first asked with."""
    first: dict[tuple[str, str | int], float] = {}
    for asked in asked_by_number.values():
        first.setdefault((asked.tenant_id, asked.key or asked.number), asked.at)
    for answered in evidence.journal.answered:
        asked = asked_by_number[answered.number]
        if answered.refusal is not None or asked.verb != "submit":
            continue
        since = first[asked.tenant_id, asked.key or asked.number]
        for told in answered.answer["outcomes"]:
            if told["outcome"] == "existing":
                job = evidence.job(asked.tenant_id, told["jobId"])
                ledger = evidence.ledgers[asked.tenant_id]
                over = _was_over(ledger, job, since, answered.at)
                hold(not over, "R29", f"request {asked.number} names {job.job_id}, which had ended")


def _was_over(ledger: AuditedLedger, job: AuditedJob, since: float, until: float) -> bool:
    """Whether a job had given up its key before a span of time, and took it not again within it."""
    if job.definition.get("uniqueScope") == "window":
        return False
    steps = [
        (ledger.durable_at(entry["seq"]), entry["to"])
        for entry in job.entries
        if entry.get("to") is not None and ledger.durable_at(entry["seq"]) <= until
    ]
    at, state = steps[-1] if steps else (until, None)
    return state in FINAL and at < since


def digest_of(payload: Any) -> str:
    """As the specification has it: sha256 over canonical JSON; these payloads hold no floats."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
