"""The physical limit: the same rows for each job, written by a bare batched loop.

A server like the engine's own, the engine's schema and its statement, one connection, one commit at
a time; no engine, no network, no admission (`bench.load.bare_loop`). With ``with_throughput`` each
round measures both, one right after the other, and their ratio is the figure that can be compared
between machines.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import click
import trio

from bench import throughput
from bench.harness.children import LoadProcess, open_load
from bench.harness.cost import Meter
from bench.harness.database import Database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target, scratch_directory
from bench.rounds import show_progress
from bench.throughput import ThroughputCase
from jobengine.actors.runtime.clock import SystemClock
from jobengine.engine import migrate_database, open_database
from jobengine.settings import Settings
from jobengine.store.embedded import EmbeddedServer

__all__ = ["run"]

_TENANT = "bench"


async def run(options: Options, case: ThroughputCase, *, with_throughput: bool) -> Report:
    if not options.own_engine:
        raise click.UsageError("store_limit writes to the tables itself: leave --url out")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_open_database(options))
        loop = await stack.enter_async_context(
            open_load("bare_loop", conninfo=database.conninfo, tenant=_TENANT)
        )
        await loop.answer()
        engine = None
        if with_throughput:
            target = await stack.enter_async_context(open_target(options))
            tenants = await stack.enter_async_context(
                throughput.open_tenants(target, options, case)
            )
            engine = (target, tenants)
        report = _report(database, case, with_throughput)
        for number in range(options.rounds):
            limit = await _measure(database, loop, case, number)
            report.add("store_limit", **limit)
            if engine is not None:
                measured = await throughput.measure_round(*engine, case, number)
                ratio = measured["jobs_per_s"] / limit["jobs_per_s"]
                report.add("throughput", **measured, ratio=ratio)
        return report


@asynccontextmanager
async def _open_database(options: Options) -> AsyncIterator[Database]:
    with scratch_directory(options.directory) as scratch:
        settings = Settings(data_dir=scratch)
        async with EmbeddedServer(scratch / "postgres") as server:
            await migrate_database(server.conninfo, settings)
            async with open_database(settings, conninfo=server.conninfo) as store:
                await store.prepare(SystemClock().moment().at)
            yield Database(server.conninfo, postmaster=server.pid)


def _report(database: Database, case: ThroughputCase, with_throughput: bool) -> Report:
    target = Target(
        http_url="", worker_url="", token="", tenant=_TENANT, engine=None, database=database
    )
    settings = attrs.asdict(case) | {"with_throughput": with_throughput}
    return report_on(target, "store_limit", "jobs_per_s", "jobs/s", **settings)


async def _measure(
    database: Database, loop: LoadProcess, case: ThroughputCase, number: int
) -> dict[str, Any]:
    prepare = {
        "do": "prepare",
        "batch": case.batch,
        "job_type": f"bench.limit.{number}",
        "payload_bytes": case.payload_bytes,
    }
    if case.warm_up:
        await loop.ask(jobs=case.warm_up, **prepare)
        await loop.ask(do="write")
    prepared = await loop.ask(jobs=case.jobs, **prepare)
    before = await trio.to_thread.run_sync(database.totals, _TENANT)
    assert database.postmaster is not None
    meter = Meter({"loop": (loop.pid,)}, (database.postmaster,))
    meter.start()
    total = loop.count + prepared["prepared"]
    async with show_progress(f"store_limit {number + 1}", total, lambda: loop.count):
        done = await loop.ask(do="write")
    cpu = meter.spent_per(case.jobs)
    after = await trio.to_thread.run_sync(database.totals, _TENANT)
    return {
        "jobs_per_s": case.jobs / (done["ended_at"] - done["began_at"]),
        "cpu_us_per_job": cpu,
        "jobs_per_commit": case.jobs / done["commits"],
        "wal_bytes_per_job": (after.wal_bytes - before.wal_bytes) / case.jobs,
    }
