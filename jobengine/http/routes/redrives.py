"""Redrives of the dead letters that match: begun, shown, paused, resumed, stopped.

A redrive is of the whole tenant. One that is narrowed by X-Stella-Project is refused, for it would
replay more than was asked for.
"""

from typing import Any, Final, cast

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.domain.redrive import UNFINISHED, Redrive, RedriveOrder, RedriveState, refuse_redrive
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.errors import invalid
from jobengine.http.first_answers import first_answer
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.http.routes.letter_counts import LETTERS_MAX, open_letters
from jobengine.messages.redriver import ChangeRedrive, RedriveAnswer, StartRedrive
from jobengine.wire.jobs import Page
from jobengine.wire.operating import (
    RedriveFilter,
    RedriveRequest,
    RedriveView,
)

__all__ = ["ROUTES"]

_ID_CHARACTERS_MAX: Final = 64
_redrive: Final = msgspec.json.Decoder(Redrive)


async def start_redrive(call: Call[NoQuery, RedriveRequest]) -> Answer:
    if call.project_id is not None:
        raise invalid("X-Stella-Project", "a redrive is of the whole tenant; leave it out")
    body, gateway = call.body, call.front.gateway
    wanted = open_letters(body.filter)
    for name, text in msgspec.to_builtins(body.filter).items():
        if not text.isprintable():
            raise invalid(f"filter.{name}", "holds characters that cannot be shown")
    found = await gateway.store.dead_letter_groups(call.tenant_id, wanted, LETTERS_MAX, 1)
    order = RedriveOrder(
        class_=body.filter.class_,
        created_at=gateway.clock.moment().at,
        created_by=call.actor.subject,
        job_type=body.filter.job_type,
        letters_max=body.max,
        matched=found.letters,
        queue=body.filter.queue,
        reason=call.actor.reason,
        signature=body.filter.signature,
        spacing_us=round(SECOND / body.per_second),
        ticket=call.actor.ticket,
    )
    redrive_id = gateway.new_id()
    answer = await gateway.redrive(
        call.tenant_id,
        lambda ask_id: StartRedrive(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            redrive_id=redrive_id,
            order=order,
            claim=call.claim,
        ),
    )
    assert answer.redrive is not None
    return json_answer(
        redrive_view(answer.redrive),
        200 if answer.replayed else 201,
        replayed=answer.replayed,
        Location=f"{BASE}/deadletter/redrives/{answer.redrive.redrive_id}",
    )


async def list_redrives(call: Call[Paging, None]) -> Answer:
    size = call.query.page_size
    rows = await call.front.gateway.store.redrives(call.tenant_id, pages.after(call, str), size + 1)
    kept, cursor = pages.cut(rows, size, lambda row: row.redrive_id)
    return page_answer([redrive_view(row) for row in kept], pages.token(call, cursor))


async def show_redrive(call: Call[NoQuery, None]) -> Answer:
    return json_answer(redrive_view(await _require(call)))


async def pause_redrive(call: Call[NoQuery, NoBody]) -> Answer:
    return await _change(call, RedriveState.PAUSED)


async def resume_redrive(call: Call[NoQuery, NoBody]) -> Answer:
    return await _change(call, RedriveState.RUNNING)


async def stop_redrive(call: Call[NoQuery, NoBody]) -> Answer:
    return await _change(call, RedriveState.STOPPED)


async def _change(call: Call[NoQuery, NoBody], target: RedriveState) -> Answer:
    """What is asked of a redrive that has ended is refused with its state, which is final."""
    redrive = await _require(call)
    first = await first_answer(call)
    if first is not None:
        return json_answer(redrive_view(_redrive.decode(first)), replayed=True)
    answer = RedriveAnswer(redrive=None)
    if redrive.state in UNFINISHED:
        answer = await call.front.gateway.redrive(
            call.tenant_id,
            lambda ask_id: ChangeRedrive(
                ask_id=ask_id,
                tenant_id=call.tenant_id,
                actor=call.actor,
                redrive_id=redrive.redrive_id,
                target=target,
                claim=call.claim,
            ),
        )
    if answer.redrive is None:
        refusal = refuse_redrive(await _require(call), target)
        assert refusal is not None
        raise RefusedError(refusal)
    return json_answer(redrive_view(answer.redrive), replayed=answer.replayed)


async def _require(call: Call[Any, Any]) -> Redrive:
    redrive_id = call.path["redriveId"]
    row = None
    if len(redrive_id) <= _ID_CHARACTERS_MAX and redrive_id.isprintable():
        row = await call.front.gateway.store.redrive(call.tenant_id, redrive_id)
    if row is None:
        message = f"no redrive {redrive_id[:_ID_CHARACTERS_MAX]} here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "redriveId"}))
    return row


def redrive_view(redrive: Redrive) -> RedriveView:
    order = redrive.order
    return RedriveView(
        redrive_id=redrive.redrive_id,
        tenant_id=redrive.tenant_id,
        state=cast(Any, str(redrive.state)),
        filter=RedriveFilter(
            job_type=order.job_type,
            queue=order.queue,
            class_=order.class_,
            signature=order.signature,
        ),
        per_second=round(SECOND / order.spacing_us, 3),
        max=order.letters_max,
        matched=order.matched,
        done=redrive.replayed,
        failed=redrive.failed,
        left=redrive.left,
        last_error=redrive.last_error,
        created_at=to_rfc3339(order.created_at),
        created_by=order.created_by,
        reason=order.reason,
        ticket=order.ticket,
        changed_at=to_rfc3339(redrive.changed_at),
    )


def _change_route(verb: str, summary: str, handler: Any) -> Route:
    return acting(
        f"/deadletter/redrives/{{redriveId}}:{verb}",
        f"{verb}Redrive",
        summary,
        handler,
        RedriveView,
        errors=(*MISSING, ErrorCode.ILLEGAL_TRANSITION, *REPEATED),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/deadletter:redrive",
        name="redriveDeadLetters",
        summary="Replay the open dead letters that match, newest first, at a rate",
        handler=start_redrive,
        scopes=(Scope.OPERATE,),
        body=RedriveRequest,
        answers={201: RedriveView, 200: RedriveView},
        location=True,
        errors=(ErrorCode.CAPACITY_EXCEEDED, *REPEATED),
    ),
    reading(
        "/deadletter/redrives",
        "listRedrives",
        "List redrives, newest first",
        list_redrives,
        Page[RedriveView],
        query=Paging,
    ),
    reading(
        "/deadletter/redrives/{redriveId}",
        "getRedrive",
        "Show how far a redrive has come",
        show_redrive,
        RedriveView,
        errors=MISSING,
    ),
    _change_route("pause", "Let a redrive rest; what has been replayed stays", pause_redrive),
    _change_route("resume", "Let a paused redrive go on", resume_redrive),
    _change_route("stop", "End a redrive; what has been replayed stays", stop_redrive),
)
