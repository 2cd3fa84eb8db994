"""How much fits: workers, a backlog, a history."""

from typing import Any, Final

import click

from bench import backlog, growth, idle, memory, sessions
from bench.backlog import BacklogCase
from bench.commands.running import benchmark, payload_option
from bench.commands.sections import Section
from bench.harness.options import Options
from bench.harness.report import Report

__all__ = ["SECTION"]

_beat_option: Final = click.option(
    "--beat-s", default=10.0, help="Seconds between two heartbeats of a worker."
)


@benchmark("idle")
@click.option("--workers", default=1000, help="Connected workers.")
@click.option("--seconds", default=25.0, help="How long each case is watched.")
@_beat_option
async def run_idle(options: Options, **given: Any) -> Report:
    """CPU, queries and memory while nothing happens."""
    return await idle.run(options, **given)


@benchmark("sessions")
@click.option("--workers", default=10_000, help="Connected workers.")
@click.option("--seconds", default=20.0, help="How long heartbeats are watched.")
@_beat_option
async def run_sessions(options: Options, **given: Any) -> Report:
    """CPU and memory of many workers, and all of them coming back."""
    return await sessions.run(options, **given)


@benchmark("memory")
@click.option("--jobs", default=1_000_000, help="Pending jobs in the end.")
@payload_option
async def run_memory(options: Options, **given: Any) -> Report:
    """Memory under a backlog, and a start over it. One round."""
    return await memory.run(options, **given)


@benchmark("backlog")
@click.option("--taken", default=20_000, help="Jobs that a worker takes after the start.")
@payload_option
@click.option("--delayed-percent", default=50, help="Of what is copied: due tomorrow.")
@click.option("--via", type=click.Choice(["copy", "door"]), default="copy")
@click.option("--tenants", default=16, help="Tenants that share the backlog.")
@click.option("--jobs", default=10_000_000, help="Scheduled jobs.")
async def run_backlog(options: Options, **given: Any) -> Report:
    """Memory and first lease of a start over millions. One round."""
    return await backlog.run(options, BacklogCase(**given))


@benchmark("growth")
@payload_option
@click.option("--jobs", default=20_000, help="Jobs of a flow.")
@click.option(
    "--finished",
    "sizes",
    multiple=True,
    type=click.IntRange(1),
    default=(10_000, 100_000, 1_000_000, 10_000_000),
    help="Finished jobs in the tables.",
)
async def run_growth(options: Options, **given: Any) -> Report:
    """CPU and time of a job over ever more finished ones."""
    return await growth.run(options, **given)


SECTION: Final = Section("Capacity", (run_idle, run_sessions, run_memory, run_backlog, run_growth))
