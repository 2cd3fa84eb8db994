"""What comes out of a run of a pack: its log lines, its artifacts, its events.

I1  Lines of a run come in the order in which they were stored. New ones come behind all others, so
    whoever goes on after the last page of them misses none.
I2  Log lines are no entries of the ledger, so the stream sends them beside the events, from the
    stored row on that a reader names.

Not here: the run itself (``pack_runs``).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.change import ArtifactRow, LogRow
from jobengine.domain.instant import to_rfc3339
from jobengine.http import pages
from jobengine.http.answer import Answer, LiveAnswer
from jobengine.http.rendering import page_answer
from jobengine.http.route import Call, Paging, Route
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.routes.pack_runs import require_pack_run
from jobengine.http.routes.streams import FULL, SubjectQuery, follow_run
from jobengine.http.streams import EVENT_STREAM
from jobengine.http.streams.besides import StoredRow
from jobengine.http.streams.form import Shown
from jobengine.store.log_pages import goes_on
from jobengine.store.port import Store
from jobengine.wire.jobs import Page
from jobengine.wire.packs import PackArtifactView, PackLogEvent, PackLogLine

__all__ = ["ROUTES"]

_ROWS: Final = 16
_lines: Final = msgspec.json.Decoder(list[dict[str, Any]])


async def list_logs(call: Call[Paging, None]) -> Answer:
    """A cursor is a stored row and lines taken of the one behind it."""
    run = await require_pack_run(call)
    store, size = call.front.gateway.store, call.query.page_size
    position, taken = pages.after(call, tuple[int, int]) or (0, 0)
    items: list[PackLogLine] = []
    while True:
        rows = await store.run_logs(call.tenant_id, run.run_id, position, _ROWS)
        keys = await _keys(store, call.tenant_id, rows)
        for next_position, row in rows:
            lines = _lines.decode(row.lines)
            room = size - len(items)
            items += [
                PackLogLine(key=keys[row.job_id], job_id=row.job_id, attempt=row.attempt, **line)
                for line in lines[taken : taken + room]
            ]
            if taken + room < len(lines):
                return page_answer(items, pages.token(call, (position, taken + room)))
            position, taken = next_position, 0
        if not goes_on(rows, _ROWS):
            return page_answer(items, None)


async def _keys(store: Store, tenant_id: str, rows: Sequence[tuple[int, LogRow]]) -> dict[str, str]:
    nodes = await store.node_records(tenant_id, [row.job_id for _, row in rows])
    return {node.job_id: node.node_key for node in nodes}


async def list_artifacts(call: Call[Paging, None]) -> Answer:
    run = await require_pack_run(call)
    rows = await call.front.gateway.store.run_artifacts(
        call.tenant_id,
        run.run_id,
        pages.after(call, tuple[str, int, str]),
        call.query.page_size + 1,
    )
    page, last = pages.cut(
        rows, call.query.page_size, lambda row: (row[0], row[1].attempt, row[1].name)
    )
    views = [_artifact_view(key, row) for key, row in page]
    return page_answer(views, pages.token(call, last))


def _artifact_view(key: str, row: ArtifactRow) -> PackArtifactView:
    return PackArtifactView(
        key=key,
        job_id=row.job_id,
        attempt=row.attempt,
        name=row.name,
        uri=row.uri,
        digest=row.digest,
        mime=row.mime,
        size_bytes=row.size_bytes,
        at=to_rfc3339(row.at),
    )


async def stream_pack_run(call: Call[SubjectQuery, None]) -> LiveAnswer:
    run = await require_pack_run(call)
    read = partial(_rows, call.front.gateway.store, call.tenant_id, run.run_id)
    return await follow_run(call, run, "pack_run.log", read, Shown.PACK_RUN)


async def _rows(
    store: Store, tenant_id: str, run_id: str, position: int, rows_max: int
) -> tuple[list[StoredRow], bool]:
    rows = await store.run_logs(tenant_id, run_id, position, rows_max)
    keys = await _keys(store, tenant_id, rows)
    told = [StoredRow(at, _told(keys.get(row.job_id), at, row)) for at, row in rows]
    return told, goes_on(rows, rows_max)


def _told(key: str | None, position: int, row: LogRow) -> list[PackLogEvent]:
    """Of a job that is past retention no line is told."""
    if key is None:
        return []
    return [
        PackLogEvent(key=key, job_id=row.job_id, attempt=row.attempt, position=position, **line)
        for line in _lines.decode(row.lines)
    ]


ROUTES: Final = (
    reading(
        "/pack-runs/{runId}/logs",
        "listPackRunLogs",
        "List the log lines of all jobs of a run, in the order in which they were stored",
        list_logs,
        Page[PackLogLine],
        query=Paging,
        errors=MISSING,
    ),
    reading(
        "/pack-runs/{runId}/artifacts",
        "listPackRunArtifacts",
        "List the artifacts of all jobs of a run, by key, attempt and name",
        list_artifacts,
        Page[PackArtifactView],
        query=Paging,
        errors=MISSING,
    ),
    Route(
        method="GET",
        path="/stream/pack-runs/{runId}",
        name="streamPackRunEvents",
        summary="Follow a run of a pack: its events, log lines and artifacts",
        handler=stream_pack_run,
        scopes=(Scope.READ,),
        query=SubjectQuery,
        answers={200: None},
        media_type=EVENT_STREAM,
        errors=(*MISSING, *FULL),
    ),
)
