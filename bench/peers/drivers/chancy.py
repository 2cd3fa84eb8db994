"""Chancy.

Best documented settings (descriptions of ``Queue``, ``AsyncExecutor`` and ``push_many``): the
asyncio executor with a high ``concurrency``, ``eager_polling``, and ``push_many`` for bulk. Its
worker writes the ends of jobs once a second, many at a time. The number is ours.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from chancy import Chancy, Queue, Worker, job  # type: ignore[import-not-found]

from bench.peers.drivers.talk import Driver, Handled, Payload

__all__ = ["noop", "open_driver"]

_CONCURRENCY: Final = 1000
_QUEUE: Final = "default"
_handled: ContextVar[Handled] = ContextVar("handled")
"""A job is a function found by its import path, so what it calls comes by its task's context."""


async def _noop(n: int, x: str) -> None:
    _handled.get()(n)


_noop.__name__ = _noop.__qualname__ = "noop"
noop = job(queue=_QUEUE)(_noop)


class _Chancy:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def install(self) -> None:
        await self._app.migrate()
        await self._app.declare(
            Queue(
                _QUEUE,
                concurrency=_CONCURRENCY,
                executor=Chancy.Executor.Async,
                polling_interval=1,
                eager_polling=True,
            )
        )

    async def submit(self, jobs: Sequence[Payload]) -> None:
        made = [noop.job.with_kwargs(**each) for each in jobs]
        if len(made) == 1:
            await self._app.push(made[0])
            return
        async for _ in self._app.push_many(made):
            pass

    async def work(self, handled: Handled) -> None:
        _handled.set(handled)
        async with Worker(self._app, register_signal_handlers=False) as worker:
            await worker.wait_for_shutdown()


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    log = logging.getLogger("chancy")
    log.setLevel(logging.WARNING)
    pool_size = max(clients, 10)
    async with Chancy(url, log=log, max_connection_pool_size=pool_size) as app:
        yield _Chancy(app)
