"""The stored log lines of a job: page by page, or the last ones.

I1  Lines come in the order in which they were reported; a cursor is a stored row and how many of
    its lines have been looked at, so lines that are added neither shift nor repeat any.
I2  A request looks at a bounded number of rows. Where few lines match, its page is short and goes
    on.

Not here: lines as they come (`streams`), those of all jobs of a run (`pack_run_reads`).
"""

from typing import Annotated, Any, Final

import msgspec

from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.errors import invalid
from jobengine.http.rendering import page_answer
from jobengine.http.route import Call, Paging
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.routes.jobs import require_job
from jobengine.http.views import LogLineView
from jobengine.store.log_pages import goes_on
from jobengine.store.port import LogLines
from jobengine.wire.fields import INT64_MAX
from jobengine.wire.jobs import Page
from jobengine.wire.worker_messages import LogLevel

__all__ = ["ROUTES"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_ROWS: Final = 16
"""Rows read at once: a row may have as many bytes as a frame."""
_READS_MAX: Final = 32
_lines: Final = msgspec.json.Decoder(list[dict[str, Any]])


class JobLogList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """`level` and what is graver; `tail`: the last so many lines, in place of pages, where
    ``_READS_MAX`` reads hold them."""

    level: LogLevel = "debug"
    tail: Annotated[int, msgspec.Meta(ge=1, le=500)] | None = None


async def list_logs(call: Call[JobLogList, None]) -> Answer:
    job = await require_job(call)
    if call.query.tail is not None:
        if call.query.page_token is not None:
            raise invalid("tail", "has no pages; leave out pageToken")
        return page_answer(await _tail(call, job.job_id, call.query.tail), None)
    size = call.query.page_size
    position, taken = pages.after(call, tuple[int, int]) or (0, 0)
    items: list[dict[str, Any]] = []
    for _ in range(_READS_MAX):
        rows = await call.front.gateway.store.logs(call.tenant_id, job.job_id, position, _ROWS)
        for next_position, row in rows:
            lines = _shown(call, row)
            for number in range(taken, len(lines)):
                line = lines[number]
                if line is not None:
                    if len(items) == size:
                        return page_answer(items, pages.token(call, (position, number)))
                    items.append(line)
            position, taken = next_position, 0
        if not goes_on(rows, _ROWS):
            return page_answer(items, None)
    return page_answer(items, pages.token(call, (position, 0)))


async def _tail(call: Call[JobLogList, None], job_id: str, lines_max: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before = INT64_MAX
    for _ in range(_READS_MAX):
        rows = await call.front.gateway.store.logs_back(call.tenant_id, job_id, before, _ROWS)
        for _, row in rows:
            found += [line for line in reversed(_shown(call, row)) if line is not None]
        if len(found) >= lines_max or not goes_on(rows, _ROWS):
            break
        before = rows[-1][0]
    return found[:lines_max][::-1]


def _shown(call: Call[JobLogList, None], row: LogLines) -> list[dict[str, Any] | None]:
    """The lines of a row, each in its place; None where it is not grave enough."""
    wanted = _LEVELS[_LEVELS.index(call.query.level) :]
    return [
        {"attempt": row.attempt, **line} if line["level"] in wanted else None
        for line in _lines.decode(row.lines)
    ]


ROUTES: Final = (
    reading(
        "/jobs/{jobId}/logs",
        "listJobLogs",
        "List the log lines of a job, in the order they were reported",
        list_logs,
        Page[LogLineView],
        query=JobLogList,
        errors=MISSING,
    ),
)
