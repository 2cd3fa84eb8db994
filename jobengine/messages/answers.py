"""The facts of an answer: all that a door needs to say again what it said the first time.

A request under an idempotency key is answered twice from one value: the facts that the shard
stores in the commit of the effect. A door renders every answer from facts, so a repeat is the first
answer byte for byte, however the job has moved on meanwhile.

I1  Facts hold no reference to a live job: they are what was true at the commit.
I2  Facts of one submitted job hold the whole job; facts of many hold their outcomes only, because
    an answer to many names jobs and does not show them.
I3  ``decode(facts_of(x))`` renders as ``facts(x)`` does.

Texts of a job (definition, payload, result, error, progress) are canonical JSON and are kept as
text within the facts: whoever stores facts must keep their bytes (a ``jsonb`` column would not).

Not here: the HTTP form (``http/rendering.py``), when facts are stored (``core``).
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Job
from jobengine.messages.lease_shard import JobOutcome

__all__ = [
    "ABSENT",
    "ControlFacts",
    "JobFacts",
    "OperateFacts",
    "OutcomeFacts",
    "RefusalFacts",
    "SubmitFacts",
    "decode_operate_facts",
    "decode_submit_facts",
    "facts_of_operate",
    "facts_of_submit",
    "job_facts",
    "submit_facts",
]

ABSENT = msgspec.Raw(b"")
"""The text of what is not there; left out of stored facts, being the default itself."""


class _Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    pass


class JobFacts(_Facts, frozen=True, kw_only=True):
    """A job as it was at one commit. An empty text stands for one the job does not have."""

    job_id: str
    tenant_id: str
    definition: msgspec.Raw
    payload: msgspec.Raw
    state: str
    created_at: int
    reason: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    scheduled_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    cancel_requested_at: int | None = None
    result: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    progress: msgspec.Raw = ABSENT


class ControlFacts(_Facts, frozen=True, kw_only=True):
    """A control after its change, in canonical JSON; empty when it was taken away."""

    kind: str
    name: str
    revision: int
    changed_at: int
    control: msgspec.Raw = ABSENT


class RefusalFacts(_Facts, frozen=True, kw_only=True):
    code: str
    message: str
    details: dict[str, Any] = {}

    def refusal(self) -> Refusal:
        return Refusal(ErrorCode(self.code), self.message, self.details)


class OutcomeFacts(_Facts, frozen=True, kw_only=True):
    outcome: str
    job_id: str | None = None
    refusal: RefusalFacts | None = None


class SubmitFacts(_Facts, frozen=True, kw_only=True):
    """Outcomes in the order submitted; ``job`` is the job of a submit of one, where it has one."""

    outcomes: list[OutcomeFacts]
    job: JobFacts | None = None


class OperateFacts(_Facts, frozen=True, kw_only=True):
    """The changed job: the new one for a replay."""

    job: JobFacts


_encoder = msgspec.json.Encoder()
_submit = msgspec.json.Decoder(SubmitFacts)
_operate = msgspec.json.Decoder(OperateFacts)


def job_facts(job: Job) -> JobFacts:
    """What is true of a job now; later changes of ``job`` do not show."""
    return JobFacts(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        definition=msgspec.Raw(job.definition_json),
        payload=msgspec.Raw(job.payload),
        state=str(job.state),
        created_at=job.created_at,
        reason=job.reason,
        attempt=job.attempt,
        failures=job.failures,
        crashes=job.crashes,
        scheduled_at=job.scheduled_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        cancel_requested_at=job.cancel_requested_at,
        result=msgspec.Raw(job.result) if job.result else ABSENT,
        error=msgspec.Raw(job.error) if job.error else ABSENT,
        progress=msgspec.Raw(job.progress) if job.progress else ABSENT,
    )


def submit_facts(outcomes: Sequence[JobOutcome], jobs: Sequence[Job | None]) -> SubmitFacts:
    """Facts of a submit; ``jobs[i]`` is the job of ``outcomes[i]``, and is read for one only."""
    return SubmitFacts(
        outcomes=[_outcome(one) for one in outcomes],
        job=job_facts(jobs[0]) if len(outcomes) == 1 and jobs and jobs[0] is not None else None,
    )


def facts_of_submit(outcomes: Sequence[JobOutcome], jobs: Sequence[Job | None]) -> bytes:
    """The facts of a submit as JSON, for storing under its idempotency key."""
    return _encoder.encode(submit_facts(outcomes, jobs))


def facts_of_operate(job: Job) -> bytes:
    """The facts of an operation as JSON, for storing under its idempotency key."""
    return _encoder.encode(OperateFacts(job=job_facts(job)))


def decode_submit_facts(stored: bytes) -> SubmitFacts:
    return _submit.decode(stored)


def decode_operate_facts(stored: bytes) -> OperateFacts:
    return _operate.decode(stored)


def _outcome(one: JobOutcome) -> OutcomeFacts:
    refusal = one.refusal
    if refusal is None:
        return OutcomeFacts(outcome=one.outcome, job_id=one.job_id)
    return OutcomeFacts(
        outcome=one.outcome,
        job_id=one.job_id,
        refusal=RefusalFacts(
            code=str(refusal.code), message=refusal.message, details=refusal.details
        ),
    )
