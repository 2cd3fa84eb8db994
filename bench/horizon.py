"""What a transaction that stays open does to the engine: rate and pick-up while one is pinned.

A transaction of level REPEATABLE READ that has read holds PostgreSQL's horizon: nothing that is
deleted or updated after it can be vacuumed, so tables that change all the time grow, and so may
each look into them. Cycles of a flow at full rate, which makes the dead rows, and of single submits
at a fixed rate, whose pick-up is timed (`bench.pickup`), run before it is opened, for so many
minutes while it is open, and after it has gone. ``ratio`` and ``p99_ratio`` of a cycle are to the
medians of the cycles before; the latter from ``createdAt``, for counted from the ack a pick-up may
take no time at all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from statistics import median
from typing import Any, Final

import attrs
import psycopg
import trio

from bench.flow import Flow, measure_flow
from bench.harness.database import Database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.pickup import measure_pickup

__all__ = ["Cycles", "HorizonCase", "compared", "pinned_transaction", "run"]

_CHURNED: Final = ("ledger_heads", "waiting", "leases")


@attrs.frozen(kw_only=True)
class HorizonCase:
    """`cycles` before and after; each is `jobs` at full rate, then `rate` for `seconds`."""

    minutes: float = 10.0
    cycles: int = 3
    jobs: int = 100_000
    rate: int = 200
    seconds: float = 10.0


async def run(options: Options, case: HorizonCase) -> Report:
    """One pinned transaction a round, the last third of its cycles as the headline."""
    async with open_target(options) as target:
        report = report_on(target, "horizon", "jobs_per_s", "jobs/s", **attrs.asdict(case))
        cycles = Cycles(target, case)
        await measure_flow(target, Flow(jobs=case.jobs), target.job_type("horizon", "warm-up"))
        for _ in range(options.rounds):
            await _round(report, cycles, case)
        return report


async def _round(report: Report, cycles: "Cycles", case: HorizonCase) -> None:
    before = [await cycles.measure() for _ in range(case.cycles)]
    pinned: list[dict[str, Any]] = []
    async with pinned_transaction(cycles.target.require_database()):
        began_at = trio.current_time()
        while not pinned or trio.current_time() - began_at < 60 * case.minutes:
            measured = await cycles.measure()
            pinned.append(measured | {"minute": (trio.current_time() - began_at) / 60})
    after = [await cycles.measure() for _ in range(case.cycles)]
    late = pinned[-max(1, len(pinned) // 3) :]
    report.add("pinned, last third", **compared(_medians(late), before))
    for name, all_measured in (("before", before), ("pinned", pinned), ("after", after)):
        for measured in all_measured:
            report.add(name, **compared(measured, before))


class Cycles:
    """Measures one after the other of a run."""

    def __init__(self, target: Target, case: HorizonCase) -> None:
        self.target = target
        self._case = case
        self._numbers = count()

    async def measure(self) -> dict[str, Any]:
        number, case = next(self._numbers), self._case
        job_type = self.target.job_type("horizon", number)
        flow = await measure_flow(self.target, Flow(jobs=case.jobs), job_type)
        waits = await measure_pickup(self.target, case.rate, case.seconds, number)
        churned = await trio.to_thread.run_sync(_churned_mib, self.target.require_database())
        return {
            "jobs_per_s": flow["jobs_per_s"],
            "p50_ms": waits["p50_ms"],
            "p99_ms": waits["p99_ms"],
            "p99_since_created_ms": waits["p99_since_created_ms"],
            "cpu_us_per_job": flow["cpu_us_per_job"],
            "churned_mib": churned,
        }


def compared(measured: dict[str, Any], before: list[dict[str, Any]]) -> dict[str, Any]:
    usual = _medians(before)
    return measured | {
        "ratio": measured["jobs_per_s"] / usual["jobs_per_s"],
        "p99_ratio": measured["p99_since_created_ms"] / usual["p99_since_created_ms"],
    }


def _medians(cycles: list[dict[str, Any]]) -> dict[str, float]:
    """Of the figures that are numbers."""
    names = [name for name, value in cycles[0].items() if isinstance(value, float)]
    return {name: median(cycle[name] for cycle in cycles) for name in names}


@asynccontextmanager
async def pinned_transaction(database: Database) -> AsyncIterator[None]:
    """Open for the block. It ends with this process, whatever ends that."""
    connection = await trio.to_thread.run_sync(_pin, database.conninfo)
    try:
        yield
    finally:
        connection.close()


def _pin(conninfo: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(conninfo, application_name="bench")
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT next_seq FROM ledger_heads")
    return connection


def _churned_mib(database: Database) -> dict[str, float]:
    """Size of each table that changes all the time, its indexes included."""
    with database.connection() as connection:
        rows = connection.execute(
            "SELECT name, pg_total_relation_size(name::regclass) FROM unnest(%s::text[]) AS name",
            (list(_CHURNED),),
        ).fetchall()
    return {str(name): round(size / 2**20, 1) for name, size in rows}
