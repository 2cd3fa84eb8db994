"""One worker as its users write it: the Python SDK with a handler that does nothing."""

import time
from typing import Any

import trio

from bench.load.talk import Orders, Say, tell_count
from jobengine.sdk import JobContext, Worker

__all__ = ["run"]


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: job_type, capacity, record?. Order: `drain`, answered when every report is acked.

    With `record` each call of the handler is told as [job id, nanoseconds UTC].
    """
    record: list[tuple[str, int]] = []
    recording = bool(plan.get("record"))
    handled = 0
    worker = Worker(
        plan["worker_url"], plan["token"], plan["tenant"], capacity=plan["capacity"], stall_s=None
    )

    @worker.handler(plan["job_type"])
    async def handle(job: JobContext) -> None:
        nonlocal handled
        if recording:
            record.append((job.job_id, time.time_ns()))
        handled += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: handled, say)
        nursery.start_soon(_drain_when_told, worker, orders)
        await worker.run_async()
        ended_at = time.monotonic()
        nursery.cancel_scope.cancel()
    say(handled=handled, ended_at=ended_at, record=record)


async def _drain_when_told(worker: Worker, orders: Orders) -> None:
    await orders.receive()
    worker.drain()
