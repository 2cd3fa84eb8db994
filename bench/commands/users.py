"""What tenants, sources, runs and readers have of it."""

from typing import Any, Final

import click

from bench import adaptive, fairness, runs, streams
from bench.adaptive import AdaptiveCase
from bench.commands.running import benchmark, payload_option
from bench.commands.sections import Section
from bench.fairness import FairnessCase
from bench.harness.options import Options
from bench.harness.report import Report
from bench.run_shapes import SHAPES
from bench.runs import RunCase
from bench.streams import StreamsCase

__all__ = ["SECTION"]


@benchmark("fairness")
@click.option("--in-flight", default=24, help="Submits of the flood without an answer.")
@click.option("--batch", default=100, help="Jobs in a submit of the flood.")
@click.option("--ratio", default=100, help="The flood's rate to the quiet one's; 0: no limit.")
@click.option("--seconds", default=15.0, help="How long each case is measured.")
@click.option("--rate", default=20, help="The quiet tenant's submits/s.")
async def run_fairness(options: Options, **given: Any) -> Report:
    """A quiet tenant's wait beside a flood, to alone."""
    return await fairness.run(options, FairnessCase(**given))


@benchmark("adaptive")
@click.option("--seconds", default=25.0, help="How long each phase is measured.")
@click.option("--rise-s", default=200.0, help="How long the last phase may settle first.")
@click.option("--settle-s", default=90.0, help="How long the others may.")
@click.option("--per-second", default=50, help="The hidden limit, before it falls to a half.")
async def run_adaptive(options: Options, **given: Any) -> Report:
    """How near to an upstream's hidden, moving limit."""
    return await adaptive.run(options, AdaptiveCase(**given))


@benchmark("runs")
@payload_option
@click.option("--width", default=1_000, help="Nodes of a level, of a layered run.")
@click.option(
    "--shape", "shapes", multiple=True, type=click.Choice(tuple(SHAPES)), default=("layered",)
)
@click.option("--nodes", default=10_000, help="Nodes of each run.")
async def run_runs(options: Options, **given: Any) -> Report:
    """A run to as many single jobs; its graph and chart."""
    return await runs.run(options, RunCase(**given))


@benchmark("streams")
@click.option("--jobs", default=60_000, help="Jobs of each round of throughput.")
@click.option("--seconds", default=15.0, help="How long the rate is held.")
@click.option("--rate", default=500, help="Events/s.")
@click.option("--steady-readers", default=100)
@click.option("--burst", default=2_000, help="Events of the burst.")
@click.option("--readers", default=1_000, help="Readers of the burst.")
@click.option("--via", type=click.Choice(["sse", "websocket"]), default="sse")
async def run_streams(options: Options, **given: Any) -> Report:
    """Events to many readers: waits, memory, cost to the jobs."""
    return await streams.run(options, StreamsCase(**given))


SECTION: Final = Section(
    "Tenants, runs, readers", (run_fairness, run_adaptive, run_runs, run_streams)
)
