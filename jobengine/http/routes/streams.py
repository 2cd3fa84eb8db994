"""Live streams: a tenant's events as they are committed, from a cursor or from now, and the log of
a job. Each is answered as server-sent events or, at the same path, as a WebSocket.

I1  Without a cursor the events of a stream begin now, and the lines of a log at its beginning.

Not here: how a stream is sent (`http/streams`), which form was asked for (`direct`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec

from jobengine.actors.gateway import Gateway
from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.domain.event_filter import EventFilter
from jobengine.domain.job import State
from jobengine.domain.run_record import RunRecord
from jobengine.http.answer import LiveAnswer
from jobengine.http.route import Call, Route
from jobengine.http.route_shapes import MISSING
from jobengine.http.routes.jobs import Filter, require_job
from jobengine.http.routes.runs import require_run
from jobengine.http.streams import EVENT_STREAM
from jobengine.http.streams.besides import Beside, FirstSignals, Lines, ReadLines
from jobengine.http.streams.cursors import LineId, event_cursor, line_cursor
from jobengine.http.streams.form import Shown
from jobengine.http.streams.life import Stream
from jobengine.http.streams.log_rows import check_line, rows_of_job, rows_of_run, subject_of
from jobengine.http.streams.plan import Plan
from jobengine.http.streams.socket_form import SocketForm
from jobengine.http.streams.sse import ServerSentEvents
from jobengine.http.streams.type_names import check_types
from jobengine.wire.fields import INT64_MAX
from jobengine.wire.run_views import FirstSignalView

__all__ = ["FULL", "ROUTES", "EventQuery", "LogQuery", "SubjectQuery", "follow_run"]

_ENDED: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
_ENDINGS: Final = ("job.completed", "job.failed", "job.cancelled")
_ANY_JOB: Final = "*"

FULL: Final = (ErrorCode.OVERLOADED,)
"""How a stream is refused when the node has no room for readers."""


class EventQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold; `types` may hold `job.*`. `after` is the seq, or the eventId, to
    go on after."""

    types: list[Filter] = []
    job_type: Filter | None = None
    run_id: Filter | None = None
    source_id: Filter | None = None
    after: str | None = None


class SubjectQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """`after` is the seq, or the eventId, to go on after. Of log lines, those of stored rows after
    the position `logsAfter` are sent; with `logs=false` none."""

    after: str | None = None
    logs: bool = True
    logs_after: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] = 0


class LogQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """`after` is the id of the line to go on after. Without `follow`, lines that are stored already
    are sent, and no others."""

    after: str | None = None
    follow: bool = True


async def stream_events(call: Call[EventQuery, None]) -> LiveAnswer:
    query = call.query
    check_types(query.types)
    wanted = EventFilter.of(
        query.types, job_type=query.job_type, run_id=query.run_id, source_id=query.source_id
    )
    return await _events(call, wanted)


async def stream_job(call: Call[SubjectQuery, None]) -> LiveAnswer:
    job = await require_job(call)
    wanted = EventFilter.of(job_id=job.job_id)
    if not call.query.logs:
        return await _events(call, wanted)
    read = partial(rows_of_job, call.front.gateway.store, subject_of(job))
    return await _events(call, wanted, [Lines("log", read, _rows_after(call))], job.job_id)


async def stream_run(call: Call[SubjectQuery, None]) -> LiveAnswer:
    run = await require_run(call)
    read = partial(rows_of_run, call.front.gateway.store, call.tenant_id, run.run_id)
    return await follow_run(call, run, "log", read)


async def follow_run(
    call: Call[SubjectQuery, None],
    run: RunRecord,
    name: str,
    read: ReadLines,
    shown: Shown = Shown.EVENTS,
) -> LiveAnswer:
    """The events of a run and of its jobs, with its first signal and, where they are wanted, its
    jobs' log lines, which are read by ``read`` and sent under ``name``."""
    front, tenant_id, run_id = call.front, call.tenant_id, run.run_id

    async def signal(since_s: float) -> FirstSignalView | None:
        record = await front.gateway.store.run(tenant_id, run_id)
        return None if record is None else (await front.runs.signal(record, since_s)).view

    besides: list[Beside] = [FirstSignals(signal)]
    logs_of = _ANY_JOB if call.query.logs else None
    if logs_of is not None:
        besides.append(Lines(name, read, _rows_after(call)))
    return await _events(call, EventFilter.of(run_id=run_id), besides, logs_of, shown)


async def stream_logs(call: Call[LogQuery, None]) -> LiveAnswer:
    subject = subject_of(await require_job(call))
    gateway, follow = call.front.gateway, call.query.follow
    read = partial(rows_of_job, gateway.store, subject)
    name, after = line_cursor(call.last_event_id, call.query.after)
    if after is not None:
        await check_line(read, name, after)

    async def over() -> str | None:
        if not follow:
            return "all stored lines have been sent"
        found = await gateway.store.jobs(subject.tenant_id, [subject.job_id])
        return "the job is final" if not found or found[0].state in _ENDED else None

    plan = _plan(
        call,
        after_seq=await _newest_seq(gateway, call.tenant_id),
        wanted=EventFilter.of(_ENDINGS, job_id=subject.job_id),
        begins_after=None if after is None else str(after),
        besides=[Lines("log", read, after or LineId(0, -1), named=True, over=over)],
        logs_of=subject.job_id,
        shown=Shown.NOTHING,
    )
    return _answer(plan)


async def _events(
    call: Call[Any, None],
    wanted: EventFilter,
    besides: Sequence[Beside] = (),
    logs_of: str | None = None,
    shown: Shown = Shown.EVENTS,
) -> LiveAnswer:
    newest = await _newest_seq(call.front.gateway, call.tenant_id)
    cursor = event_cursor(call.tenant_id, newest, call.last_event_id, call.query.after)
    after_seq = newest if cursor is None else cursor
    return _answer(
        _plan(
            call,
            after_seq=after_seq,
            wanted=wanted,
            begins_after=after_seq,
            besides=besides,
            logs_of=logs_of,
            shown=shown,
        )
    )


async def _newest_seq(gateway: Gateway, tenant_id: str) -> int:
    """The tenant's last committed seq, 0 before the first: "now", as a cursor.

    Every commit that has been answered is at or below it (port, I3), so a client that opens a
    stream and then submits sees all that follows from its submit.
    """
    heads = await gateway.store.heads([tenant_id])
    head = heads.get(tenant_id)
    return 0 if head is None else head.next_seq - 1


def _plan(call: Call[Any, None], **shown: Any) -> Plan:
    front = call.front
    return Plan(
        gateway=front.gateway,
        tenant_id=call.tenant_id,
        ended=partial(front.identities.ended, call.identity, call.tenant_id),
        heartbeat_s=front.limits.heartbeat_s,
        events_max=front.limits.stream_buffer_events_max,
        **shown,
    )


def _answer(plan: Plan) -> LiveAnswer:
    def begin(as_socket: bool) -> Stream:
        stream = Stream(plan, SocketForm() if as_socket else ServerSentEvents())
        stream.begin()
        return stream

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return LiveAnswer(begin, EVENT_STREAM, headers=headers)


def _rows_after(call: Call[SubjectQuery, None]) -> LineId:
    """The last line of the row that `logsAfter` names, however many it has."""
    return LineId(call.query.logs_after, INT64_MAX)


ROUTES: Final = (
    Route(
        method="GET",
        path="/stream/events",
        name="streamEvents",
        summary="Follow the tenant's events",
        handler=stream_events,
        scopes=(Scope.READ,),
        query=EventQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=FULL,
    ),
    Route(
        method="GET",
        path="/stream/jobs/{jobId}",
        name="streamJobEvents",
        summary="Follow one job: its events and log lines",
        handler=stream_job,
        scopes=(Scope.READ,),
        query=SubjectQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(*MISSING, *FULL),
    ),
    Route(
        method="GET",
        path="/stream/runs/{runId}",
        name="streamRunEvents",
        summary="Follow a run: its events, its first signal, events and log lines of its jobs",
        handler=stream_run,
        scopes=(Scope.READ,),
        query=SubjectQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(*MISSING, *FULL),
    ),
    Route(
        method="GET",
        path="/stream/logs/{jobId}",
        name="streamJobLogs",
        summary="Follow the log of a job until it is final",
        handler=stream_logs,
        scopes=(Scope.READ,),
        query=LogQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(*MISSING, *FULL),
    ),
)
