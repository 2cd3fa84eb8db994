"""Oban for Python.

Best documented settings (descriptions of ``Oban`` and ``Oban.enqueue_many``): a queue whose
``limit`` is high, as so many jobs as are free are fetched at once, and ``enqueue_many`` for bulk,
which is a single statement. The number is ours.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import oban  # type: ignore[import-not-found]
from oban.schema import install  # type: ignore[import-not-found]

from bench.peers.drivers.talk import Driver, Handled, Payload

__all__ = ["open_driver"]

_LIMIT: Final = 500
_QUEUE: Final = "default"


class _Oban:
    def __init__(self, pool: Any, client: Any) -> None:
        self._pool = pool
        self._client = client
        self._handled: Handled = lambda number: None

        async def noop(n: int, x: str) -> None:
            self._handled(n)

        self._job = oban.job(queue=_QUEUE)(noop)

    async def install(self) -> None:
        await install(self._pool)

    async def submit(self, jobs: Sequence[Payload]) -> None:
        made = [self._job.new(**job) for job in jobs]
        if len(made) == 1:
            await self._client.enqueue(made[0])
        else:
            await self._client.enqueue_many(made)

    async def work(self, handled: Handled) -> None:
        self._handled = handled
        async with oban.Oban(pool=self._pool, queues={_QUEUE: _LIMIT}, name="worker"):
            await asyncio.Event().wait()


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    pool = await oban.Oban.create_pool(url, min_size=1, max_size=max(clients, 10))
    async with pool:
        yield _Oban(pool, oban.Oban(pool=pool))
