"""Counting and showing how far a run is."""

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from jobengine.demo.api import Node
from jobengine.demo.plan import INGEST, MATCH, Plan
from jobengine.demo.progress import Progress, stage_table, stages

AT = datetime(2026, 11, 1, tzinfo=UTC)
PLAN = Plan(run="r1", created_at=0, shards=2, sources=("ghsa", "pyup"))


def node(job_type: str, state: str, attempt: int, took_s: float | None = None) -> Node:
    return Node(
        key="k",
        job_id="j",
        kind="job",
        job_type=job_type,
        state=state,
        attempt=attempt,
        started_at=AT if attempt else None,
        finished_at=None if took_s is None else AT + timedelta(seconds=took_s),
    )


def test_stages_are_counted_from_the_nodes() -> None:
    counted = stages(
        PLAN,
        [
            node(INGEST, "completed", 3, took_s=2.5),
            node(INGEST, "completed", 1, took_s=1.0),
            node(INGEST, "scheduled", 0),
            node(INGEST, "running", 2),
        ],
    )
    first = counted[0]
    assert (first.expected, first.completed, first.running, first.waiting) == (4, 2, 1, 1)
    assert (first.attempts, first.retries, first.seconds) == (6, 3, 2.5)
    assert [stage.expected for stage in counted] == [4, 4, 1, 2, 1, 5, 5]


def test_away_from_a_terminal_every_change_is_one_line() -> None:
    output = io.StringIO()
    running, done = node(MATCH, "running", 1), node(MATCH, "completed", 1, took_s=1)
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
