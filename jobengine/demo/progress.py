"""How far a run is, by stage: counted from the engine's own list of jobs, shown while it changes.

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

from jobengine.demo.api import Job
from jobengine.demo.plan import Plan, expected_jobs


@attrs.frozen
class Stage:
    """Counts of one job type. `retries` are attempts beyond the first of each job."""

    job_type: str
    expected: int
    completed: int
    running: int
    waiting: int
    failed: int
    attempts: int
    retries: int
    seconds: float


def stages(plan: Plan, jobs: Iterable[Job]) -> Sequence[Stage]:
    """One entry per job type, in the order of the pipeline.

    `seconds` is the span from the first creation to the last end, so far.
    """
    by_type: dict[str, list[Job]] = {job_type: [] for job_type in expected_jobs(plan)}
    for job in jobs:
        by_type[job.job_type].append(job)
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


def _stage(jobs: Sequence[Job], job_type: str, expected: int) -> Stage:
    states = [job.state for job in jobs]
    ends = [job.finished_at for job in jobs if job.finished_at is not None]
    first = min((job.created_at for job in jobs), default=None)
    return Stage(
        job_type=job_type,
        expected=expected,
        completed=states.count("completed"),
        running=states.count("running"),
        waiting=states.count("pending") + states.count("scheduled"),
        failed=states.count("failed") + states.count("cancelled"),
        attempts=sum(job.attempt for job in jobs),
        retries=sum(max(0, job.attempt - 1) for job in jobs),
        seconds=(max(ends) - first).total_seconds() if ends and first else 0.0,
    )
