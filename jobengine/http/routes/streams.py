"""Live streams: a tenant's events as they are committed, from a cursor or from now."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.domain.run_record import RunRecord
from jobengine.http.answer import StreamAnswer
from jobengine.http.errors import invalid
from jobengine.http.route import Call, Route
from jobengine.http.routes.jobs import Filter, require_job
from jobengine.http.routes.runs import require_run
from jobengine.http.streams import (
    EVENT_STREAM,
    EventFilter,
    EventStream,
    ReadSignal,
    SendBeside,
    newest_seq,
)
from jobengine.wire.runs import FirstSignalView

__all__ = ["ROUTES", "EventQuery", "JobEventQuery", "follow_run"]

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


async def stream_run(call: Call[JobEventQuery, None]) -> StreamAnswer:
    return await follow_run(call, await require_run(call))


async def follow_run(
    call: Call[Any, None],
    run: RunRecord,
    beside: SendBeside | None = None,
    names: Mapping[str, str] | None = None,
) -> StreamAnswer:
    """The events of a run and of its jobs, with its first signal; `beside` and `names` as of an
    `EventStream`."""

    async def signal(since_s: float) -> FirstSignalView | None:
        record = await call.front.gateway.store.run(call.tenant_id, run.run_id)
        return None if record is None else (await call.front.runs.signal(record, since_s)).view

    return await _stream(call, EventFilter(run_id=run.run_id), signal, beside, names)


async def _stream(
    call: Call[Any, None],
    wanted: EventFilter,
    signal: ReadSignal | None = None,
    beside: SendBeside | None = None,
    names: Mapping[str, str] | None = None,
) -> StreamAnswer:
    cursor = _cursor(call)
    newest = await newest_seq(call.front.gateway, call.tenant_id)
    stream = EventStream(
        gateway=call.front.gateway,
        tenant_id=call.tenant_id,
        after_seq=newest if cursor is None else cursor,
        wanted=wanted,
        heartbeat_s=call.front.limits.heartbeat_s,
        stopping=call.front.stopping,
        signal=signal,
        beside=beside,
        names=names or {},
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
    Route(
        method="GET",
        path="/stream/runs/{runId}",
        name="streamRunEvents",
        summary="Follow a run: its events, those of its jobs, its first signal",
        handler=stream_run,
        scopes=(Scope.READ,),
        query=JobEventQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(ErrorCode.NOT_FOUND,),
    ),
)
