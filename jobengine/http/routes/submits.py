"""Creating jobs: one, or up to 10,000 in one commit.

I1  A bulk body costs one decode; only a body with a bad item is taken apart, item by item.
I2  One item that cannot be a job is an outcome of its own and spoils no other (`rejected`).
I3  A large bulk lets other tasks run every `_STRIDE` jobs.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import attrs
import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.records import NewJob
from jobengine.http.answer import JSON, Answer
from jobengine.http.errors import refused_by_wire
from jobengine.http.rendering import bulk_answer, job_view, json_answer
from jobengine.http.route import BASE, Call, NoQuery, RawBody, Route
from jobengine.messages.answers import (
    OutcomeFacts,
    RefusalFacts,
    SubmitFacts,
    decode_submit_facts,
    submit_facts,
)
from jobengine.messages.lease_shard import SubmitAnswer
from jobengine.wire import refusal as wire
from jobengine.wire.jobs import (
    BULK_ITEMS_MAX,
    BulkAnswer,
    JobRequest,
    JobView,
    decode_bulk,
)
from jobengine.wire.translate import JobTranslator

__all__ = ["NDJSON", "ROUTES"]

NDJSON: Final = "application/x-ndjson"

_STRIDE: Final = 64
_requests: Final = msgspec.json.Decoder(list[JobRequest])
_request: Final = msgspec.json.Decoder(JobRequest)


async def create_job(call: Call[NoQuery, JobRequest]) -> Answer:
    job = _translator(call).new_job(call.body, call.front.gateway.new_job_ids(1)[0])
    answer = await call.front.gateway.submit(call.tenant_id, call.actor, [job], call.claim)
    facts = _facts(answer)
    outcome = facts.outcomes[0]
    if outcome.refusal is not None:
        raise RefusedError(outcome.refusal.refusal())
    # A job in an answer is always there: an outcome without a refusal names one.
    assert facts.job is not None
    return json_answer(
        job_view(facts.job),
        200 if answer.replayed or outcome.outcome == "existing" else 201,
        replayed=answer.replayed,
        X_JobEngine_Backlog=str(answer.backlog),
        Location=f"{BASE}/jobs/{facts.job.job_id}",
    )


async def create_jobs(call: Call[NoQuery, RawBody]) -> Answer:
    requests = _decode(call.body)
    outcomes: list[OutcomeFacts | None] = [None] * len(requests)
    jobs: list[NewJob] = []
    ids = call.front.gateway.new_job_ids(len(requests))
    translator = _translator(call)
    for index, request in enumerate(requests):
        if index % _STRIDE == _STRIDE - 1:
            await trio.lowlevel.checkpoint()
        if isinstance(request, wire.Refusal):
            outcomes[index] = _rejected(refused_by_wire(request))
            continue
        try:
            jobs.append(translator.new_job(request, ids[index]))
        except RefusedError as error:
            outcomes[index] = _rejected(error.refusal)
    replayed, told = False, {}
    if jobs:
        answer = await call.front.gateway.submit(call.tenant_id, call.actor, jobs, call.claim)
        replayed, told = answer.replayed, {"X-JobEngine-Backlog": str(answer.backlog)}
        decided = iter(_facts(answer).outcomes)
        outcomes = [next(decided) if one is None else one for one in outcomes]
    shown = bulk_answer([one for one in outcomes if one is not None], replayed=replayed)
    return attrs.evolve(shown, headers={**shown.headers, **told})


def _translator(call: Call[NoQuery, Any]) -> JobTranslator:
    return JobTranslator(
        project_id=call.project_id or "",
        correlation_id=call.correlation_id,
        traceparent=call.traceparent,
        redactor=call.front.redactor,
    )


def _facts(answer: SubmitAnswer) -> SubmitFacts:
    if answer.stored is not None:
        return decode_submit_facts(answer.stored)
    return submit_facts(answer.outcomes, answer.jobs)


def _decode(body: RawBody) -> Sequence[JobRequest | wire.Refusal]:
    """One request or refusal an item; a body that has no items is refused whole."""
    ndjson = body.media_type == NDJSON
    requests: Sequence[JobRequest | wire.Refusal] | wire.Refusal
    try:
        text = body.data.decode()
        requests = _request.decode_lines(text) if ndjson else _requests.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        requests = decode_bulk(body.data, ndjson=ndjson)
    if isinstance(requests, wire.Refusal):
        raise RefusedError(refused_by_wire(requests))
    if len(requests) > BULK_ITEMS_MAX:
        raise RefusedError(
            Refusal(
                ErrorCode.BULK_TOO_LARGE,
                f"{len(requests)} jobs are more than {BULK_ITEMS_MAX}; send several requests",
                {"path": "$", "itemsMax": BULK_ITEMS_MAX},
            )
        )
    return requests


def _rejected(refusal: Refusal) -> OutcomeFacts:
    return OutcomeFacts(
        outcome="rejected",
        refusal=RefusalFacts(
            code=str(refusal.code), message=refusal.message, details=refusal.details
        ),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/jobs",
        name="createJob",
        summary="Create one job",
        handler=create_job,
        scopes=(Scope.SUBMIT,),
        body=JobRequest,
        answers={201: JobView, 200: JobView},
        answer_headers=("X-JobEngine-Backlog",),
        errors=(ErrorCode.BACKLOG_FULL,),
        direct=True,
        creates_work=True,
        location=True,
    ),
    Route(
        method="POST",
        path="/jobs:bulk",
        name="createJobs",
        summary="Create up to 10,000 jobs in one commit, with an outcome for each",
        handler=create_jobs,
        scopes=(Scope.SUBMIT,),
        body=Annotated[list[JobRequest], msgspec.Meta(max_length=BULK_ITEMS_MAX)],
        body_raw=True,
        consumes=(JSON, NDJSON),
        answers={200: BulkAnswer},
        answer_headers=("X-JobEngine-Backlog",),
        direct=True,
        creates_work=True,
        errors=(ErrorCode.BACKLOG_FULL, ErrorCode.BULK_TOO_LARGE),
    ),
)
