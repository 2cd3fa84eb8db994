"""One flow of jobs from submit to acknowledged completion, for benchmarks that vary what is around
it: how it is submitted, what the jobs are like, what the tables hold already.

The clock runs from the first submit until the workers have drained: each report has its ack then,
and an ack comes after the commit. What was stored is counted afterwards by the jobs' ids, which
begin with their time, so a look costs the same however much the tables hold.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.errors import MeasurementFailedError
from bench.harness.target import Target
from bench.rounds import open_ready_load, show_progress

__all__ = ["Flow", "count_since", "job_id_floor", "measure_flow", "verify_completed"]

_RETRY_S: Final = 0.05
_CLOCK_SKEW_S: Final = 60.0
_LOOK_S: Final = 0.005


@attrs.frozen(kw_only=True)
class Flow:
    """`warm_up` jobs, one at least, come before the clock starts. `in_flight` is for each
    connection, but shared by `tenants`, which have one each; `capacity` is shared by all workers.
    A job takes `work_s` seconds; each `failing_every`-th fails once."""

    jobs: int
    warm_up: int = 500
    batch: int = 100
    in_flight: int = 24
    connections: int = 1
    payload_bytes: int = 100
    workers: int = 1
    capacity: int = 4000
    work_s: float = 0.0
    failing_every: int = 0
    source_id: str | None = None
    tenants: Sequence[Target] = ()
    """Several, whose workers answer without the SDK; none: the target's own."""


async def measure_flow(
    target: Target, flow: Flow, job_type: str, observe: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """`jobs_per_s` and `cpu_us_per_job`; the type is used by no other flow.

    `observe` is called in a thread right before the clock starts and right after it ends. Raises
    `MeasurementFailedError` when not every job is completed.
    """
    floor = job_id_floor()
    async with (
        _open_producer(target, flow) as producer,
        _open_workers(target, flow, job_type) as (workers),
    ):

        def handled() -> int:
            return sum(worker.count for worker in workers)

        async def handle(jobs: int) -> float:
            """When the first of so many was submitted, once all of them are handled."""
            due = handled() + jobs
            submitted = await producer.ask(**_submit_order(flow, job_type, jobs))
            while handled() < due:  # noqa: ASYNC110 - the sum of several processes
                await trio.sleep(_LOOK_S)
            return float(submitted["began_at"])

        total = flow.warm_up + flow.jobs
        async with show_progress(job_type.split(".", 2)[-1], total, handled):
            await handle(flow.warm_up)
            await trio.to_thread.run_sync(observe)
            meter = target.meter(workers=workers, producer=[producer])
            meter.start()
            began_at = await handle(flow.jobs)
            for worker in workers:
                await worker.order(do="drain")
            drained = [await worker.answer() for worker in workers]
        cpu = meter.spent_per(flow.jobs)
        await trio.to_thread.run_sync(observe)
    tenants = [each.tenant for each in flow.tenants or (target,)]
    await verify_completed(target, tenants, job_type, total, floor)
    took_s = max(each["ended_at"] for each in drained) - began_at
    return {"jobs_per_s": flow.jobs / took_s, "cpu_us_per_job": cpu}


def job_id_floor() -> str:
    """An id below those of all jobs made from now on, by this clock or one a minute off."""
    return f"{int((time.time() - _CLOCK_SKEW_S) * 1000):012x}{0:020x}"


async def verify_completed(
    target: Target, tenants: Sequence[str], job_type: str, jobs: int, floor: str
) -> None:
    """Raises `MeasurementFailedError` unless all jobs of a type, and no fewer, are completed. Says
    nothing where the database's address is not known."""
    if target.database is not None:
        states = await trio.to_thread.run_sync(count_since, target, tenants, job_type, floor)
        if states != {"completed": jobs}:
            raise MeasurementFailedError(f"{jobs} jobs should be completed: {states}")


def count_since(
    target: Target, tenants: Sequence[str], job_type: str, floor: str
) -> dict[str, int]:
    """Jobs of a type with ids above a floor, by state. Blocks."""
    with target.require_database().connection() as connection:
        rows = connection.execute(
            "SELECT state, count(*) FROM jobs "
            "WHERE tenant_id = ANY (%s) AND job_id > %s::uuid AND job_type = %s GROUP BY state",
            (list(tenants), floor, job_type),
        ).fetchall()
    return {str(state): int(count) for state, count in rows}


@asynccontextmanager
async def _open_producer(target: Target, flow: Flow) -> AsyncIterator[LoadProcess]:
    plan = {"connections": flow.connections, "tenants": _doors(flow.tenants)}
    async with open_ready_load("producer", target, **plan) as producer:
        yield producer


@asynccontextmanager
async def _open_workers(
    target: Target, flow: Flow, job_type: str
) -> AsyncIterator[list[LoadProcess]]:
    async with AsyncExitStack() as stack:
        if flow.tenants:
            capacity = max(1, flow.capacity // len(flow.tenants))
            replier = open_ready_load(
                "replier",
                target,
                job_type=job_type,
                capacity=capacity,
                tenants=_doors(flow.tenants),
            )
            yield [await stack.enter_async_context(replier)]
            return
        plan = {
            "job_type": job_type,
            "capacity": max(1, flow.capacity // flow.workers),
            "work_s": flow.work_s,
            "failing_every": flow.failing_every,
        }
        yield [
            await stack.enter_async_context(open_load("worker", **target.door(), **plan))
            for _ in range(flow.workers)
        ]


def _doors(tenants: Sequence[Target]) -> list[dict[str, str]]:
    return [{"tenant": each.tenant, "token": each.token} for each in tenants]


def _submit_order(flow: Flow, job_type: str, jobs: int) -> dict[str, Any]:
    return {
        "do": "submit",
        "jobs": jobs,
        "batch": flow.batch,
        "in_flight": flow.in_flight,
        "job_type": job_type,
        "payload_bytes": flow.payload_bytes,
        "source_id": flow.source_id,
        "retry_s": _RETRY_S if flow.failing_every else None,
    }
