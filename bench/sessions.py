"""Worker connections held, each sending heartbeats: what they cost the engine, in CPU and memory.

Workers connect over loopback and send a heartbeat every ten seconds, first without leases, then
each with one. Then every connection is cut at once, and all workers come back naming their leases:
how long that takes, and whether any lease was lost. A fleet with one token is let in by the
engine's own limit of connections, which the times of connecting and of coming back include.

Memory is the engine's resident memory above that before the first connection of the run, by
connection; what the kernel keeps for the sockets is not in it.
"""

import resource
import sys
from typing import Any, Final

import click
import trio

from bench.harness.children import LoadProcess
from bench.harness.cost import rss_mib_of
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress

__all__ = ["measure", "run"]

_SPARE_FILES: Final = 500
_SETTLE_S: Final = 3.0
_BATCH: Final = 100
_LEASE_S: Final = 120.0


async def run(options: Options, *, workers: int, seconds: float, beat_s: float) -> Report:
    _allow_open_files(workers + _SPARE_FILES)
    async with open_target(options) as target:
        return await measure(target, options.rounds, workers, seconds, beat_s)


async def measure(
    target: Target, rounds: int, workers: int, seconds: float, beat_s: float
) -> Report:
    """What `run` reports, of an engine that is there; its limit of open files is what it is."""
    engine = target.require_engine()
    report = report_on(
        target, "sessions", "cpu_percent", "% of a core",
        workers=workers, seconds=seconds, beat_s=beat_s,
    )  # fmt: skip
    empty_mib = rss_mib_of(engine.pid)
    for number in range(rounds):
        job_type = target.job_type("sessions", number)
        async with open_ready_load(
            "idlers", target, workers=workers, job_type=job_type, slots=1
        ) as idlers:
            fleet = _Fleet(target, idlers, workers, beat_s, seconds, empty_mib)
            connected, beating = await fleet.connect(), await fleet.beat()
            await _give_leases(target, idlers, workers, job_type)
            with_leases = await fleet.beat()
            returned = await fleet.come_back()
        report.add(f"{workers:,} beating", **beating)
        report.add(f"{workers:,} beating, a lease each", **with_leases)
        report.add(f"{workers:,} connecting", **connected)
        report.add(f"{workers:,} coming back", **returned)
    return report


def _allow_open_files(needed: int) -> None:
    """For this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > (sys.maxsize if hard == resource.RLIM_INFINITY else hard):
        raise click.UsageError(f"{needed} open files are needed and {hard} allowed: ulimit -Hn")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class _Fleet:
    """All workers of one round, and what the engine spends on them."""

    def __init__(
        self,
        target: Target,
        idlers: LoadProcess,
        workers: int,
        beat_s: float,
        seconds: float,
        empty_mib: float,
    ) -> None:
        self._idlers = idlers
        self._workers = workers
        self._beat_s = beat_s
        self._seconds = seconds
        self._empty_mib = empty_mib
        self._engine = target.require_engine()
        self._meter = target.meter(idlers=[idlers])

    async def connect(self) -> dict[str, Any]:
        self._meter.start()
        began_at = trio.current_time()
        await self._idlers.ask(do="connect")
        return self._figures(trio.current_time() - began_at)

    async def beat(self) -> dict[str, Any]:
        await self._idlers.ask(do="beat", every_s=self._beat_s)
        await trio.sleep(min(_SETTLE_S, self._seconds))
        self._meter.start()
        began_at = trio.current_time()
        async with show_progress("sessions", self._seconds, lambda: trio.current_time() - began_at):
            await trio.sleep(self._seconds)
        took_s = trio.current_time() - began_at
        figures = self._figures(took_s)
        beats_per_s = self._workers / self._beat_s
        return figures | {"engine_us_a_beat": figures["cpu_percent"] * 1e4 / beats_per_s}

    async def come_back(self) -> dict[str, Any]:
        self._meter.start()
        began_at = trio.current_time()
        said = await self._idlers.ask(do="return")
        figures = self._figures(trio.current_time() - began_at)
        return figures | {"resumed": said["resumed"], "lost": said["lost"]}

    def _figures(self, took_s: float) -> dict[str, Any]:
        spent = self._meter.spent()
        rss_mib = rss_mib_of(self._engine.pid)
        return {
            "seconds": took_s,
            "cpu_percent": 100 * spent["engine"] / took_s,
            "postgresql_cpu_percent": 100 * spent.get("postgresql", 0.0) / took_s,
            "idlers_cpu_percent": 100 * spent["idlers"] / took_s,
            "rss_mib": rss_mib,
            "kib_a_session": 1024 * (rss_mib - self._empty_mib) / self._workers,
        }


async def _give_leases(target: Target, idlers: LoadProcess, workers: int, job_type: str) -> None:
    """One to each worker."""
    async with open_ready_load("producer", target) as producer:
        await producer.ask(
            do="submit", jobs=workers, batch=_BATCH, in_flight=8,
            job_type=job_type, payload_bytes=100,
        )  # fmt: skip
        with trio.fail_after(_LEASE_S):
            await idlers.wait_count(workers)
