"""A worker whose jobs call upstreams over HTTP and report when one pushes back."""

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio

from bench.load.http_client import HttpClient
from bench.load.talk import Orders, Say, tell_count
from jobengine.sdk import JobContext, Worker

__all__ = ["run"]

_TOO_MANY_REQUESTS = 429


@attrs.define
class _Upstream:
    """Calls an upstream over as many connections as there are calls at once."""

    url: str
    source_id: str
    _open: AsyncExitStack
    _idle: list[HttpClient] = attrs.field(init=False, factory=list)

    async def call(self, job: JobContext) -> None:
        client = self._idle.pop() if self._idle else await self._connect()
        http_status, headers = await client.get("/")
        self._idle.append(client)
        if http_status == _TOO_MANY_REQUESTS:
            retry_after = headers.get(b"retry-after")
            retry_after_s = None if retry_after is None else float(retry_after)
            job.throttled(http_status, retry_after_s, self.source_id)

    async def _connect(self) -> HttpClient:
        parts = urlsplit(self.url)
        stream = await trio.open_tcp_stream(parts.hostname or "127.0.0.1", parts.port or 80)
        await self._open.enter_async_context(stream)
        return HttpClient(stream, {"Host": parts.netloc})


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: capacity, upstreams (by job type: url, source_id). Order: `drain`.

    Each job makes one call. A job that was pushed back says so and is done: what counts is how many
    calls the upstream served.
    """
    handled = 0
    worker = Worker(
        plan["worker_url"], plan["token"], plan["tenant"], capacity=plan["capacity"], stall_s=None
    )

    def serve(job_type: str, upstream: _Upstream) -> None:
        @worker.handler(job_type)
        async def handle(job: JobContext) -> None:
            nonlocal handled
            await upstream.call(job)
            handled += 1

    async with AsyncExitStack() as stack:
        for job_type, named in plan["upstreams"].items():
            serve(job_type, _Upstream(**named, open=stack))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_count, lambda: handled, say)
            nursery.start_soon(_drain_when_told, worker, orders)
            await worker.run_async()
            nursery.cancel_scope.cancel()
    say(handled=handled)


async def _drain_when_told(worker: Worker, orders: Orders) -> None:
    await orders.receive()
    worker.drain()
