"""What an engine costs while nothing happens: CPU, transactions, memory.

Three cases: without workers; with idle workers that send nothing; with the same workers sending a
heartbeat every ten seconds, as the protocol asks of workers that hold leases. The quiet case must
be shorter than the silence after which the engine closes a session: right before it and right after
it each worker sends a heartbeat. Transactions are those of the
database's statistics; the benchmark's own, one a reading, are taken off, and a private server
vacuums nothing meanwhile, which would be a hundred transactions a minute.
"""

from typing import Any, Final

import click
import trio

from bench.harness.children import LoadProcess
from bench.harness.cost import rss_mib_of
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress

__all__ = ["run"]

_SETTLE_S: Final = 12.0
"""An idle backend adds what it did to the statistics within ten seconds."""
_SEEN_S: Final = 2.0
"""In which the engine has taken a heartbeat of each worker."""
_QUIET_S_MAX: Final = 25.0


async def run(options: Options, *, workers: int, seconds: float, beat_s: float) -> Report:
    if seconds > _QUIET_S_MAX:
        raise click.UsageError(f"--seconds: at most {_QUIET_S_MAX:g}, or quiet workers are closed")
    async with open_target(options) as target:
        target.require_engine()
        if (database := target.require_database()).postmaster is not None:
            await trio.to_thread.run_sync(database.stop_autovacuum)
        report = report_on(
            target, "idle", "cpu_percent", "% of a core",
            workers=workers, seconds=seconds, beat_s=beat_s,
        )  # fmt: skip
        for _ in range(options.rounds):
            report.add("0 workers", **await _measure(target, seconds))
            async with open_ready_load(
                "idlers", target, workers=workers, job_type=target.job_type("idle")
            ) as idlers:
                await idlers.ask(do="connect")
                quiet, beating = f"{workers} workers, quiet", f"{workers} workers, heartbeats"
                await trio.sleep(min(_SETTLE_S, seconds))
                await idlers.ask(do="beat", every_s=None)
                report.add(quiet, **await _measure(target, seconds, idlers, settle_s=_SEEN_S))
                await idlers.ask(do="beat", every_s=beat_s)
                report.add(beating, **await _measure(target, seconds, idlers))
        return report


async def _measure(
    target: Target,
    seconds: float,
    idlers: LoadProcess | None = None,
    *,
    settle_s: float = _SETTLE_S,
) -> dict[str, Any]:
    database = target.require_database()
    engine = target.require_engine()
    await trio.sleep(min(settle_s, seconds))
    before = await trio.to_thread.run_sync(database.totals, target.tenant)
    meter = target.meter(**({"idlers": [idlers]} if idlers is not None else {}))
    meter.start()
    began_at = trio.current_time()
    async with show_progress("idle", seconds, lambda: trio.current_time() - began_at):
        await trio.sleep(seconds)
    elapsed_s = trio.current_time() - began_at
    spent = meter.spent()
    after = await trio.to_thread.run_sync(database.totals, target.tenant)
    return {
        "cpu_percent": 100 * spent["engine"] / elapsed_s,
        "postgresql_cpu_percent": 100 * spent.get("postgresql", 0.0) / elapsed_s,
        "queries_per_s": max(0, after.transactions - before.transactions - 1) / elapsed_s,
        "rss_mib": rss_mib_of(engine.pid),
    }
