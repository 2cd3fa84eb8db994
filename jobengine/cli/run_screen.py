"""The live view of a run: head, progress, and its graph by level, as high as the terminal.

A graph that fits is shown whole; of a larger one each level is summed up, map nodes as one, and
only what runs, waits for somebody or has failed is named.

Not here: what is known of the run (``run_graph``), when it is drawn (``run_watch``).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from jobengine.cli.run_graph import ENDED, Group, WatchedRun, counted, face_of
from jobengine.cli.run_printing import drawable, took
from jobengine.wire.run_views import DagNode

__all__ = ["counts_text", "screen_lines"]

_FACES: Final = {
    "running": ("▶", "cyan"),
    "open": ("?", "bold yellow"),
    "failed": ("✗", "red"),
    "completed": ("✓", "green"),
    "scheduled": ("○", "blue"),
    "pending": ("·", "dim"),
    "cancelled": ("⊘", "magenta"),
    "skipped": ("–", "dim"),
}
_NAMED: Final = ("open", "failed", "running")
_BAR: Final = 30


def screen_lines(watched: WatchedRun, now: datetime, width: int, height: int) -> list[Text]:
    """At most `height` lines; the caller crops what is wider than `width`."""
    lines = _head(watched, now, width)[:height]
    room = height - len(lines)
    whole = list(_whole(watched, now))
    lines += whole if len(whole) <= room else _summary(watched, now, room)
    return [drawable(line) for line in lines]


def counts_text(counts: Counter[str]) -> str:
    """How many nodes show what, in words: `3 running, 1 failed, 12 completed`."""
    return ", ".join(f"{counts[face]} {face}" for face in _FACES if counts[face])


def _head(watched: WatchedRun, now: datetime, width: int) -> list[Text]:
    run, counts = watched.run, watched.counts()
    dag = "" if run.dag_id is None else f"  {run.dag_id} {run.dag_version}"
    title = Text(f"run {run.run_id}  {run.run_token}{dag}  ")
    title.append(run.state, _FACES[run.state][1])
    if run.started_at is not None:
        until = datetime.fromisoformat(run.finished_at) if run.finished_at else now
        title.append(f"  {took(_ms(run.started_at, until))}")
    ended = sum(node.state in ENDED for node in watched.graph.nodes)
    total = max(1, len(watched.graph.nodes))
    columns = min(_BAR, max(10, width // 3))
    filled = columns * ended // total
    bar = Text("━" * filled, "green").append("─" * (columns - filled), "dim")
    bar.append(f"  {ended}/{len(watched.graph.nodes)}  ", "default").append(_symbols(counts))
    lines = [title, bar.append(_left(watched, now), "default")]
    if watched.signal is not None:
        lines.append(Text(f"first signal: {watched.signal}", "dim"))
    return [*lines, Text("* critical path", "dim")]


def _left(watched: WatchedRun, now: datetime) -> str:
    if watched.run.state in ENDED:
        return ""
    left_s = watched.left_s(now)
    if left_s is None:
        return "  waits for somebody"
    return f"  about {took(round(1000 * left_s))} left"


def _whole(watched: WatchedRun, now: datetime) -> Iterator[Text]:
    """A line for each node, with its level where that begins."""
    key_width = max((len(node.key) for node in watched.graph.nodes), default=0)
    for level, groups in enumerate(watched.levels()):
        for place, node in enumerate(node for group in groups for node in group.nodes):
            yield _node(node, now, key_width, level if place == 0 else None)


def _summary(watched: WatchedRun, now: datetime, room: int) -> list[Text]:
    """Levels first, then nodes by name, as many as there is room for."""
    levels = watched.levels()
    named = [node for node in watched.graph.nodes if face_of(node) in _NAMED]
    named.sort(key=lambda node: _NAMED.index(face_of(node)))
    names_room = min(len(named), max(room // 3, room - len(levels)))
    lines = _cut([_level(level, groups) for level, groups in enumerate(levels)], room - names_room)
    key_width = max((len(node.key) for node in named[:names_room]), default=0)
    rows = [_node(node, now, key_width, node.level) for node in named]
    return lines + _cut(rows, room - len(lines))


def _level(level: int, groups: Sequence[Group]) -> Text:
    """Its counts, and its largest groups."""
    nodes = [node for group in groups for node in group.nodes]
    critical = any(group.critical for group in groups)
    line = Text(f"{level:>3} {'*' if critical else ' '} {len(nodes):>6} jobs  ")
    line.append(_symbols(counted(nodes)))
    largest = sorted(groups, key=lambda group: (-len(group.nodes), group.label))[:3]
    labels = [
        group.label if len(group.nodes) == 1 else f"{group.label} ×{len(group.nodes)}"
        for group in largest
    ]
    more = len(groups) - len(largest)
    line.append("  " + ", ".join(labels) + (f" and {more} more" if more else ""), "dim")
    return line


def _node(node: DagNode, now: datetime, key_width: int, level: int | None) -> Text:
    face = face_of(node)
    symbol, style = _FACES[face]
    line = Text(f"{'' if level is None else level:>3} {'*' if node.on_critical_path else ' '} ")
    line.append(f"{symbol} {node.key.ljust(key_width)}", style).append(f"  {node.type}", "dim")
    if face == "running" and node.started_at is not None:
        line.append(f"  {took(_ms(node.started_at, now))}")
    elif node.run_ms is not None:
        line.append(f"  {took(node.run_ms)}")
    if node.attempt > 1:
        line.append(f"  attempt {node.attempt}", "yellow")
    if face == "open":
        line.append(f"  waits for {'an approval' if node.kind == 'approval' else node.kind}")
    if face in ("failed", "cancelled"):
        line.append(f"  {node.error or node.reason or ''}", style)
    if node.kept:
        line.append("  kept", "dim")
    return line


def _symbols(counts: Counter[str]) -> Text:
    line = Text()
    for face, (symbol, style) in _FACES.items():
        if counts[face]:
            line.append(f"{symbol} {counts[face]} ", style)
    return line


def _cut(lines: list[Text], room: int) -> list[Text]:
    if len(lines) <= room:
        return lines
    if room < 1:
        return []
    kept = room - 1
    return [*lines[:kept], Text(f"    … and {len(lines) - kept} more", "dim")]


def _ms(since: str, until: datetime) -> int:
    return max(0, round(1000 * (until - datetime.fromisoformat(since)).total_seconds()))
