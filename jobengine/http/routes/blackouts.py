"""Blackouts: calendars of windows in which nothing new starts."""

from typing import Annotated, Final, cast

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.blackout import Blackout, BlackoutScope, preview
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import blackout_view, calendar_of, control_in, kept
from jobengine.http.controls import (
    CHANGED,
    CREATED,
    IF_MATCH,
    MERGE_PATCH,
    change,
    controls_page,
    modify,
    remove,
    require,
    tag,
)
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoQuery, Paging, Route
from jobengine.http.routes.sources import RemoveQuery
from jobengine.wire.admission import (
    BlackoutPatch,
    BlackoutPreview,
    BlackoutRequest,
    BlackoutView,
    BlackoutWindow,
    Removed,
)
from jobengine.wire.jobs import Page

__all__ = ["ROUTES", "PreviewQuery"]


class PreviewQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How many windows."""

    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10


async def create_blackout(call: Call[NoQuery, BlackoutRequest]) -> Answer:
    body = call.body
    name = body.blackout_id or call.front.gateway.new_id()
    said = body.reason if body.reason is not None else call.actor.reason or ""
    blackout = Blackout(
        blackout_id=name,
        calendar=calendar_of(body.calendar),
        drain=body.drain,
        key=body.key or "",
        reason=call.front.redactor.text(said),
        scope=BlackoutScope(body.scope),
    )
    done = await change(call, "blackout.created", "blackout", name, blackout, expect="absent")
    return json_answer(
        blackout_view(done.facts),
        200 if done.replayed else 201,
        replayed=done.replayed,
        Location=f"{BASE}/blackouts/{done.facts.name}",
        ETag=tag(done.facts.revision),
    )


async def list_blackouts(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "blackout")
    return page_answer([blackout_view(row) for row in rows], token)


async def show_blackout(call: Call[NoQuery, None]) -> Answer:
    row = await require(call, "blackout", "blackoutId")
    return json_answer(blackout_view(row), ETag=tag(row.revision))


async def update_blackout(call: Call[NoQuery, BlackoutPatch]) -> Answer:
    patch = call.body
    asked = kept(patch.calendar, None)
    calendar = None if asked is None else calendar_of(asked)

    def changed(present: Blackout) -> Blackout:
        return msgspec.structs.replace(
            present,
            calendar=present.calendar if calendar is None else calendar,
            drain=kept(patch.drain, present.drain) or False,
            reason=call.front.redactor.text(kept(patch.reason, present.reason)),
        )

    done = await modify(call, "blackout.updated", "blackout", "blackoutId", changed)
    return json_answer(blackout_view(done.facts), ETag=tag(done.facts.revision))


async def delete_blackout(call: Call[RemoveQuery, None]) -> Answer:
    return await remove(call, "blackout.deleted", "blackout", "blackoutId", force=call.query.force)


async def preview_blackout(call: Call[PreviewQuery, None]) -> Answer:
    row = await require(call, "blackout", "blackoutId")
    calendar = cast(Blackout, control_in(row)).calendar
    now_at = call.front.gateway.clock.moment().at
    # Sparse rules of a long calendar are looked for far ahead; others go on meanwhile.
    windows = await trio.to_thread.run_sync(preview, calendar, now_at, call.query.count)
    return json_answer(
        BlackoutPreview(
            blackout_id=row.name,
            in_force=bool(windows) and windows[0].start_at <= now_at,
            windows=[
                BlackoutWindow(start_at=to_rfc3339(start_at), end_at=to_rfc3339(end_at))
                for start_at, end_at in windows
            ],
        )
    )


_READ = (Scope.READ,)
_OPERATE = (Scope.OPERATE,)
_MISSING = (ErrorCode.NOT_FOUND,)

ROUTES: Final = (
    Route(
        method="POST",
        path="/blackouts",
        name="createBlackout",
        summary="Say when nothing starts in the tenant, a source or a job type",
        handler=create_blackout,
        scopes=_OPERATE,
        body=BlackoutRequest,
        answers={201: BlackoutView, 200: BlackoutView},
        answer_headers=("ETag",),
        location=True,
        errors=CREATED,
    ),
    Route(
        method="GET",
        path="/blackouts",
        name="listBlackouts",
        summary="List the blackouts, by id",
        handler=list_blackouts,
        scopes=_READ,
        query=Paging,
        answers={200: Page[BlackoutView]},
    ),
    Route(
        method="GET",
        path="/blackouts/{blackoutId}",
        name="getBlackout",
        summary="Show one blackout",
        handler=show_blackout,
        scopes=_READ,
        answers={200: BlackoutView},
        answer_headers=("ETag",),
        errors=_MISSING,
    ),
    Route(
        method="GET",
        path="/blackouts/{blackoutId}/preview",
        name="previewBlackout",
        summary="Show the next windows of a blackout",
        handler=preview_blackout,
        scopes=_READ,
        query=PreviewQuery,
        answers={200: BlackoutPreview},
        errors=_MISSING,
    ),
    Route(
        method="PATCH",
        path="/blackouts/{blackoutId}",
        name="updateBlackout",
        summary="Change a blackout by a JSON merge patch",
        handler=update_blackout,
        scopes=_OPERATE,
        body=BlackoutPatch,
        consumes=MERGE_PATCH,
        headers=(IF_MATCH,),
        answers={200: BlackoutView},
        answer_headers=("ETag",),
        errors=CHANGED,
    ),
    Route(
        method="DELETE",
        path="/blackouts/{blackoutId}",
        name="deleteBlackout",
        summary="Take a blackout away that nothing waits at",
        handler=delete_blackout,
        scopes=_OPERATE,
        query=RemoveQuery,
        headers=(IF_MATCH,),
        answers={200: Removed},
        errors=(*CHANGED, ErrorCode.IN_USE),
    ),
)
