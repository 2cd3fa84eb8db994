"""What a quiet tenant waits while another floods the engine, against what it waits alone.

The quiet tenant sends single submits at a fixed rate and has one SDK worker with free slots; its
wait is from a submit's leaving the producer to its handler's start. The loud tenant submits `ratio`
times as many jobs in bulk, and has a worker process that completes them; with a ratio of 0 it
submits as many as go through. Each round measures the quiet tenant alone, beside a loud tenant of
its own shard, and beside one of another shard; a ratio is to the same round alone.

All load runs on the machine of the engine, and what the loud tenant's processes take of its cores
is missing to the quiet one's, so a ratio here is the engine's unfairness and more.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import attrs
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.options import Options
from bench.harness.report import Report, percentile, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress
from jobengine.domain.ids import shard_of
from jobengine.settings import Settings

__all__ = ["FairnessCase", "run"]

_WARM_UP_S: Final = 2.0
_PAYLOAD_BYTES: Final = 100
_SUBMITS_IN_FLIGHT: Final = 60
"""A session may have 64."""
_QUIET: Final = "quiet"


@attrs.frozen(kw_only=True)
class FairnessCase:
    """``rate`` is the quiet tenant's, in jobs/s; ``batch`` the jobs of a loud submit, of which
    ``in_flight`` may lack an answer."""

    rate: int = 20
    seconds: float = 15.0
    ratio: int = 100
    batch: int = 100
    in_flight: int = 24


async def run(options: Options, case: FairnessCase) -> Report:
    async with open_target(options) as target:
        report = report_on(target, "fairness", "p95_ratio", "to solo", **attrs.asdict(case))
        shards = int(options.settings.get("shards", Settings().shards))
        quiet = target.as_tenant(_QUIET)
        loud = {
            "same shard": target.as_tenant(_loud_name(shards, same=True)),
            "another shard": target.as_tenant(_loud_name(shards, same=False)),
        }
        for number in range(options.rounds):
            waits = await _measure_round(quiet, loud, case, number)
            solo_ms = waits["solo"]["p95_ms"]
            for name in (*loud, "solo"):
                report.add(name, p95_ratio=waits[name]["p95_ms"] / solo_ms, **waits[name])
        return report


def _loud_name(shards: int, *, same: bool) -> str:
    """A tenant on the quiet one's shard, or on another; with one shard there is no other."""
    names = (f"loud-{number}" for number in count(1))
    quiet = shard_of(_QUIET, shards)
    return next(n for n in names if shards == 1 or (shard_of(n, shards) == quiet) == same)


async def _measure_round(
    quiet: Target, loud: Mapping[str, Target], case: FairnessCase, number: int
) -> dict[str, dict[str, float]]:
    """The quiet tenant's figures alone, and beside each of the loud ones."""
    job_type = quiet.job_type(_QUIET, number)
    submits: dict[str, list[tuple[str, int, int]]] = {}
    rates: dict[str, float] = {}
    async with (
        open_load("worker", **quiet.door(), job_type=job_type, capacity=50, record=True) as worker,
        open_ready_load("producer", quiet) as producer,
    ):

        async def measure(name: str) -> None:
            await _submit(producer, worker, case, job_type, min(case.seconds, _WARM_UP_S))
            async with show_progress(f"{name} {number + 1}", case.seconds, _stopwatch()):
                submits[name] = await _submit(producer, worker, case, job_type, case.seconds)

        await measure("solo")
        for name, target in loud.items():
            async with _flood(target, case, number) as flood:
                await measure(name)
                rates[name] = await flood.stop()
        started = dict((await worker.ask(do="drain"))["record"])
    return {
        name: _waits(record, started) | {"flood_jobs_per_s": rates.get(name, 0.0)}
        for name, record in submits.items()
    }


async def _submit(
    producer: LoadProcess, worker: LoadProcess, case: FairnessCase, job_type: str, seconds: float
) -> list[tuple[str, int, int]]:
    """Submit at the quiet tenant's rate; each job as [id, sent, acked] when all have started."""
    before = worker.count
    jobs = max(1, round(case.rate * seconds))
    submitted = await producer.ask(
        do="submit",
        jobs=jobs,
        batch=1,
        in_flight=min(jobs, _SUBMITS_IN_FLIGHT),
        rate=case.rate,
        job_type=job_type,
        payload_bytes=_PAYLOAD_BYTES,
        record=True,
    )
    await worker.wait_count(before + jobs)
    record: list[tuple[str, int, int]] = submitted["record"]
    return record


def _stopwatch() -> Callable[[], float]:
    began_at = trio.current_time()
    return lambda: trio.current_time() - began_at


def _waits(submits: list[tuple[str, int, int]], started: dict[str, int]) -> dict[str, float]:
    """Percentiles in milliseconds of instants in nanoseconds."""
    waits = [(started[job] - sent) / 1e6 for job, sent, _ in submits]
    answers = [(acked - sent) / 1e6 for _, sent, acked in submits]
    return {
        "p50_ms": percentile(waits, 0.5),
        "p95_ms": percentile(waits, 0.95),
        "p99_ms": percentile(waits, 0.99),
        "p95_answer_ms": percentile(answers, 0.95),
    }


@attrs.define
class _Flood:
    """A loud tenant at work; ``stop`` once, for the jobs/s that it has completed until then."""

    producer: LoadProcess
    worker: LoadProcess
    began: tuple[float, int]

    async def stop(self) -> float:
        (began_at, before), (ended_at, done) = self.began, self.worker.track[-1]
        submitted = await self.producer.ask(do="stop")
        await self.worker.wait_count(submitted["jobs"])
        return (done - before) / (ended_at - began_at)


@asynccontextmanager
async def _flood(loud: Target, case: FairnessCase, number: int) -> AsyncIterator[_Flood]:
    job_type = loud.job_type("loud", number)
    async with (
        open_load("worker", **loud.door(), job_type=job_type, capacity=1000) as worker,
        open_ready_load("producer", loud) as producer,
    ):
        await producer.order(
            do="submit",
            jobs=None,
            batch=case.batch,
            in_flight=case.in_flight,
            rate=case.rate * case.ratio or None,
            job_type=job_type,
            payload_bytes=_PAYLOAD_BYTES,
        )
        await worker.wait_count(max(case.batch, round(case.rate * case.ratio * _WARM_UP_S)))
        yield _Flood(producer, worker, worker.track[-1])
