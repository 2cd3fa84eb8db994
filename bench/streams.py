"""Live streams: many readers at once, what they wait, and what they cost the jobs.

- `burst`: a bulk makes a burst of events; each of many readers gets every one, once, in order.
  The figure is how long until the last of them has the last.
- `steady`: events come at a rate; from an event's instant, which is before its commit, to a reader.
- `stalled`: the same with one more reader that reads nothing, in turns with `steady`.
- `idle`: what readers add to the engine's memory while nothing happens.
- `jobs`: `throughput` without and with a hundred readers, in turns; readers of everything, and
  readers that follow the events of one run.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import attrs
import trio

from bench.harness.children import LoadProcess
from bench.harness.cost import rss_mib_of
from bench.harness.errors import MeasurementFailedError
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress
from bench.throughput import ThroughputCase, measure_round, open_tenants

__all__ = ["StreamsCase", "run"]

_EVENTS_PER_JOB: Final = 2
"""Of a job that no worker asks for: created, scheduled."""
_TICK_JOBS: Final = 5
_READERS_OF_JOBS: Final = 100
_SETTLE_S: Final = 3.0


@attrs.frozen(kw_only=True)
class StreamsCase:
    """`readers` take part in the burst and are idle; `steady_readers` in all other cases."""

    via: Literal["sse", "websocket"] = "sse"
    readers: int = 1_000
    burst: int = 2_000
    steady_readers: int = 100
    rate: int = 500
    seconds: float = 15.0
    jobs: int = 60_000


async def run(options: Options, case: StreamsCase) -> Report:
    async with open_target(options) as target:
        report = report_on(target, "streams", "p99_ms", "ms", **attrs.asdict(case))
        for number in range(options.rounds):
            report.add("burst", **await _burst(target, case, number))
            for stalled in (0, 1) if number % 2 else (1, 0):
                name = "one stalled" if stalled else "steady"
                report.add(name, **await _steady(target, case, number, stalled))
            await _beside_jobs(report, target, options, case, number)
        return report


async def _burst(target: Target, case: StreamsCase, number: int) -> dict[str, Any]:
    memory_mib = _memory(target)
    async with _open_readers(target, case.readers, case.via) as readers:
        await trio.sleep(_SETTLE_S)
        idle_kib = 1024 * (_memory(target) - memory_mib) / case.readers
        async with open_ready_load("poster", target) as poster:
            meter = target.meter(readers=[readers])
            await readers.ask(do="mark")
            meter.start()
            await poster.ask(**_bulk(target, case, number))
            total = case.readers * case.burst
            async with show_progress("burst", total, lambda: readers.count):
                said = await readers.ask(do="await", events=case.burst)
            cpu_s = meter.spent()
        _check(said, total)
    return {**_figures(said), "kib_a_reader": idle_kib, "cpu_s": cpu_s}


def _bulk(target: Target, case: StreamsCase, number: int) -> dict[str, Any]:
    return {
        "do": "post",
        "jobs": case.burst // _EVENTS_PER_JOB,
        "batch": case.burst // _EVENTS_PER_JOB,
        "clients": 1,
        "job_type": target.job_type("burst", number),
        "payload_bytes": 100,
    }


async def _steady(target: Target, case: StreamsCase, number: int, stalled: int) -> dict[str, Any]:
    jobs = round(case.rate / _EVENTS_PER_JOB * case.seconds)
    async with (
        _open_readers(target, case.steady_readers, case.via) as readers,
        open_ready_load("producer", target) as producer,
    ):
        if stalled:
            await readers.ask(do="open", readers=stalled, via=case.via, stalled=True)
        meter = target.meter(readers=[readers])
        await readers.ask(do="mark")
        meter.start()
        await producer.ask(
            do="submit",
            jobs=jobs,
            batch=_TICK_JOBS,
            in_flight=32,
            rate=case.rate / _EVENTS_PER_JOB,
            job_type=target.job_type("steady", number, stalled),
            payload_bytes=100,
        )
        said = await readers.ask(do="await", events=jobs * _EVENTS_PER_JOB)
        cpu_s = meter.spent()
        _check(said, case.steady_readers * jobs * _EVENTS_PER_JOB)
    return {**_figures(said), "cpu_s": cpu_s}


async def _beside_jobs(
    report: Report, target: Target, options: Options, case: StreamsCase, number: int
) -> None:
    """Throughput without readers, with readers of everything, and with readers of one run each.
    Those of everything fall behind, and are left before they have caught up."""
    load = ThroughputCase(jobs=case.jobs, warm_up=case.jobs // 12)

    async def throughput(part: int) -> float:
        async with open_tenants(target, options, load) as tenants:
            measured = await measure_round(target, tenants, load, 10 * number + part)
        return float(measured["jobs_per_s"])

    alone = await throughput(0)
    for part, (name, query) in enumerate(
        (("jobs, readers of everything", ""), ("jobs, readers of runs", _OF_A_RUN)), start=1
    ):
        async with _open_readers(target, _READERS_OF_JOBS, case.via, query) as readers:
            await readers.ask(do="mark")
            with_readers = await throughput(part)
            said = await readers.ask(do="tell")
        if said["gaps"] or said["repeats"]:
            raise MeasurementFailedError(f"readers missed or repeated events: {said}")
        report.add(
            name,
            **_figures(said),
            jobs_per_s=with_readers,
            alone_jobs_per_s=alone,
            ratio=with_readers / alone,
        )


_OF_A_RUN: Final = "runId=0190a5d2-0000-7000-8000-000000000000"


@asynccontextmanager
async def _open_readers(
    target: Target, readers: int, via: str, query: str = ""
) -> AsyncIterator[LoadProcess]:
    async with open_ready_load("readers", target) as load:
        await load.ask(do="open", readers=readers, via=via, filter=query)
        yield load


def _memory(target: Target) -> float:
    return 0.0 if target.engine is None else rss_mib_of(target.engine.pid)


def _figures(said: dict[str, Any]) -> dict[str, Any]:
    rate = said["events"] / said["seconds"]
    return {
        "p99_ms": said["p99_ms"],
        "p50_ms": said["p50_ms"],
        "max_ms": said["max_ms"],
        "seconds": said["seconds"],
        "events_per_s": rate,
        "gaps": said["gaps"],
        "repeats": said["repeats"],
    }


def _check(said: dict[str, Any], events: int) -> None:
    if said["gaps"] or said["repeats"] or said["events"] != events:
        raise MeasurementFailedError(f"{events} events should have come, each once: {said}")
