"""Procrastinate 3.

Best documented settings (https://procrastinate.readthedocs.io, "How-to: concurrency", and the
description of ``App.run_worker_async``): a ``concurrency`` above one, as each job is fetched by
itself, a pool with a connection for each of them, LISTEN/NOTIFY, which is the default, and
``batch_defer`` for bulk. The number is ours.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import procrastinate  # type: ignore[import-not-found]

from bench.peers.drivers.talk import Driver, Handled, Payload

__all__ = ["open_driver"]

_CONCURRENCY: Final = 20


class _Procrastinate:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._handled: Handled = lambda number: None
        self._task = app.task(name="noop")(self._handle)

    async def install(self) -> None:
        await self._app.schema_manager.apply_schema_async()

    async def submit(self, jobs: Sequence[Payload]) -> None:
        if len(jobs) == 1:
            await self._task.defer_async(**jobs[0])
        else:
            await self._task.batch_defer_async(*jobs)

    async def work(self, handled: Handled) -> None:
        self._handled = handled
        await self._app.run_worker_async(concurrency=_CONCURRENCY, install_signal_handlers=False)

    async def _handle(self, n: int, x: str) -> None:
        self._handled(n)


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    connector = procrastinate.PsycopgConnector(conninfo=url, max_size=max(clients, _CONCURRENCY))
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        yield _Procrastinate(app)
