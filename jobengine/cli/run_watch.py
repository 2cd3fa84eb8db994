"""Follows a run until it has ended: on a terminal its graph, redrawn; elsewhere a line a change.

I1  What is shown last is what was read after the run's end.
I2  An engine that is away is waited for; the stream goes on behind the last event that came.

Not here: what is known of the run (``run_graph``), how it looks (``run_screen``).
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobengine.cli.failure import ExitCode
from jobengine.cli.output import Form, print_json, printable
from jobengine.cli.run_graph import ENDED, WatchedRun, face_of
from jobengine.cli.run_printing import took
from jobengine.cli.run_screen import counts_text, screen_lines

if TYPE_CHECKING:
    from jobengine.sdk import Client
    from jobengine.wire.run_views import DagNode, FirstSignalView

__all__ = ["watch_run"]

_READ_EVERY_S: Final = 1.0
"""At most so often a run is read whole; one of 10,000 nodes is a few megabytes."""
_LINES_MAX: Final = 200
"""A run with more nodes gets lines for its failures and, now and then, for its counts."""
_COUNTS_EVERY_S: Final = 5.0
_FRAMES_PER_SECOND: Final = 4.0


class _View(Protocol):
    def show(self, watched: WatchedRun, changed: "Sequence[DagNode]") -> None:
        """What is known now, and which nodes have changed since."""

    def end(self, watched: WatchedRun) -> None: ...


def watch_run(client: "Client", run_id: str, output: Form) -> int:
    """Show a run until it has ended; answers the exit code."""
    watched = WatchedRun(client.run_state(run_id), client.run_dag(run_id))
    with _view(output) as view:
        view.show(watched, ())
        if watched.run.state not in ENDED:
            _follow(client, watched, view)
        view.end(watched)
    return ExitCode.OK if watched.run.state == "completed" else ExitCode.ERROR


def _follow(client: "Client", watched: WatchedRun, view: _View) -> None:
    from jobengine.sdk.requests import passing

    signal: FirstSignalView | None = None
    read_at = float("-inf")
    for event in client.watch_run(watched.run.run_id):
        changed: list[DagNode] = []
        if event is not None and isinstance(event.data, dict):
            node = watched.take(event.type, event.data)
            changed = [] if node is None else [node]
        ended = event is not None and event.type in _ENDS
        due = event is None or (watched.stale and time.monotonic() - read_at > _READ_EVERY_S)
        if ended or due:
            watched.stale = True
            with passing():
                signal = client.first_signal(watched.run.run_id, signal)
                run = client.run_state(watched.run.run_id)
                changed += watched.load(run, client.run_dag(run.run_id))
                if signal is not None:
                    watched.signal = signal.first_signal.message
            read_at = time.monotonic()
        if changed or due:
            view.show(watched, changed)
        if watched.run.state in ENDED:
            return


_ENDS: Final = frozenset(f"run.{state}" for state in ENDED)


@contextmanager
def _view(output: Form) -> Iterator[_View]:
    if output == "json":
        yield _Documents()
    elif not sys.stdout.isatty():
        yield _Lines()
    else:
        yield from _screen()


def _screen() -> Iterator["_Screen"]:
    from rich.console import Console
    from rich.live import Live

    screen = _Screen(Console(highlight=False))
    with Live(
        console=screen.console,
        get_renderable=screen.render,
        refresh_per_second=_FRAMES_PER_SECOND,
        vertical_overflow="crop",
    ):
        yield screen


class _Screen:
    """Drawn by a thread of rich's while this one waits for events."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self._watched: WatchedRun | None = None

    def show(self, watched: WatchedRun, _: "Sequence[DagNode]") -> None:
        self._watched = watched

    def end(self, watched: WatchedRun) -> None:
        self._watched = watched

    def render(self) -> Any:
        from rich.text import Text

        if self._watched is None:
            return Text()
        width, height = self.console.size
        lines = screen_lines(self._watched, datetime.now(UTC), width, height - 1)
        for line in lines:
            line.truncate(width)
        return Text("\n", no_wrap=True).join(lines)


class _Lines:
    """A line for every node that changes, or for the counts of many."""

    def __init__(self) -> None:
        self._begun = False
        self._counted_at = float("-inf")
        self._counts = self._signal = ""

    def show(self, watched: WatchedRun, changed: "Sequence[DagNode]") -> None:
        run, many = watched.run, len(watched.graph.nodes) > _LINES_MAX
        if not self._begun:
            self._begun = True
            print(printable(f"run {run.run_id} {run.run_token} is {run.state}"))
        if watched.signal is not None and watched.signal != self._signal:
            self._signal = watched.signal
            print(printable(f"first signal: {watched.signal}"))
        for node in changed:
            if not many or face_of(node) in ("failed", "open"):
                print(printable(_line(node)))
        if many or not changed:
            self._show_counts(watched)
        sys.stdout.flush()

    def end(self, watched: WatchedRun) -> None:
        run = watched.run
        print(
            f"run {run.run_id} {run.state}: {counts_text(watched.counts())}"
            f" in {took(run.duration_ms) or 'no time'}"
        )

    def _show_counts(self, watched: WatchedRun) -> None:
        counts = counts_text(watched.counts())
        if counts != self._counts and time.monotonic() - self._counted_at > _COUNTS_EVERY_S:
            self._counts, self._counted_at = counts, time.monotonic()
            print(counts)


class _Documents:
    """A node that changes is a line of JSON, and so is the run, last."""

    def show(self, _: WatchedRun, changed: "Sequence[DagNode]") -> None:
        for node in changed:
            print_json(node)

    def end(self, watched: WatchedRun) -> None:
        print_json(watched.run)


def _line(node: "DagNode") -> str:
    face = face_of(node)
    at = node.finished_at if node.state in ENDED else node.started_at
    said = [at or "", node.key, face]
    if node.attempt > 1 or (face == "running" and node.attempt):
        said.append(f"(attempt {node.attempt})")
    if face == "open":
        said.append(f"waits for {'an approval' if node.kind == 'approval' else node.kind}")
    if face in ("failed", "cancelled"):
        said.append(node.error or node.reason or "")
    if node.run_ms is not None and node.state in ENDED:
        said.append(f"after {took(node.run_ms)}")
    return " ".join(text for text in said if text)
