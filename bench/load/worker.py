"""One worker as its users write it: the Python SDK with a handler that does nothing, or nearly."""

import time
from typing import Any

import trio

from bench.load.talk import Orders, Say, tell_count
from jobengine.sdk import JobContext, JobError, Worker

__all__ = ["run"]


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: job_type, capacity, record?, held?, work_s?, failing_every?. Orders: `go`, only where
    the plan says `held`, which connects a worker that has said that it is ready; `drain`, answered
    when every report is acked.

    With `record` each call of the handler is told as [job id, nanoseconds UTC]. A job takes
    `work_s` seconds, and the first attempt of each `failing_every`-th, by the number in its
    payload, fails; what is counted are successes.
    """
    record: list[tuple[str, int]] = []
    recording = bool(plan.get("record"))
    work_s, failing_every = plan.get("work_s", 0.0), plan.get("failing_every", 0)
    handled = 0
    worker = Worker(
        plan["worker_url"], plan["token"], plan["tenant"], capacity=plan["capacity"], stall_s=None
    )

    @worker.handler(plan["job_type"])
    async def handle(job: JobContext) -> None:
        nonlocal handled
        if recording:
            record.append((job.job_id, time.time_ns()))
        if work_s:
            await trio.sleep(work_s)
        if failing_every and job.attempt == 1 and job.payload["n"] % failing_every == 0:
            raise JobError("as the benchmark wants it")
        handled += 1

    if plan.get("held"):
        say(ready=True)
        await orders.receive()
    began_at = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: handled, say)
        nursery.start_soon(_drain_when_told, worker, orders)
        await worker.run_async()
        ended_at = time.monotonic()
        nursery.cancel_scope.cancel()
    say(handled=handled, began_at=began_at, ended_at=ended_at, record=record)


async def _drain_when_told(worker: Worker, orders: Orders) -> None:
    await orders.receive()
    worker.drain()
