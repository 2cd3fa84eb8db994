"""Live streams: a tenant's events as they are committed, from a cursor or from now."""

import re
from functools import partial
from typing import Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import StreamAnswer
from jobengine.http.errors import invalid
from jobengine.http.route import Call, Route
from jobengine.http.routes.jobs import Filter, require_job
from jobengine.http.streams import EVENT_STREAM, EventFilter, EventStream, newest_seq

__all__ = ["ROUTES", "EventQuery", "JobEventQuery"]

_SEQ: Final = re.compile(r"[0-9]{1,18}")


class EventQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold; `types` may hold `job.*`. `after` is the seq to go on after."""

    types: list[Filter] = []
    job_type: Filter | None = None
    run_id: Filter | None = None
    source_id: Filter | None = None
    after: str | None = None


class JobEventQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """`after` is the seq to go on after."""

    after: str | None = None


async def stream_events(call: Call[EventQuery, None]) -> StreamAnswer:
    query = call.query
    wanted = EventFilter.of(query.types, query.job_type, query.run_id, query.source_id)
    return await _stream(call, wanted)


async def stream_job(call: Call[JobEventQuery, None]) -> StreamAnswer:
    job = await require_job(call)
    return await _stream(call, EventFilter(job_id=job.job_id))


async def _stream(call: Call[Any, None], wanted: EventFilter) -> StreamAnswer:
    cursor = _cursor(call)
    newest = await newest_seq(call.front.gateway, call.tenant_id)
    stream = EventStream(
        gateway=call.front.gateway,
        tenant_id=call.tenant_id,
        after_seq=newest if cursor is None else cursor,
        wanted=wanted,
        heartbeat_s=call.front.limits.heartbeat_s,
        stopping=call.front.stopping,
        bearer_ended=partial(call.front.identities.ended, call.identity, call.tenant_id),
    )
    return StreamAnswer(
        stream.open,
        EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _cursor(call: Call[Any, Any]) -> int | None:
    """A client that reconnects repeats the URL it began with, so its Last-Event-ID counts first."""
    for name, text in (("Last-Event-ID", call.last_event_id), ("after", call.query.after)):
        if text:
            if _SEQ.fullmatch(text) is None:
                raise invalid(name, "must be the id of an event, a number")
            return int(text)
    return None


ROUTES: Final = (
    Route(
        method="GET",
        path="/stream/events",
        name="streamEvents",
        summary="Follow the tenant's events (server-sent events)",
        handler=stream_events,
        scopes=(Scope.READ,),
        query=EventQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
    ),
    Route(
        method="GET",
        path="/stream/jobs/{jobId}",
        name="streamJobEvents",
        summary="Follow the events of one job (server-sent events)",
        handler=stream_job,
        scopes=(Scope.READ,),
        query=JobEventQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(ErrorCode.NOT_FOUND,),
    ),
)
