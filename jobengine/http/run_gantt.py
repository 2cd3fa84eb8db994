"""The chart of a run: for each node the spans in which its job queued, ran and backed off.

Definitions. A *queue* span begins when the job may start and ends when an attempt begins; a *run*
span is an attempt; a *backoff* span is the delay after which the next one begins to queue. A node
without a worker queues while it waits for what it stands for, and its attempt takes no time.

I1  Spans of a lane follow from the transitions in the ledger alone; they do not overlap.
I2  What goes on has no end.
I3  The lane of a node that is kept is empty: its job ran in an earlier run.

Not here: reading the entries (``routes/runs``), the order of lanes (``domain/plan``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from jobengine.domain.entry import Entry
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import State
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.http.run_views import RunGraph
from jobengine.http.times import instant
from jobengine.wire.run_views import GanttLane, GanttSpan, GanttView

__all__ = ["gantt_view", "spans_of"]

_OPENED: Final = "run.node_opened"


def gantt_view(
    record: RunRecord,
    run: RunGraph,
    records: Mapping[str, NodeRecord],
    entries: Mapping[str, Sequence[Entry]],
    now_at: int,
) -> GanttView:
    """Lanes of the nodes whose jobs are there. ``records`` and ``entries`` by job id; of a job the
    entries in order of their numbers."""
    lanes = [
        _lane(run, number, records[job_id], entries.get(job_id, ()))
        for number in run.plan.order
        if (job_id := run.job_ids[number]) in records
    ]
    return GanttView(
        run_id=record.run_id,
        state=cast(Any, record.state),
        from_=to_rfc3339(record.started_at or record.created_at),
        to=to_rfc3339(record.finished_at or now_at),
        lanes=lanes,
    )


def _lane(run: RunGraph, number: int, record: NodeRecord, entries: Sequence[Entry]) -> GanttLane:
    return GanttLane(
        key=run.graph.keys[number],
        job_id=record.job_id,
        state=cast(Any, record.state),
        level=run.plan.levels[number],
        on_critical_path=number in run.on_critical_path,
        spans=[] if run.graph.keys[number] in run.kept else spans_of(entries),
    )


def spans_of(entries: Sequence[Entry]) -> list[GanttSpan]:
    """The spans of one job; entries that say nothing of them are passed over."""
    spans: list[GanttSpan] = []
    for entry in entries:
        if entry.kind == _OPENED:
            spans.append(_span("queue", entry.attempt + 1, entry.at))
        was_opened = len(spans) == 1 and spans[0].to is None and entry.from_ == State.PENDING
        if entry.to is None or (was_opened and entry.to == State.SCHEDULED):
            continue
        if spans and spans[-1].to is None:
            _end(spans[-1], entry)
        if entry.to == State.RUNNING:
            spans.append(_span("run", entry.attempt, entry.at, worker_id=entry.worker))
        elif entry.to == State.SCHEDULED:
            begins_at = entry.at
            if entry.kind == "job.retried" and entry.span_us:
                begins_at += entry.span_us
                spans.append(_span("backoff", entry.attempt, entry.at, begins_at))
            spans.append(_span("queue", entry.attempt + 1, begins_at))
    return spans


def _end(span: GanttSpan, entry: Entry) -> None:
    """A job that is cancelled while it backs off never came to queue; its span is empty then."""
    span.to = max(to_rfc3339(entry.at), span.from_)
    if span.kind == "run":
        span.outcome = entry.to
        span.worker_id = span.worker_id or entry.worker


def _span(
    kind: str, attempt: int, from_at: int, to_at: int | None = None, worker_id: str | None = None
) -> GanttSpan:
    return GanttSpan(
        kind=cast(Any, kind),
        attempt=attempt,
        from_=to_rfc3339(from_at),
        to=instant(to_at),
        worker_id=worker_id,
    )
