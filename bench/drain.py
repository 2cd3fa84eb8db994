"""How fast one worker drains a ready backlog, and what a job costs then.

The backlog is enqueued first, with no worker attached. Then one worker process, started but not
connected yet, is told to go: the clock runs from there, its connection included, until its last
report is acked. Nothing is submitted meanwhile.
"""

from typing import Any, Final

from bench.flow import Flow, job_id_floor, measure_flow, verify_completed
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, rate_of, show_progress

__all__ = ["measure_drain", "run"]

_WARM_UP: Final = 5_000
_BATCH: Final = 100
_IN_FLIGHT: Final = 8


async def run(
    options: Options, *, sizes: tuple[int, ...], capacity: int, payload_bytes: int
) -> Report:
    """Every size in every round."""
    async with open_target(options) as target:
        report = report_on(
            target, "drain", "jobs_per_s", "jobs/s",
            sizes=sizes, capacity=capacity, payload_bytes=payload_bytes,
        )  # fmt: skip
        warm_up = Flow(jobs=min(_WARM_UP, *sizes), capacity=capacity, payload_bytes=payload_bytes)
        await measure_flow(target, warm_up, target.job_type("drain", "warm-up"))
        for number in range(options.rounds):
            for size in sizes:
                measured = await measure_drain(target, size, capacity, payload_bytes, number)
                report.add(f"{size:,} jobs", **measured)
        return report


async def measure_drain(
    target: Target, jobs: int, capacity: int, payload_bytes: int, number: int
) -> dict[str, Any]:
    """One backlog of so many jobs; `number` tells it from others of this run of the same size.
    Raises `MeasurementFailedError` when not every job is completed."""
    job_type = target.job_type("drain", jobs, number)
    floor = job_id_floor()
    async with (
        open_ready_load("producer", target) as producer,
        show_progress(f"enqueue {jobs:,}", jobs, lambda: producer.count),
    ):
        enqueued = await producer.ask(
            do="submit", jobs=jobs, batch=_BATCH, in_flight=_IN_FLIGHT,
            job_type=job_type, payload_bytes=payload_bytes,
        )  # fmt: skip
    async with open_ready_load(
        "worker", target, job_type=job_type, capacity=capacity, held=True
    ) as worker:
        meter = target.meter(worker=[worker])
        meter.start()
        async with show_progress(f"drain {jobs:,}", jobs, lambda: worker.count):
            await worker.order(do="go")
            await worker.wait_count(jobs)
            drained = await worker.ask(do="drain")
        cpu = meter.spent_per(jobs)
    await verify_completed(target, [target.tenant], job_type, jobs, floor)
    return {
        "jobs_per_s": jobs / (drained["ended_at"] - drained["began_at"]),
        "enqueued_per_s": rate_of(enqueued),
        "cpu_us_per_job": cpu,
    }
