"""Blackouts: calendars of windows in which nothing new starts."""

from typing import Annotated, Final, cast

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.blackout import Blackout, BlackoutScope, preview
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_collection import ControlCollection
from jobengine.http.control_views import blackout_view, calendar_of, control_in, kept
from jobengine.http.controls import require
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoQuery
from jobengine.http.route_shapes import MISSING, reading
from jobengine.wire.blackouts import (
    BlackoutPatch,
    BlackoutPreview,
    BlackoutRequest,
    BlackoutView,
    BlackoutWindow,
)

__all__ = ["ROUTES", "PreviewQuery"]


BLACKOUTS: Final = ControlCollection(
    kind="blackout", scope=Scope.OPERATE, shown=BlackoutView, view=blackout_view
)


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
    return await BLACKOUTS.create(call, name, blackout)


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

    return await BLACKOUTS.update(call, changed)


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


ROUTES: Final = (
    *BLACKOUTS.routes_of_all(
        create_blackout,
        BlackoutRequest,
        summary="Say when nothing starts in the tenant, a source or a job type",
    ),
    *BLACKOUTS.routes_of_one(
        update_blackout,
        BlackoutPatch,
        show_summary="Show one blackout",
        update_summary="Change a blackout by a JSON merge patch",
        delete_summary="Take a blackout away that nothing waits at",
    ),
    reading(
        "/blackouts/{blackoutId}/preview",
        "previewBlackout",
        "Show the next windows of a blackout",
        preview_blackout,
        BlackoutPreview,
        query=PreviewQuery,
        errors=MISSING,
    ),
)
