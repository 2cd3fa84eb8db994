"""Counting and showing how far a run is."""

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from jobengine.demo.api import Job
from jobengine.demo.plan import INGEST, MATCH, Plan
from jobengine.demo.progress import Progress, stage_table, stages

AT = datetime(2026, 11, 1, tzinfo=UTC)
PLAN = Plan(run="r1", created_at=0, shards=2, sources=("ghsa", "pyup"))


def job(job_type: str, state: str, attempt: int, took_s: float | None = None) -> Job:
    return Job(
        job_id="j",
        job_type=job_type,
        state=state,
        attempt=attempt,
        failures=0,
        created_at=AT,
        finished_at=None if took_s is None else AT + timedelta(seconds=took_s),
    )


def test_stages_are_counted_from_the_jobs() -> None:
    counted = stages(
        PLAN,
        [
            job(INGEST, "completed", 3, took_s=2.5),
            job(INGEST, "completed", 1, took_s=1.0),
            job(INGEST, "scheduled", 0),
            job(INGEST, "running", 2),
        ],
    )
    first = counted[0]
    assert (first.expected, first.completed, first.running, first.waiting) == (4, 2, 1, 1)
    assert (first.attempts, first.retries, first.seconds) == (6, 3, 2.5)
    assert [stage.expected for stage in counted] == [4, 4, 1, 2, 1]


def test_away_from_a_terminal_every_change_is_one_line() -> None:
    output = io.StringIO()
    running, done = job(MATCH, "running", 1), job(MATCH, "completed", 1, took_s=1)
    with Progress(Console(file=output), "run") as progress:
        for jobs in ([running], [running], [done], [done]):
            progress.update(stages(PLAN, jobs))
        progress.say("[killed] worker")
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("components.match       0/2 completed, 1 running")
    assert lines[1].startswith("components.match       1/2 completed, 0 running")
    assert lines[2] == "[killed] worker"


def test_the_table_fits_a_small_terminal() -> None:
    output = io.StringIO()
    Console(file=output, width=80).print(stage_table(stages(PLAN, []), "run"))
    text = output.getvalue()
    assert "advisories.normalise" in text
    assert "…" not in text
