"""The command line: one command a benchmark, and ``all``.

I1  Ctrl-C or SIGTERM stops what was started, in order, and ends with 130.
"""

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import click
import trio

from bench import (
    adaptive,
    admission,
    dag,
    doors,
    enqueue,
    fairness,
    idle,
    memory,
    pickup,
    recovery,
    runs,
    sim,
    store_limit,
    streams,
    throughput,
)
from bench.adaptive import AdaptiveCase
from bench.admission import AdmissionCase
from bench.fairness import FairnessCase
from bench.harness.errors import BenchmarkError, leaves
from bench.harness.options import Options, target_options
from bench.harness.report import Report
from bench.run_shapes import SHAPES
from bench.runs import RunCase
from bench.streams import StreamsCase
from bench.throughput import ThroughputCase

_INTERRUPTED = 130
_OPTIONS = frozenset(field.name for field in attrs.fields(Options))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def bench() -> None:
    """Measure jobengine. Without --url each benchmark starts an engine and database of its own,
    which are gone afterwards. The last line printed is one JSON object."""


def _load_options(command: Any) -> Any:
    for option in (
        click.option("--tenants", default=1, help="Tenants that share the load; 1 if --url."),
        click.option("--warm-up", default=5_000, help="Jobs before the clock starts."),
        click.option("--via", type=click.Choice(["websocket", "http"]), default="websocket"),
        click.option("--capacity", default=4000, help="Slots of each worker."),
        click.option("--workers", default=1, help="Worker processes."),
        click.option("--payload-bytes", default=100),
        click.option("--in-flight", default=24, help="Batches without an answer."),
        click.option("--batch", default=100, help="Jobs in a submit, or in a commit."),
        click.option("--jobs", default=100_000, help="Jobs a round."),
    ):
        command = option(command)
    return command


@bench.command(name="throughput")
@target_options
@_load_options
@click.option("--limits", is_flag=True, help="Each round once more with a rate and quotas.")
def run_throughput(limits: bool, **given: Any) -> None:
    """Jobs/s from submit to acknowledged completion."""
    options, rest = _split(given)
    _run(lambda: throughput.run(options, ThroughputCase(**rest), limits=limits))


@bench.command(name="store_limit")
@target_options
@_load_options
@click.option("--with", "companion", type=click.Choice(["throughput"]), help="Interleave with it.")
def run_store_limit(companion: str | None, **given: Any) -> None:
    """The same rows written by a bare loop."""
    options, rest = _split(given)
    case = ThroughputCase(**rest)
    _run(lambda: store_limit.run(options, case, with_throughput=companion is not None))


@bench.command(name="enqueue")
@target_options
@click.option("--jobs", default=100_000, help="Jobs of a bulk case; single cases take a part.")
@click.option("--payload-bytes", default=100)
def run_enqueue(**given: Any) -> None:
    """Submits/s, in bulk and single."""
    options, rest = _split(given)
    _run(lambda: enqueue.run(options, **rest))


@bench.command(name="pickup")
@target_options
@click.option("--rate", "rates", multiple=True, type=int, default=(200, 1000), help="Submits/s.")
@click.option("--seconds", default=15.0, help="How long each rate is held.")
def run_pickup(**given: Any) -> None:
    """From commit to the handler's start."""
    options, rest = _split(given)
    _run(lambda: pickup.run(options, **rest))


@bench.command(name="fairness")
@target_options
@click.option("--in-flight", default=24, help="Submits of the flood without an answer.")
@click.option("--batch", default=100, help="Jobs in a submit of the flood.")
@click.option("--ratio", default=100, help="The flood's rate to the quiet one's; 0: no limit.")
@click.option("--seconds", default=15.0, help="How long each case is measured.")
@click.option("--rate", default=20, help="The quiet tenant's submits/s.")
def run_fairness(**given: Any) -> None:
    """A quiet tenant's wait beside a flood, to alone."""
    options, rest = _split(given)
    _run(lambda: fairness.run(options, FairnessCase(**rest)))


@bench.command(name="adaptive")
@target_options
@click.option("--seconds", default=25.0, help="How long each phase is measured.")
@click.option("--rise-s", default=200.0, help="How long the last phase may settle first.")
@click.option("--settle-s", default=90.0, help="How long the others may.")
@click.option("--per-second", default=50, help="The hidden limit, before it falls to a half.")
def run_adaptive(**given: Any) -> None:
    """How near to an upstream's hidden, moving limit."""
    options, rest = _split(given)
    _run(lambda: adaptive.run(options, AdaptiveCase(**rest)))


@bench.command(name="idle")
@target_options
@click.option("--workers", default=1000, help="Connected workers.")
@click.option("--seconds", default=25.0, help="How long each case is watched.")
@click.option("--beat-s", default=10.0, help="Seconds between two heartbeats of a worker.")
def run_idle(**given: Any) -> None:
    """CPU, queries and memory while nothing happens."""
    options, rest = _split(given)
    _run(lambda: idle.run(options, **rest))


@bench.command(name="memory")
@target_options
@click.option("--jobs", default=1_000_000, help="Pending jobs in the end.")
@click.option("--payload-bytes", default=100)
def run_memory(**given: Any) -> None:
    """Memory under a backlog, and a start over it. One round."""
    options, rest = _split(given)
    _run(lambda: memory.run(options, **rest))


@bench.command(name="recovery")
@target_options
@click.option("--restarts", default=0, help="Restart the database so often, instead of kills.")
@click.option("--seconds", default=5.0, help="Load before each kill or restart.")
@click.option("--rate", default=0, help="Jobs/s; 0: as many as go through.")
@click.option("--batch", default=100)
def run_recovery(**given: Any) -> None:
    """Engine and database killed, or the database restarted, under load."""
    options, rest = _split(given)
    _run(lambda: recovery.run(options, **rest))


@bench.command(name="doors")
@click.option("--rounds", default=3, help="How often each case is run.")
@click.option("--requests", default=2_000, help="Requests a case.")
@click.option("--payload-bytes", default=100)
def run_doors(**given: Any) -> None:
    """CPU that authorisation and validation add to a request. No engine process, no database."""
    options, rest = _split(given)
    _run(lambda: doors.run(options, **rest))


@bench.command(name="admission")
@click.option("--rounds", default=3, help="How often both cases are run.")
@click.option("--tenants", default=10_000)
@click.option("--sources", default=10, help="Of each tenant.")
@click.option("--jobs", default=50_000, help="Jobs a round.")
@click.option("--batch", default=100, help="Jobs in a submit.")
def run_admission(**given: Any) -> None:
    """CPU that admission adds to a job, every gate in play. No engine process, no database."""
    options, rest = _split(given)
    _run(lambda: admission.run(options, AdmissionCase(**rest)))


@bench.command(name="dag")
@click.option("--rounds", default=3, help="How often each case is run.")
@click.option("--nodes", "sizes", multiple=True, type=int, default=(10_000, 100_000))
def run_dag(**given: Any) -> None:
    """Planning a run and advancing it, against networkx. No engine process, no database."""
    options, rest = _split(given)
    _run(lambda: dag.run(options, **rest))


@bench.command(name="runs")
@target_options
@click.option("--payload-bytes", default=100)
@click.option("--width", default=1_000, help="Nodes of a level, of a layered run.")
@click.option(
    "--shape", "shapes", multiple=True, type=click.Choice(tuple(SHAPES)), default=("layered",)
)
@click.option("--nodes", default=10_000, help="Nodes of each run.")
def run_runs(**given: Any) -> None:
    """A run from request to end, to as many single jobs; its graph and chart."""
    options, rest = _split(given)
    _run(lambda: runs.run(options, RunCase(**rest)))


@bench.command(name="streams")
@target_options
@click.option("--jobs", default=60_000, help="Jobs of each round of throughput.")
@click.option("--seconds", default=15.0, help="How long the rate is held.")
@click.option("--rate", default=500, help="Events/s.")
@click.option("--steady-readers", default=100)
@click.option("--burst", default=2_000, help="Events of the burst.")
@click.option("--readers", default=1_000, help="Readers of the burst.")
@click.option("--via", type=click.Choice(["sse", "websocket"]), default="sse")
def run_streams(**given: Any) -> None:
    """Events to many readers: waits, memory, and what they cost the jobs."""
    options, rest = _split(given)
    _run(lambda: streams.run(options, StreamsCase(**rest)))


@bench.command(name="sim")
@click.option("--rounds", default=3, help="How often the batch is made.")
@click.option("--seeds", default=40, help="Seeds a batch, each twice.")
@click.option("--scenario", default="everything", help="Name or file.")
def run_sim(**given: Any) -> None:
    """Seeds a minute of the simulator; simulated to real time. No engine process, no database."""
    options, rest = _split(given)
    _run(lambda: sim.run(options, **rest))


@bench.command(name="all")
@click.pass_context
def run_all(context: click.Context) -> None:
    """Every benchmark with its defaults, one after the other; a line of JSON each."""
    for command in bench.commands.values():
        if command.name != "all":
            context.invoke(command)


def _split(given: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """What every benchmark can be told, and what is this one's."""
    options = {name: value for name, value in given.items() if name in _OPTIONS}
    return Options(**options), {n: value for n, value in given.items() if n not in _OPTIONS}


def _run(measure: Callable[[], Awaitable[Report]]) -> None:
    try:
        report = trio.run(_until_signal, measure)
    except Exception as error:
        for leaf in leaves(error):
            if isinstance(leaf, click.ClickException):
                raise leaf from None
            if isinstance(leaf, BenchmarkError):
                raise click.ClickException(str(leaf)) from None
        raise
    if report is None:
        sys.exit(_INTERRUPTED)
    report.show()


async def _until_signal(measure: Callable[[], Awaitable[Report]]) -> Report | None:
    """The report, or None when a signal came first; then everything that was started is stopped."""
    report: Report | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_at_signal, nursery.cancel_scope)
        report = await measure()
        nursery.cancel_scope.cancel()
    return report


async def _cancel_at_signal(
    everything: trio.CancelScope, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            everything.cancel()


if __name__ == "__main__":
    bench()
