"""Operations on one job: cancel, retry, replay, prioritise, release.

Each answers with the changed job.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import Answer
from jobengine.http.rendering import job_view, json_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Route
from jobengine.http.route_shapes import acting
from jobengine.http.routes.jobs import job_id_in
from jobengine.messages.answers import JobFacts, decode_operate_facts, job_facts
from jobengine.messages.lease_shard import (
    CancelJob,
    OperateAnswer,
    Operation,
    PrioritizeJob,
    ReleaseJob,
    ReplayJob,
    RetryJob,
)
from jobengine.wire.jobs import JobView
from jobengine.wire.operating import PrioritizeRequest

__all__ = ["ROUTES", "ReplayRequest", "changed_job", "created_job"]


class ReplayRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The priority of the new job."""

    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 8


async def changed_job(call: Call[Any, Any], build: Callable[[int], Operation]) -> Answer:
    """Carry out an operation and answer with the job as it then is."""
    answer = await call.front.gateway.operate(call.tenant_id, build)
    return json_answer(job_view(_facts(answer)), replayed=answer.replayed)


async def created_job(call: Call[Any, Any], build: Callable[[int], Operation]) -> Answer:
    """Carry out an operation that makes a new job, and answer with that."""
    answer = await call.front.gateway.operate(call.tenant_id, build)
    job = _facts(answer)
    return json_answer(
        job_view(job),
        200 if answer.replayed else 201,
        replayed=answer.replayed,
        Location=f"{BASE}/jobs/{job.job_id}",
    )


async def cancel_job(call: Call[NoQuery, NoBody]) -> Answer:
    return await changed_job(call, _builder(call, CancelJob))


async def retry_job(call: Call[NoQuery, NoBody]) -> Answer:
    return await changed_job(call, _builder(call, RetryJob))


async def release_job(call: Call[NoQuery, NoBody]) -> Answer:
    return await changed_job(call, _builder(call, ReleaseJob))


async def replay_job(call: Call[NoQuery, ReplayRequest]) -> Answer:
    job_id = job_id_in(call)
    new_job_id = call.front.gateway.new_job_ids(1)[0]
    return await created_job(
        call,
        lambda ask_id: ReplayJob(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            job_id=job_id,
            actor=call.actor,
            claim=call.claim,
            new_job_id=new_job_id,
            priority=call.body.priority,
        ),
    )


async def prioritize_job(call: Call[NoQuery, PrioritizeRequest]) -> Answer:
    job_id = job_id_in(call)
    return await changed_job(
        call,
        lambda ask_id: PrioritizeJob(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            job_id=job_id,
            actor=call.actor,
            claim=call.claim,
            priority=call.body.priority,
        ),
    )


def _builder(
    call: Call[Any, Any], kind: type[CancelJob] | type[RetryJob] | type[ReleaseJob]
) -> Callable[[int], Operation]:
    job_id = job_id_in(call)
    return lambda ask_id: kind(
        ask_id=ask_id,
        tenant_id=call.tenant_id,
        job_id=job_id,
        actor=call.actor,
        claim=call.claim,
    )


def _facts(answer: OperateAnswer) -> JobFacts:
    if answer.stored is not None:
        return decode_operate_facts(answer.stored).job
    # An operation that was carried out names its job; what could not be raised a refusal.
    assert answer.job is not None
    return job_facts(answer.job)


_ERRORS = (ErrorCode.NOT_FOUND, ErrorCode.ILLEGAL_TRANSITION)

ROUTES: Final = (
    acting(
        "/jobs/{jobId}:cancel",
        "cancelJob",
        "Cancel a job; a running one is cancelled once its worker has stopped",
        cancel_job,
        JobView,
        errors=_ERRORS,
    ),
    acting(
        "/jobs/{jobId}:retry",
        "retryJob",
        "Schedule a failed job again",
        retry_job,
        JobView,
        errors=(*_ERRORS, ErrorCode.UNIQUE_KEY_TAKEN),
    ),
    Route(
        method="POST",
        path="/jobs/{jobId}:replay",
        name="replayJob",
        summary="Create a copy of a finished job",
        handler=replay_job,
        scopes=(Scope.OPERATE,),
        body=ReplayRequest,
        body_optional=True,
        answers={201: JobView, 200: JobView},
        location=True,
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/jobs/{jobId}:prioritize",
        name="prioritizeJob",
        summary="Give a waiting job another priority",
        handler=prioritize_job,
        scopes=(Scope.OPERATE,),
        body=PrioritizeRequest,
        answers={200: JobView},
        errors=_ERRORS,
    ),
    # Whoever may create a job held may also let it go, so a producer needs no operator for it.
    acting(
        "/jobs/{jobId}:release",
        "releaseJob",
        "Let go of a job that was created held",
        release_job,
        JobView,
        scopes=(Scope.SUBMIT, Scope.OPERATE),
        errors=_ERRORS,
    ),
)
