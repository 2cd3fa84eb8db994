"""What is measured of each system, in the same way for all of them.

``end to end``      producer and worker at once, batches of 100
``single``          the same with single submits of 8 clients, each waiting for its answer
``drain``           a backlog that is ready before the worker starts
``bulk enqueue``    1,000 jobs a call, 2 calls at a time, nobody works
``pick-up``         single submits at 200/s: from the submit's answer, which comes after the commit,
                    and from when it was sent, to the handler's start; it may overtake the answer

Rates end with the last acknowledgement. A drain is measured from the first sign that the worker
works, so that the start of a process is in no figure; where nothing is left then, from that start.
Whoever takes longer than `seconds_max` is cut short there: what its handlers have done by then is
its rate, and the run says ``cut``. CPU is that of each process and the server, a job.
"""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import attrs
import trio

from bench.harness.children import LoadProcess
from bench.harness.cost import Meter
from bench.harness.errors import MeasurementFailedError
from bench.harness.report import percentile
from bench.peers.systems import Arena, System

__all__ = ["CASES", "PICK_UP", "PeersCase", "measure"]

_BATCH: Final = 100
_BULK_BATCH, _BULK_CLIENTS = 1000, 2
_CLIENTS: Final = 8
_LINKS: Final = 4
PICK_UP: Final = "pick-up"


@attrs.frozen(kw_only=True)
class PeersCase:
    """`jobs` of `end to end` and `bulk enqueue`; a tenth of them warms up. `single` takes a tenth
    of them."""

    jobs: int = 20_000
    backlog: int = 20_000
    rate: int = 200
    seconds: float = 5.0
    seconds_max: float = 10.0
    payload_bytes: int = 100


class _Measure(Protocol):
    async def __call__(self, system: System, arena: Arena, case: PeersCase) -> dict[str, Any]: ...


async def measure(name: str, system: System, case: PeersCase) -> dict[str, Any]:
    """One run of a case: its `figure`, in jobs/s or ms, and more."""
    async with system.open_arena(name) as arena:
        return await CASES[name](system, arena, case)


async def _end_to_end(system: System, arena: Arena, case: PeersCase) -> dict[str, Any]:
    return await _flow(system, arena, case, case.jobs, batch=_BATCH, clients=_LINKS)


async def _single(system: System, arena: Arena, case: PeersCase) -> dict[str, Any]:
    jobs = max(_CLIENTS, case.jobs // 10)
    return await _flow(system, arena, case, jobs, batch=1, clients=_CLIENTS)


async def _flow(
    system: System, arena: Arena, case: PeersCase, jobs: int, *, batch: int, clients: int
) -> dict[str, Any]:
    warm_up = max(1, jobs // 10)
    order = {"batch": batch, "clients": clients, "payload_bytes": case.payload_bytes}
    async with arena.open_worker() as worker, arena.open_producer(clients) as producer:
        with _bounded(case):
            await arena.submit(producer, warm_up, **order)
            await producer.answer()
            await worker.wait_count(warm_up)
        clock = _Clock.start(system, worker, producer)
        with trio.move_on_after(case.seconds_max):
            await arena.submit(producer, jobs, **order)
            await producer.answer()
            await worker.wait_count(clock.count + jobs)
            return clock.stop((await arena.settle(worker))[0], worker, jobs)
        return clock.cut(worker)


async def _drain(system: System, arena: Arena, case: PeersCase) -> dict[str, Any]:
    async with arena.open_producer(_BULK_CLIENTS, bulk=True) as producer:
        await _fill(arena, producer, case, case.backlog)
    opened_at = time.monotonic()
    async with arena.open_worker() as worker:
        with _bounded(case):
            await worker.wait_count(1)
        clock = _Clock.start(system, worker)
        if clock.count == case.backlog:
            clock = attrs.evolve(clock, at=opened_at, count=0)
        left = case.backlog - clock.count
        with trio.move_on_after(case.seconds_max):
            await worker.wait_count(case.backlog)
            return clock.stop((await arena.settle(worker))[0], worker, left)
        return clock.cut(worker)


async def _bulk_enqueue(system: System, arena: Arena, case: PeersCase) -> dict[str, Any]:
    async with arena.open_producer(_BULK_CLIENTS, bulk=True) as producer:
        await _fill(arena, producer, case, max(1, case.jobs // 10))
        meter = system.target.meter(producer=[producer])
        meter.start()
        done = await _fill(arena, producer, case, case.jobs)
        cpu = meter.spent_per(case.jobs)
    return {
        "figure": done["jobs"] / (done["ended_at"] - done["began_at"]),
        "cpu_us_per_job": cpu,
    }


async def _fill(arena: Arena, producer: LoadProcess, case: PeersCase, jobs: int) -> dict[str, Any]:
    order = {"batch": _BULK_BATCH, "clients": _BULK_CLIENTS, "payload_bytes": case.payload_bytes}
    await arena.submit(producer, jobs, **order)
    done = await producer.answer()
    if done["jobs"] != jobs:
        raise MeasurementFailedError(f"{jobs} jobs should be stored: {done['jobs']}")
    return done


async def _pick_up(system: System, arena: Arena, case: PeersCase) -> dict[str, Any]:
    jobs = max(1, round(case.rate * case.seconds))
    warm_up = max(1, jobs // 5)
    order = {"batch": 1, "clients": _CLIENTS, "payload_bytes": case.payload_bytes}
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(arena.open_worker(record=True))
        producer = await stack.enter_async_context(arena.open_producer(_CLIENTS))
        with _bounded(case):
            await arena.submit(producer, warm_up, rate=case.rate, **order)
            await producer.answer()
            await worker.wait_count(warm_up)
        meter = system.target.meter(worker=[worker], producer=[producer])
        meter.start()
        await arena.submit(producer, jobs, rate=case.rate, record=True, **order)
        submitted = await producer.answer()
        with _bounded(case):
            await worker.wait_count(warm_up + jobs)
            cpu = meter.spent_per(jobs)
            _, record = await arena.settle(worker)
    return _waits(submitted["record"], record) | {"cpu_us_per_job": cpu}


def _waits(submits: list[tuple[Any, int, int]], starts: list[tuple[Any, int]]) -> dict[str, float]:
    """Percentiles in milliseconds, of instants in nanoseconds. `figure` is what a user of both
    sides sees, and never negative: from sending to the handler's start, in the median."""
    started = dict(starts)
    since_sent = [(started[key] - sent) / 1e6 for key, sent, _ in submits]
    since_acked = [(started[key] - acked) / 1e6 for key, _, acked in submits]
    return {
        "figure": percentile(since_sent, 0.5),
        "p99_ms": percentile(since_sent, 0.99),
        "p50_after_commit_ms": percentile(since_acked, 0.5),
        "p99_after_commit_ms": percentile(since_acked, 0.99),
    }


def _bounded(case: PeersCase) -> Any:
    """For what has to happen at all, in a time that is generous for the slowest."""
    return trio.fail_after(60 + case.seconds_max)


@attrs.frozen
class _Clock:
    """From a moment on: how many jobs were done then, and what the processes spend since."""

    at: float
    count: int
    meter: Meter

    @classmethod
    def start(
        cls, system: System, worker: LoadProcess, producer: LoadProcess | None = None
    ) -> "_Clock":
        """`at` is when the worker's count was told, not when it was asked for."""
        meter = system.target.meter(
            worker=[worker], **({} if producer is None else {"producer": [producer]})
        )
        meter.start()
        at = time.monotonic() if producer is not None else worker.track[-1][0]
        return cls(at, worker.count, meter)

    def stop(self, ended_at: float, worker: LoadProcess, jobs: int) -> dict[str, Any]:
        """All `jobs` are acknowledged since `ended_at`, each handled once."""
        if worker.count != self.count + jobs:
            raise MeasurementFailedError(
                f"{jobs} jobs were handled {worker.count - self.count} times"
            )
        return {
            "figure": jobs / max(1e-6, ended_at - self.at),
            "cpu_us_per_job": self.meter.spent_per(max(1, jobs)),
        }

    def cut(self, worker: LoadProcess) -> dict[str, Any]:
        """What was done until now."""
        jobs = worker.count - self.count
        return {
            "figure": jobs / (time.monotonic() - self.at),
            "cpu_us_per_job": self.meter.spent_per(max(1, jobs)),
            "cut": True,
        }


CASES: Final[Mapping[str, _Measure]] = {
    "end to end": _end_to_end,
    "single": _single,
    "drain": _drain,
    "bulk enqueue": _bulk_enqueue,
    PICK_UP: _pick_up,
}
