"""The chart of a run's attempts as text, scaled to a width."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.text import Text

from jobengine.cli.run_printing import drawable, took
from jobengine.wire.run_views import GanttLane, GanttSpan, GanttView

__all__ = ["chart_lines"]

_LABEL_MAX: Final = 32
_CHART_MIN: Final = 10
_MARKS: Final = {
    "queue": ("·", "dim"),
    "backoff": ("~", "yellow"),
    "run": ("█", "green"),
    "going on": ("█", "cyan"),
    "lost": ("▒", "red"),
}


def chart_lines(chart: GanttView, width: int, lanes_max: int) -> Iterator[Text]:
    """A line for the head, one for each lane, and the legend; none is wider than `width`."""
    lanes = chart.lanes[:lanes_max]
    label = min(_LABEL_MAX, max((len(lane.key) for lane in lanes), default=0))
    columns = max(_CHART_MIN, width - label - 3)
    begin, end = datetime.fromisoformat(chart.from_), datetime.fromisoformat(chart.to)
    span_s = max(0.001, (end - begin).total_seconds())
    scale = f"{took(round(1000 * span_s))} in {columns} columns"
    yield Text(f"run {chart.run_id} {chart.state}, from {chart.from_}: {scale}")
    for lane in lanes:
        yield _lane(lane, label, begin, span_s, columns)
    if len(chart.lanes) > len(lanes):
        yield Text(f"… and {len(chart.lanes) - len(lanes)} more jobs; see --limit")
    legend = Text("* critical path  ")
    for name, (mark, style) in _MARKS.items():
        legend.append(mark, style).append(f" {name}  ")
    legend.rstrip()
    yield legend


def _lane(lane: GanttLane, label: int, begin: datetime, span_s: float, columns: int) -> Text:
    cells: list[str | None] = [None] * columns
    # An attempt hides what is shorter than a column beside it, so it is drawn last.
    for span in sorted(lane.spans, key=lambda span: span.kind == "run"):
        first = _column(span.from_, begin, span_s, columns)
        last = columns if span.to is None else _column(span.to, begin, span_s, columns)
        for column in range(first, max(first + (span.kind == "run"), last)):
            cells[min(column, columns - 1)] = _name(span)
    key = lane.key if len(lane.key) <= label else lane.key[: label - 1] + "…"
    line = Text(f"{'*' if lane.on_critical_path else ' '} {key.ljust(label)} ")
    for name in cells:
        mark, style = (" ", "") if name is None else _MARKS[name]
        line.append(mark, style)
    line.rstrip()
    return drawable(line)


def _name(span: GanttSpan) -> str:
    if span.kind != "run":
        return span.kind
    if span.to is None:
        return "going on"
    return "run" if span.outcome == "completed" else "lost"


def _column(at: str, begin: datetime, span_s: float, columns: int) -> int:
    share = (datetime.fromisoformat(at) - begin).total_seconds() / span_s
    return min(columns, max(0, int(share * columns)))
