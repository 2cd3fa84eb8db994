"""Creating jobs: one, or up to 10,000 in one commit.

I1  Items that differ in their payloads alone are not decoded one by one.
I2  One item that cannot be a job is an outcome of its own and spoils no other (`rejected`).
I3  A large bulk lets other tasks run about every millisecond.
"""

from collections.abc import Iterator, Sequence
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
from jobengine.wire.job_texts import bulk_texts, in_strides
from jobengine.wire.jobs import BULK_ITEMS_MAX, BulkAnswer, JobRequest, JobView
from jobengine.wire.translate import JobTranslator

__all__ = ["NDJSON", "ROUTES"]

NDJSON: Final = "application/x-ndjson"

_STRIDE: Final = 64
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
    translated = await _translate(call)
    jobs = [job for job in translated if type(job) is NewJob]
    replayed, told = False, {}
    decided: Iterator[OutcomeFacts] = iter(())
    if jobs:
        answer = await call.front.gateway.submit(call.tenant_id, call.actor, jobs, call.claim)
        replayed, told = answer.replayed, {"X-JobEngine-Backlog": str(answer.backlog)}
        decided = iter(_facts(answer).outcomes)
    outcomes = [_rejected(job) if type(job) is Refusal else next(decided) for job in translated]
    shown = bulk_answer(outcomes, replayed=replayed)
    return attrs.evolve(shown, headers={**shown.headers, **told})


async def _translate(call: Call[NoQuery, RawBody]) -> Sequence[NewJob | Refusal]:
    """A job an item, or why it is none (I2); a body that has no items is refused whole."""
    ndjson = call.body.media_type == NDJSON
    texts = bulk_texts(call.body.data, ndjson=ndjson)
    if isinstance(texts, wire.Refusal):
        requests = _read_whole(call.body) if ndjson else None
        if requests is None:
            raise RefusedError(refused_by_wire(texts))
        return await _of_requests(call, requests)
    jobs, all_read = await _of_texts(call, texts)
    # Values do not have to lie as lines do, as long as all of them are requests.
    if ndjson and not all_read and (requests := _read_whole(call.body)) is not None:
        return await _of_requests(call, requests)
    return jobs


async def _of_texts(
    call: Call[NoQuery, RawBody], texts: Sequence[bytes]
) -> tuple[list[NewJob | Refusal], bool]:
    """Also whether every text is a request."""
    unread = 0

    def refused(refusal: wire.Refusal) -> Refusal:
        nonlocal unread
        unread += 1
        return refused_by_wire(refusal)

    translator, ids = _translator(call), call.front.gateway.new_job_ids(len(texts))
    jobs: list[NewJob | Refusal] = []
    for stride in in_strides(texts):
        if jobs:
            await trio.lowlevel.checkpoint()
        jobs += translator.new_jobs(texts[stride], ids[stride], refused)
    return jobs, not unread


async def _of_requests(
    call: Call[NoQuery, RawBody], requests: Sequence[JobRequest]
) -> list[NewJob | Refusal]:
    translator, ids = _translator(call), call.front.gateway.new_job_ids(len(requests))
    jobs: list[NewJob | Refusal] = []
    for index, request in enumerate(requests):
        if index % _STRIDE == _STRIDE - 1:
            await trio.lowlevel.checkpoint()
        try:
            jobs.append(translator.new_job(request, ids[index]))
        except RefusedError as error:
            jobs.append(error.refusal)
    return jobs


def _read_whole(body: RawBody) -> Sequence[JobRequest] | None:
    """All values in one decode; None when one of them is no request, or there may be too many: a
    value has a brace at least."""
    if body.data.count(b"{") > BULK_ITEMS_MAX:
        return None
    try:
        return _request.decode_lines(body.data.decode())
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


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
        errors=(ErrorCode.BACKLOG_FULL, ErrorCode.CAPACITY_EXCEEDED),
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
        errors=(ErrorCode.BACKLOG_FULL, ErrorCode.BULK_TOO_LARGE, ErrorCode.CAPACITY_EXCEEDED),
    ),
)
