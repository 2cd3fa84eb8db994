"""PgQueuer 1.

Best documented settings (https://pgqueuer.readthedocs.io and the description of
``QueueManager.run``): the asyncpg driver, lists given to ``enqueue`` for bulk, a large
``batch_size`` for the dequeue, which is also how many completions are written at once, and no limit
to concurrency. The number is ours.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgPoolDriver  # type: ignore[import-not-found]
from pgqueuer.qm import QueueManager  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from bench.peers.drivers.talk import Driver, Handled, Payload

__all__ = ["open_driver"]

_BATCH: Final = 500
_ENTRYPOINT: Final = "noop"


class _PgQueuer:
    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._queries = Queries(driver)

    async def install(self) -> None:
        await self._queries.install()

    async def submit(self, jobs: Sequence[Payload]) -> None:
        bodies = [json.dumps(job).encode() for job in jobs]
        if len(bodies) == 1:
            await self._queries.enqueue(_ENTRYPOINT, bodies[0])
        else:
            count = len(bodies)
            await self._queries.enqueue([_ENTRYPOINT] * count, bodies, [0] * count)

    async def work(self, handled: Handled) -> None:
        async def handle(job: Any) -> None:
            handled(json.loads(job.payload)["n"])

        manager = QueueManager(self._queries)
        manager.entrypoint(_ENTRYPOINT)(handle)
        await manager.run(batch_size=_BATCH)


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    async with asyncpg.create_pool(url, min_size=1, max_size=max(clients, 8)) as pool:
        yield _PgQueuer(AsyncpgPoolDriver(pool))
