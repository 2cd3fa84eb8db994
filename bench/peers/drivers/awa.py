"""Awa, a queue in Rust with a Python SDK.

Best documented settings (the package's description on PyPI): the queue-storage engine,
``enqueue_many_copy`` for bulk and ``insert`` for single jobs. How many workers there are and how
many jobs are claimed at once is ours.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import awa  # type: ignore[import-not-found]

from bench.peers.drivers.talk import Driver, Handled, Payload

__all__ = ["open_driver"]

_WORKERS: Final = 512
_CLAIM_BATCH: Final = 512
_QUEUE: Final = "default"
_STORAGE: Final = "awa"


@dataclass
class Noop:
    n: int
    x: str


class _Awa:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def install(self) -> None:
        await self._client.migrate()
        await self._client.install_queue_storage(schema=_STORAGE)

    async def submit(self, jobs: Sequence[Payload]) -> None:
        made = [Noop(**job) for job in jobs]
        if len(made) == 1:
            await self._client.insert(made[0], queue=_QUEUE)
        else:
            await self._client.enqueue_many_copy(made, queue=_QUEUE)

    async def work(self, handled: Handled) -> None:
        async def noop(job: Any) -> None:
            handled(job.args.n)

        self._client.task(Noop, queue=_QUEUE)(noop)
        queue = {"name": _QUEUE, "max_workers": _WORKERS, "claim_batch_size": _CLAIM_BATCH}
        await self._client.start([queue])
        await asyncio.Event().wait()


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    async with awa.AsyncClient(url, max_connections=max(clients, 20)) as client:
        yield _Awa(client)
