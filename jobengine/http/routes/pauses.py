"""Pauses: the whole tenant or a queue lets nothing start until it is resumed."""

from typing import Any, Final, cast

from jobengine.domain.control import Pause
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import control_in
from jobengine.http.controls import controls_page, set_pause
from jobengine.http.errors import invalid
from jobengine.http.rendering import page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging
from jobengine.http.route_shapes import REPEATED, acting, reading
from jobengine.wire.controls import PauseView
from jobengine.wire.fields import is_name
from jobengine.wire.jobs import Page

__all__ = ["ROUTES", "queue_in"]


async def list_pauses(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "pause")
    items = []
    for row in rows:
        pause = cast(Pause, control_in(row))
        items.append(
            PauseView(
                scope=cast(Any, pause.scope),
                key=pause.key or None,
                paused=True,
                revision=row.revision,
                changed_at=to_rfc3339(row.at),
            )
        )
    return page_answer(items, token)


async def pause_tenant(call: Call[NoQuery, NoBody]) -> Answer:
    return await set_pause(call, "tenant", "", "pause.set", paused=True)


async def resume_tenant(call: Call[NoQuery, NoBody]) -> Answer:
    return await set_pause(call, "tenant", "", "pause.lifted", paused=False)


async def pause_queue(call: Call[NoQuery, NoBody]) -> Answer:
    return await set_pause(call, "queue", queue_in(call), "pause.set", paused=True)


async def resume_queue(call: Call[NoQuery, NoBody]) -> Answer:
    return await set_pause(call, "queue", queue_in(call), "pause.lifted", paused=False)


def queue_in(call: Call[Any, Any]) -> str:
    """The queue that the path names: any name that a job may give one."""
    queue = call.path["queue"]
    if not is_name(queue):
        raise invalid("queue", "is no name of a queue: 1 to 128 of letters, digits and . _ : -")
    return queue


ROUTES: Final = (
    reading(
        "/pauses",
        "listPauses",
        "List what is paused: the tenant, queues and sources",
        list_pauses,
        Page[PauseView],
        query=Paging,
    ),
    acting(
        "/tenant:pause",
        "pauseTenant",
        "Let no job of the tenant start",
        pause_tenant,
        PauseView,
        errors=REPEATED,
    ),
    acting(
        "/tenant:resume",
        "resumeTenant",
        "Let jobs of the tenant start again",
        resume_tenant,
        PauseView,
        errors=REPEATED,
    ),
    acting(
        "/queues/{queue}:pause",
        "pauseQueue",
        "Let no job of a queue start",
        pause_queue,
        PauseView,
        errors=REPEATED,
    ),
    acting(
        "/queues/{queue}:resume",
        "resumeQueue",
        "Let jobs of a queue start again",
        resume_queue,
        PauseView,
        errors=REPEATED,
    ),
)
