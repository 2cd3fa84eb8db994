"""How many jobs a second, how fast each, and at what cost."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from bench import drain, enqueue, pickup, shapes, store_limit, throughput, wal
from bench.commands.running import benchmark, payload_option
from bench.commands.sections import Section
from bench.harness.options import Options
from bench.harness.report import Report
from bench.shapes import SHAPES, ShapesCase
from bench.throughput import ThroughputCase

__all__ = ["SECTION"]

F = TypeVar("F", bound=Callable[..., Any])


def _load_options(command: F) -> F:
    """One parameter for each field of `ThroughputCase`."""
    for option in (
        click.option("--tenants", default=1, help="Tenants that share the load; 1 if --url."),
        click.option("--warm-up", default=5_000, help="Jobs before the clock starts."),
        click.option("--via", type=click.Choice(["websocket", "http"]), default="websocket"),
        click.option("--capacity", default=4000, help="Slots of each worker."),
        click.option("--workers", default=1, help="Worker processes."),
        payload_option,
        click.option("--in-flight", default=24, help="Batches without an answer."),
        click.option("--batch", default=100, help="Jobs in a submit, or in a commit."),
        click.option("--jobs", default=100_000, help="Jobs a round."),
    ):
        command = option(command)
    return command


@benchmark("throughput")
@_load_options
@click.option("--limits", is_flag=True, help="Each round once more with a rate and quotas.")
async def run_throughput(options: Options, *, limits: bool, **given: Any) -> Report:
    """Jobs/s from submit to acknowledged completion."""
    return await throughput.run(options, ThroughputCase(**given), limits=limits)


@benchmark("store_limit")
@_load_options
@click.option("--with", "companion", type=click.Choice(["throughput"]), help="Interleave with it.")
async def run_store_limit(options: Options, *, companion: str | None, **given: Any) -> Report:
    """The same rows written by a bare loop."""
    case = ThroughputCase(**given)
    return await store_limit.run(options, case, with_throughput=companion is not None)


@benchmark("enqueue")
@click.option("--case", "part", default="", help="Only the cases whose names hold this.")
@click.option("--jobs", default=100_000, help="Jobs of a bulk case; single cases take a part.")
@payload_option
async def run_enqueue(options: Options, **given: Any) -> Report:
    """Submits/s, in bulk and single; single to the end as well."""
    return await enqueue.run(options, **given)


@benchmark("drain")
@payload_option
@click.option("--capacity", default=4000, help="Slots of the worker.")
@click.option("--jobs", "sizes", multiple=True, type=click.IntRange(1), default=(20_000, 100_000))
async def run_drain(options: Options, **given: Any) -> Report:
    """A ready backlog, by one worker."""
    return await drain.run(options, **given)


@benchmark("pickup")
@click.option("--rate", "rates", multiple=True, type=int, default=(200, 2000), help="Submits/s.")
@click.option("--seconds", default=15.0, help="How long each rate is held.")
async def run_pickup(options: Options, **given: Any) -> Report:
    """From a submit's ack to the handler's start."""
    return await pickup.run(options, **given)


@benchmark("shapes")
@click.option("--delay-ms", default=1.0, help="Added to a round trip to the database.")
@click.option("--readers", default=100, help="Readers of streams.")
@click.option("--tenants", default=1_000)
@click.option("--jobs", default=30_000, help="Jobs of a flow.")
@click.option(
    "--shape", "shapes", multiple=True, type=click.Choice(tuple(SHAPES)), default=tuple(SHAPES)
)
async def run_shapes(options: Options, **given: Any) -> Report:
    """Throughput in the shapes of users' load, to a plain one."""
    return await shapes.run(options, ShapesCase(**given))


@benchmark("wal")
@payload_option
@click.option("--batch", default=100, help="Jobs in a submit.")
@click.option("--jobs", default=50_000, help="Jobs of a flow, of which a round has two.")
async def run_wal(options: Options, **given: Any) -> Report:
    """Bytes of write-ahead log a job, by kind."""
    return await wal.run(options, **given)


SECTION: Final = Section(
    "Jobs",
    (run_throughput, run_store_limit, run_enqueue, run_drain, run_pickup, run_shapes, run_wal),
)
