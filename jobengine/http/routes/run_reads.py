"""Reads of a run: its graph, the chart of its attempts, its first signal, its record.

I1  What takes long of a large run is done in a thread.

Not here: the run itself and what is done to it (``runs``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.entry import Entry
from jobengine.domain.instant import AT_MAX, AT_MIN
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.errors import invalid
from jobengine.http.rendering import encode
from jobengine.http.route import Call, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.routes.jobs import instant_of
from jobengine.http.routes.runs import require_run
from jobengine.http.run_gantt import gantt_view
from jobengine.http.run_ledger import ledger_record
from jobengine.http.run_snapshots import RunSnapshot
from jobengine.http.run_views import dag_view
from jobengine.wire.fields import Instant
from jobengine.wire.run_views import DagView, FirstSignalView, GanttView, RunLedgerRecord

__all__ = ["ROUTES"]

NDJSON: Final = "application/x-ndjson"
_ENTRIES: Final = 5_000
_EXPORT_BYTES: Final = 4 << 20
_AGE: Final = "private, max-age=60"


class ExportQuery(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Runs that have ended and started in the span; `from` counts, `to` does not. Without them it
    has no beginning, or no end."""

    from_: Instant | None = msgspec.field(name="from", default=None)
    to: Instant | None = None


async def show_dag(call: Call[NoQuery, None]) -> Answer:
    snapshot = await _snapshot(call)
    graph = await call.front.runs.graph(snapshot)

    def render() -> bytes:
        return encode(dag_view(snapshot.record, graph, snapshot.nodes))

    return Answer(await trio.to_thread.run_sync(render))


async def show_gantt(call: Call[NoQuery, None]) -> Answer:
    snapshot = await _snapshot(call)
    graph = await call.front.runs.graph(snapshot)
    entries = await _entries(call, snapshot.nodes)
    now_at = call.front.gateway.clock.moment().at

    def render() -> bytes:
        return encode(gantt_view(snapshot.record, graph, snapshot.nodes, entries, now_at))

    return Answer(await trio.to_thread.run_sync(render))


async def show_first_signal(call: Call[NoQuery, None]) -> Answer:
    record = await require_run(call)
    found = await call.front.runs.signal(record)
    headers = {
        "Cache-Control": _AGE,
        "Cache-Status": f"jobengine; {'hit' if found.kept else 'fwd=miss'}",
        "X-FirstSignal-Source": "snapshot" if found.kept else "cold_start",
    }
    if found.view is None:
        return Answer(b"", 204, headers=headers)
    headers["ETag"] = found.view.summary_etag
    if _has_already(call.headers.get("If-None-Match", ""), found.view.summary_etag):
        return Answer(b"", 304, headers=headers)
    return Answer(encode(found.view), headers=headers)


def _has_already(said: str, tag: str) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2)."""
    tags = [each.strip().removeprefix("W/") for each in said.split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags


async def show_record(call: Call[NoQuery, None]) -> Answer:
    return Answer(await trio.to_thread.run_sync(_record_of, await _snapshot(call)))


async def export_records(call: Call[ExportQuery, None]) -> Answer:
    """A page of lines; the token of the next page is in a header, since a line is a record. A page
    ends early when it holds ``_EXPORT_BYTES``."""
    query = call.query
    from_at = instant_of(query.from_, "from") or AT_MIN
    to_at = instant_of(query.to, "to") or AT_MAX
    if to_at <= from_at:
        raise invalid("to", "is not after `from`")
    rows = await call.front.gateway.store.run_export(
        call.tenant_id,
        from_at,
        to_at,
        pages.after(call, tuple[int, str]),
        query.page_size + 1,
    )
    page, last = pages.cut(rows, query.page_size, _place)
    lines, size = list[bytes](), 0
    for record in page:
        if size > _EXPORT_BYTES:
            last = _place(page[len(lines) - 1])
            break
        snapshot = await call.front.runs.read(record)
        lines.append(await trio.to_thread.run_sync(_record_of, snapshot) + b"\n")
        size += len(lines[-1])
    token = pages.token(call, last)
    return Answer(
        b"".join(lines),
        headers={} if token is None else {"X-Next-Page-Token": token},
        media_type=NDJSON,
    )


async def _snapshot(call: Call[Any, None]) -> RunSnapshot:
    return await call.front.runs.read(await require_run(call))


def _record_of(snapshot: RunSnapshot) -> bytes:
    return encode(ledger_record(snapshot.record, snapshot.parts, snapshot.nodes))


def _place(record: RunRecord) -> tuple[int, str]:
    return record.started_at or record.finished_at or 0, record.run_id


async def _entries(
    call: Call[Any, None], nodes: Mapping[str, NodeRecord]
) -> Mapping[str, Sequence[Entry]]:
    """The entries of all jobs, by job."""
    seqs = sorted(seq for node in nodes.values() for seq in node.seqs)
    found: dict[str, list[Entry]] = {}
    for start in range(0, len(seqs), _ENTRIES):
        page = seqs[start : start + _ENTRIES]
        for entry in await call.front.gateway.store.entries(call.tenant_id, page):
            found.setdefault(entry.job, []).append(entry)
    return found


ROUTES: Final = (
    reading(
        "/runs/{runId}/dag",
        "getRunDag",
        "Show the graph of a run with its critical path",
        show_dag,
        DagView,
        errors=MISSING,
    ),
    reading(
        "/runs/{runId}/gantt",
        "getRunGantt",
        "Show when the jobs of a run queued, ran and backed off",
        show_gantt,
        GanttView,
        errors=MISSING,
    ),
    Route(
        method="GET",
        path="/runs/{runId}/first-signal",
        name="getRunFirstSignal",
        summary="Show the earliest sign of life of a run; nothing where there is none yet",
        handler=show_first_signal,
        scopes=(Scope.READ,),
        headers=("If-None-Match",),
        answers={200: FirstSignalView, 204: None, 304: None},
        answer_headers=("ETag", "Cache-Control", "Cache-Status", "X-FirstSignal-Source"),
        errors=MISSING,
    ),
    reading(
        "/runs/{runId}/record",
        "getRunRecord",
        "Show what stays of a run, with a step for each of its jobs",
        show_record,
        RunLedgerRecord,
        errors=MISSING,
    ),
    Route(
        method="GET",
        path="/runs:export",
        name="exportRuns",
        summary="Export the records of runs that have ended, a line each, by start and id",
        handler=export_records,
        scopes=(Scope.AUDIT,),
        query=ExportQuery,
        answers={200: None},
        answer_headers=("X-Next-Page-Token",),
        media_type=NDJSON,
    ),
)
