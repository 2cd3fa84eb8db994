"""A worker whose jobs call an upstream over HTTP and report when it pushes back."""

from typing import Any

import httpx
import trio

from bench.load.talk import Orders, Say, tell_count
from jobengine.sdk import JobContext, Worker

__all__ = ["run"]


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: job_type, capacity, upstream_url, source_id. Order: `drain`.

    Each job makes one call. A job that was pushed back says so and is done: what counts is how many
    calls the upstream served.
    """
    handled = 0
    worker = Worker(
        plan["worker_url"], plan["token"], plan["tenant"], capacity=plan["capacity"], stall_s=None
    )
    async with httpx.AsyncClient(base_url=plan["upstream_url"], trust_env=False) as upstream:

        @worker.handler(plan["job_type"])
        async def handle(job: JobContext) -> None:
            nonlocal handled
            answer = await upstream.get("/")
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                retry_after_s = float(answer.headers["Retry-After"])
                job.throttled(answer.status_code, retry_after_s, plan["source_id"])
            handled += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_count, lambda: handled, say)
            nursery.start_soon(_drain_when_told, worker, orders)
            await worker.run_async()
            nursery.cancel_scope.cancel()
    say(handled=handled)


async def _drain_when_told(worker: Worker, orders: Orders) -> None:
    await orders.receive()
    worker.drain()
