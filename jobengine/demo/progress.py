"""How far a run is, by stage: counted from the engine's own graph of it, shown while it changes.

On a terminal one table is redrawn; elsewhere every change is a line.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import attrs
from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobengine.demo.api import Node
from jobengine.demo.plan import Plan, expected_jobs


@attrs.frozen
class Stage:
    """Counts of one job type. `retries` are attempts beyond the first of each job.

    `waiting` counts jobs that are there; those of a map come when it is expanded.
    """

    job_type: str
    expected: int
    completed: int
    running: int
    waiting: int
    failed: int
    attempts: int
    retries: int
    seconds: float


def stages(plan: Plan, nodes: Iterable[Node]) -> Sequence[Stage]:
    """One entry per job type, in the order of the pipeline.

    `seconds` is the span from the first start of a last attempt to the last end, so far.
    """
    by_type: dict[str, list[Node]] = {job_type: [] for job_type in expected_jobs(plan)}
    for node in nodes:
        by_type[node.job_type].append(node)
    return [_stage(by_type[job_type], job_type, n) for job_type, n in expected_jobs(plan).items()]


def stage_table(counted: Sequence[Stage], title: str) -> Table:
    """The stages, for people; fits 80 columns."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True)
    for column in ("completed", "running", "waiting", "attempts", "retries", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage in counted:
        table.add_row(
            stage.job_type,
            f"{stage.completed}/{stage.expected}",
            str(stage.running),
            str(stage.waiting),
            str(stage.attempts),
            str(stage.retries),
            f"{stage.seconds:.1f}",
        )
    return table


class Progress(AbstractContextManager["Progress"]):
    """Shows the stages until the block ends."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, transient=True, refresh_per_second=8)
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, counted: Sequence[Stage]) -> None:
        """Show these counts."""
        if self._console.is_terminal:
            self._live.update(stage_table(counted, self._title))
            return
        for stage in counted:
            line = (
                f"{stage.job_type:<22} {stage.completed}/{stage.expected} completed, "
                f"{stage.running} running, {stage.waiting} waiting, {stage.retries} retries"
            )
            if stage.attempts + stage.waiting and self._shown.get(stage.job_type) != line:
                self._shown[stage.job_type] = line
                self.say(line)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def _stage(nodes: Sequence[Node], job_type: str, expected: int) -> Stage:
    states = [node.state for node in nodes]
    ends = [node.finished_at for node in nodes if node.finished_at is not None]
    first = min((node.started_at for node in nodes if node.started_at is not None), default=None)
    return Stage(
        job_type=job_type,
        expected=expected,
        completed=states.count("completed"),
        running=states.count("running"),
        waiting=states.count("pending") + states.count("scheduled"),
        failed=states.count("failed") + states.count("cancelled"),
        attempts=sum(node.attempt for node in nodes),
        retries=sum(max(0, node.attempt - 1) for node in nodes),
        seconds=(max(ends) - first).total_seconds() if ends and first else 0.0,
    )
