"""Dead letters: lists newest first, one with its evidence, and what becomes of it."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.change import DeadLetterRow, DeadLetterState
from jobengine.domain.entry import Entry
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.ids import lease_id
from jobengine.domain.instant import to_rfc3339
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.rendering import (
    artifact_view,
    dead_letter_view,
    history_items,
    job_view,
    json_answer,
    page_answer,
)
from jobengine.http.route import Call, NoBody, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, acting, reading
from jobengine.http.routes.jobs import Filter
from jobengine.http.routes.operations import ReplayRequest, changed_job, created_job
from jobengine.http.views import ClosingView, DeadLetterDetail
from jobengine.messages.lease_shard import DiscardDeadLetter, ReplayJob, RetryJob
from jobengine.store.port import DeadLetterFilter
from jobengine.wire.jobs import DeadLetterStateName, DeadLetterView, JobView, Page

__all__ = ["ROUTES", "DeadLetterList"]


_ID_CHARACTERS_MAX: Final = 128
_CLOSED_BY: Final = {
    DeadLetterState.DISCARDED: "job.dead_letter_discarded",
    DeadLetterState.RETRIED: "job.retried",
}
"""The entry about the letter's attempt that says who closed it; a replay is said by its copy."""


class DeadLetterList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold."""

    state: list[DeadLetterStateName] = msgspec.field(default_factory=list)
    job_type: Filter | None = None
    queue: Filter | None = None
    class_: Filter | None = msgspec.field(name="class", default=None)
    signature: Filter | None = None


async def list_dead_letters(call: Call[DeadLetterList, None]) -> Answer:
    query = call.query
    rows = await call.front.gateway.store.dead_letters(
        call.tenant_id,
        DeadLetterFilter(
            states=frozenset(query.state),
            job_type=query.job_type,
            queue=query.queue,
            class_=query.class_,
            signature=query.signature,
        ),
        pages.after(call, tuple[int, str]),
        query.page_size + 1,
    )
    page, last = pages.cut(rows, query.page_size, lambda row: (row.at, row.dead_letter_id))
    shown = await _of_project(call, page)
    return page_answer([dead_letter_view(row) for row in shown], pages.token(call, last))


async def show_dead_letter(call: Call[NoQuery, None]) -> Answer:
    return json_answer(await _detail(call, await _require(call)))


async def replay_dead_letter(call: Call[NoQuery, ReplayRequest]) -> Answer:
    row = await _require(call)
    new_job_id = call.front.gateway.new_job_ids(1)[0]
    return await created_job(
        call,
        lambda ask_id: ReplayJob(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            job_id=row.job_id,
            actor=call.actor,
            claim=call.claim,
            new_job_id=new_job_id,
            priority=call.body.priority,
            dead_letter_id=row.dead_letter_id,
        ),
    )


async def retry_dead_letter(call: Call[NoQuery, NoBody]) -> Answer:
    row = await _require(call)
    return await changed_job(
        call,
        lambda ask_id: RetryJob(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            job_id=row.job_id,
            actor=call.actor,
            claim=call.claim,
            dead_letter_id=row.dead_letter_id,
        ),
    )


async def discard_dead_letter(call: Call[NoQuery, NoBody]) -> Answer:
    """Answers with the dead letter. Discarded is final, so a repeat reads the same again."""
    row = await _require(call)
    answer = await call.front.gateway.operate(
        call.tenant_id,
        lambda ask_id: DiscardDeadLetter(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            job_id=row.job_id,
            actor=call.actor,
            claim=call.claim,
            dead_letter_id=row.dead_letter_id,
        ),
    )
    return json_answer(dead_letter_view(await _require(call)), replayed=answer.replayed)


async def _require(call: Call[Any, Any]) -> DeadLetterRow:
    dead_letter_id = call.path["deadLetterId"]
    row = None
    if len(dead_letter_id) <= _ID_CHARACTERS_MAX and dead_letter_id.isprintable():
        row = await call.front.gateway.store.dead_letter(call.tenant_id, dead_letter_id)
    if row is None:
        raise RefusedError(
            Refusal(
                ErrorCode.NOT_FOUND,
                f"no dead letter {dead_letter_id[:_ID_CHARACTERS_MAX]} here",
                {"path": "deadLetterId"},
            )
        )
    return row


async def _detail(call: Call[Any, Any], row: DeadLetterRow) -> DeadLetterDetail:
    store = call.front.gateway.store
    jobs = await store.jobs(call.tenant_id, [row.job_id])
    job = jobs[0] if jobs else None
    entries = await store.entries(call.tenant_id, job.seqs) if job is not None else ()
    artifacts = await store.artifacts(call.tenant_id, row.job_id)
    closed = await _closing(call, row, entries)
    base = dead_letter_view(row)
    return DeadLetterDetail(
        **{name: getattr(base, name) for name in base.__struct_fields__},
        worker_id=row.worker_id,
        replayed_as=row.replayed_as,
        closed=closed,
        job=None if job is None else job_view(job),
        history=history_items(entries),
        artifacts=[artifact_view(artifact) for artifact in artifacts],
    )


async def _closing(
    call: Call[Any, Any], row: DeadLetterRow, entries: Sequence[Entry]
) -> ClosingView | None:
    """Who closed the letter, as the ledger has it; None while it is open, and past retention."""
    if row.state == DeadLetterState.REPLAYED:
        store = call.front.gateway.store
        copies = await store.jobs(call.tenant_id, [row.replayed_as or ""])
        entries = [
            entry for copy in copies for entry in await store.entries(call.tenant_id, copy.seqs[:1])
        ]
    else:
        kind = _CLOSED_BY.get(row.state)
        entries = [
            entry
            for entry in entries
            if entry.kind == kind and lease_id(entry.job, entry.attempt) == row.dead_letter_id
        ]
    if not entries:
        return None
    entry = entries[0]
    return ClosingView(
        at=to_rfc3339(entry.at),
        actor=entry.actor,
        reason_given=entry.reason_given,
        ticket=entry.ticket,
    )


async def _of_project(
    call: Call[Any, Any], rows: Sequence[DeadLetterRow]
) -> Sequence[DeadLetterRow]:
    """Those whose job is of the project that the request is narrowed to."""
    if call.project_id is None or not rows:
        return rows
    job_ids = sorted({row.job_id for row in rows})
    jobs = await call.front.gateway.store.jobs(call.tenant_id, job_ids)
    wanted = {job.job_id for job in jobs if job.definition.project_id == call.project_id}
    return [row for row in rows if row.job_id in wanted]


_ERRORS = (ErrorCode.NOT_FOUND, ErrorCode.DEAD_LETTER_CLOSED, ErrorCode.ILLEGAL_TRANSITION)

ROUTES: Final = (
    reading(
        "/deadletter",
        "listDeadLetters",
        "List dead letters, newest first",
        list_dead_letters,
        Page[DeadLetterView],
        query=DeadLetterList,
    ),
    reading(
        "/deadletter/{deadLetterId}",
        "getDeadLetter",
        "Show a dead letter with its job, history and artifacts",
        show_dead_letter,
        DeadLetterDetail,
        errors=MISSING,
    ),
    Route(
        method="POST",
        path="/deadletter/{deadLetterId}:replay",
        name="replayDeadLetter",
        summary="Create a copy of the failed job",
        handler=replay_dead_letter,
        scopes=(Scope.OPERATE,),
        body=ReplayRequest,
        body_optional=True,
        answers={201: JobView, 200: JobView},
        location=True,
        errors=_ERRORS,
    ),
    acting(
        "/deadletter/{deadLetterId}:retry",
        "retryDeadLetter",
        "Schedule the failed job itself again",
        retry_dead_letter,
        JobView,
        errors=(*_ERRORS, ErrorCode.UNIQUE_KEY_TAKEN),
    ),
    acting(
        "/deadletter/{deadLetterId}:discard",
        "discardDeadLetter",
        "Close a dead letter and run nothing",
        discard_dead_letter,
        DeadLetterView,
        errors=_ERRORS,
    ),
)
