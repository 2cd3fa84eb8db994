"""Jobs a second from bulk submit to acknowledged completion, with full history.

One producer process submits in batches over the worker WebSocket (or HTTP NDJSON), several batches
in flight; worker processes run the Python SDK with a handler that does nothing. The clock runs from
the first submit until every worker has drained: a drain ends when each report has its ack, and an
ack comes after the commit. Afterwards the database is asked whether every job is completed and its
ledger has grown by exactly four entries a job (created, scheduled, started, completed).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal

import attrs
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.database import Totals
from bench.harness.errors import MeasurementFailed
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress

__all__ = ["ThroughputCase", "measure_round", "open_producer", "run"]

_ENTRIES_PER_JOB: Final = 4


@attrs.frozen(kw_only=True)
class ThroughputCase:
    jobs: int = 100_000
    batch: int = 100
    in_flight: int = 24
    payload_bytes: int = 100
    workers: int = 1
    capacity: int = 4000
    via: Literal["websocket", "http"] = "websocket"
    warm_up: int = 5_000


async def run(options: Options, case: ThroughputCase) -> Report:
    async with open_target(options) as target, open_producer(target, case) as producer:
        report = report_on(target, "throughput", "jobs_per_s", "jobs/s", **attrs.asdict(case))
        for number in range(options.rounds):
            report.add("throughput", **await measure_round(target, producer, case, number))
        return report


@asynccontextmanager
async def open_producer(target: Target, case: ThroughputCase) -> AsyncIterator[LoadProcess]:
    kind = "producer" if case.via == "websocket" else "poster"
    async with open_ready_load(kind, target) as producer:
        yield producer


async def measure_round(
    target: Target, producer: LoadProcess, case: ThroughputCase, number: int
) -> dict[str, Any]:
    """One run with fresh workers; jobs of one round have a type of their own."""
    job_type = target.job_type("throughput", number)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(
                open_load("worker", **target.door(), job_type=job_type, capacity=case.capacity)
            )
            for _ in range(case.workers)
        ]

        def handled() -> int:
            return sum(worker.count for worker in workers)

        async def all_handled(jobs: int) -> None:
            while handled() < jobs:  # noqa: ASYNC110 - the sum of several processes
                await trio.sleep(0.005)

        empty = await _totals(target)
        if case.warm_up:
            await producer.ask(**_submit(case, job_type, case.warm_up))
            await all_handled(case.warm_up)
        before = await _totals(target)
        meter = target.meter(workers=workers, producer=[producer])
        meter.start()
        total = case.warm_up + case.jobs
        async with show_progress(f"throughput {number + 1}", total, handled):
            submitted = await producer.ask(**_submit(case, job_type, case.jobs))
            await all_handled(total)
            for worker in workers:
                await worker.order(do="drain")
            drained = [await worker.answer() for worker in workers]
        cpu = meter.spent_per(case.jobs)
    elapsed_s = max(each["ended_at"] for each in drained) - submitted["began_at"]
    measured: dict[str, Any] = {
        "jobs_per_s": case.jobs / elapsed_s,
        "submit_per_s": submitted["jobs"] / (submitted["ended_at"] - submitted["began_at"]),
        "cpu_us_per_job": cpu,
    }
    after = await _totals(target)
    if empty is not None and before is not None and after is not None:
        _verify(target, case, job_type, after.entries - empty.entries)
        measured["jobs_per_commit"] = case.jobs / max(1, after.commits - before.commits)
        measured["wal_bytes_per_job"] = (after.wal_bytes - before.wal_bytes) / case.jobs
    return measured


async def _totals(target: Target) -> Totals | None:
    if target.database is None:
        return None
    return await trio.to_thread.run_sync(target.database.totals, target.tenant)


def _submit(case: ThroughputCase, job_type: str, jobs: int) -> dict[str, Any]:
    order = {
        "jobs": jobs,
        "batch": case.batch,
        "job_type": job_type,
        "payload_bytes": case.payload_bytes,
    }
    if case.via == "http":
        return {"do": "post", "clients": case.in_flight, **order}
    return {"do": "submit", "in_flight": case.in_flight, **order}


def _verify(target: Target, case: ThroughputCase, job_type: str, entries: int) -> None:
    states = target.require_database().count_jobs(target.tenant, job_type)
    if states != {"completed": case.warm_up + case.jobs}:
        raise MeasurementFailed(f"{case.warm_up + case.jobs} jobs should be completed: {states}")
    if entries != _ENTRIES_PER_JOB * (case.warm_up + case.jobs):
        raise MeasurementFailed(f"{case.warm_up + case.jobs} jobs left {entries} ledger entries")
