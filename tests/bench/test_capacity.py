"""The benchmarks of drain, sessions, horizon, backlog, write-ahead log, growth and shapes, at the
size of toys over one engine."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import trio

from bench import backlog, enqueue, growth, horizon, sessions, shapes, wal
from bench.backlog import BacklogCase
from bench.drain import measure_drain
from bench.flow import Flow, measure_flow
from bench.harness.children import open_load
from bench.harness.database import Database
from bench.harness.options import Options
from bench.harness.report import Report
from bench.harness.target import Target, open_target
from bench.horizon import Cycles, HorizonCase, pinned_transaction
from bench.shapes import ShapesCase

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def runs_of(report: Report) -> list[dict[str, Any]]:
    """The runs of a report that has all that a report has to have."""
    told = report.document()
    assert told["durability"] == DURABLE
    assert {"jobengine", "postgresql"} <= told["versions"].keys()
    assert told["median"] > 0
    runs: list[dict[str, Any]] = told["runs"]
    return runs


async def test_each_benchmark_of_capacity_measures_an_engine() -> None:
    with trio.fail_after(300):
        async with open_target(Options(rounds=1)) as target:
            await drains(target)
            await holds_sessions(target)
            await keeps_its_pace_while_a_transaction_is_open(target)
            await tells_what_the_log_is_made_of(target)
            await grows(target)
            await takes_many_shapes(target)
            await starts_over_a_backlog(target)


async def drains(target: Target) -> None:
    measured = await measure_drain(target, 300, 100, 100, 0)
    assert measured["jobs_per_s"] > 0
    assert measured["cpu_us_per_job"].keys() == {"engine", "worker", "postgresql"}


async def holds_sessions(target: Target) -> None:
    runs = runs_of(await sessions.measure(target, 1, 12, 0.2, 0.05))
    assert [run["case"] for run in runs] == [
        *("12 beating", "12 beating, a lease each", "12 connecting", "12 coming back"),
    ]
    assert (runs[-1]["resumed"], runs[-1]["lost"]) == (12, 0)


async def keeps_its_pace_while_a_transaction_is_open(target: Target) -> None:
    """A cycle within it; it is gone afterwards."""
    database = target.require_database()
    cycles = Cycles(target, HorizonCase(jobs=100, rate=50, seconds=0.1))
    async with pinned_transaction(database):
        assert open_transactions(database) == 1
        measured = await cycles.measure()
    assert open_transactions(database) == 0
    told = horizon.compared(measured, [measured])
    assert (told["ratio"], told["p99_ratio"]) == (1.0, 1.0)
    assert told["churned_mib"].keys() == {"ledger_heads", "waiting", "leases"}


def open_transactions(database: Database) -> int:
    with database.connection() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def tells_what_the_log_is_made_of(target: Target) -> None:
    await trio.to_thread.run_sync(wal.prepare, target.require_database())
    fresh = await wal.measure_wal(target, Flow(jobs=200, warm_up=1), target.job_type("wal"))
    kinds = sum(fresh["bytes_a_job_by_kind"].values())
    assert 0 < kinds <= fresh["bytes_per_job"] + 1
    assert fresh["full_page_percent"] > 0


async def grows(target: Target) -> None:
    """To just as many as were asked for: what is copied are originals, and no copies."""
    job_type = target.job_type("originals")
    filled = await growth.begin(target, Flow(jobs=50, warm_up=1), job_type)
    await filled.fill(120)
    await filled.fill(300)
    with target.require_database().connection() as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT job_id), min(state), max(state), "
            "(max(created_at) - min(created_at)) / 3600000000 FROM jobs WHERE job_type = %s",
            (job_type,),
        ).fetchone()
    assert row == (300, 300, "completed", "completed", 1), "a copy of a copy is two hours old"


async def takes_many_shapes(target: Target) -> None:
    case = ShapesCase(shapes=("tenants",), jobs=100, tenants=20)
    (run,) = runs_of(await shapes.measure(target, None, 1, case))
    assert run["case"] == "tenants"
    with target.require_database().connection() as connection:
        rows = connection.execute(
            "SELECT tenant_id, count(*) > 1 FROM jobs WHERE job_type LIKE '%.tenants.0.shape' "
            "GROUP BY tenant_id ORDER BY tenant_id"
        ).fetchall()
    assert rows == sorted((f"shapes-{number}", True) for number in range(20))
    await measure_flow(
        target, Flow(jobs=100, warm_up=40, failing_every=20), target.job_type("failing")
    )
    with target.require_database().connection() as connection:
        row = connection.execute(
            "SELECT count(*), sum(failures) FROM jobs WHERE job_type LIKE '%.failing'"
        ).fetchone()
    # Every twentieth of the warm-up, and of the others.
    assert row == (140, 2 + 5)


async def starts_over_a_backlog(target: Target) -> None:
    case = BacklogCase(jobs=4_000, tenants=2, taken=200)
    started, taken, loaded, idle = runs_of(await backlog.measure(target, case))
    assert started["case"] == "started over the backlog"
    assert 0 < started["serving_s"] <= started["first_grant_s"]
    assert taken["taken_per_s"] > 0
    assert loaded["jobs"] == 4_000
    assert idle["jobs"] == 0
    with target.require_database().connection() as connection:
        rows = connection.execute(
            "SELECT tenant_id, count(*), count(*) FILTER (WHERE w.due_at > j.created_at + 3600e6) "
            "FROM jobs j JOIN waiting w USING (tenant_id, job_id) "
            "WHERE tenant_id = 'backlog-1' GROUP BY tenant_id"
        ).fetchall()
    assert rows == [("backlog-1", 2_000, 500)]


async def test_the_proxy_delays_each_direction_and_ends_both_together(tmp_path: Path) -> None:
    path = str(tmp_path / "echo")

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen()
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, echo, [trio.SocketListener(listener)])
            async with open_load("delay", path=path, delay_s=0.02) as proxy:
                port = (await proxy.answer())["port"]
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    began_at = time.monotonic()
                    await stream.send_all(b"there and back")
                    heard = await stream.receive_some()
                    assert time.monotonic() - began_at >= 0.04
                    assert heard == b"there and back"
                    await stream.send_eof()
                    assert await stream.receive_some() == b""
            nursery.cancel_scope.cancel()


def test_growth_is_told_as_ratios_to_the_flow_beside_it() -> None:
    full = {"jobs_per_s": 50.0, "cpu_us_per_job": {"engine": 30.0, "postgresql": 60.0}}
    small = {"jobs_per_s": 100.0, "cpu_us_per_job": {"engine": 30.0, "postgresql": 30.0}}
    told = growth.compared(full, small)
    assert (told["ratio"], told["cpu_ratio"], told["cpu_us"]) == (0.5, 1.5, 90.0)


async def test_more_sessions_than_open_files_are_allowed_are_refused() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = hard if hard != resource.RLIM_INFINITY else sys.maxsize
    with pytest.raises(click.UsageError, match="open files"):
        await sessions.run(Options(), workers=workers, seconds=1.0, beat_s=1.0)


async def test_a_case_of_enqueue_that_is_not_there_is_refused() -> None:
    with pytest.raises(click.UsageError, match="no case"):
        await enqueue.run(Options(), jobs=10, payload_bytes=100, part="nonesuch")
