"""What the drivers of Python peers share: orders, counts, and the clock of their submits."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from bench.load.jobs import payloads

__all__ = ["Driver", "Handled", "OpenDriver", "Payload", "Tally", "speak"]

_TELL_EVERY_S: Final = 0.02
_LINE_BYTES_MAX: Final = 1 << 20

Payload = dict[str, Any]
"""``n``, which is another for each job, and ``x``, the rest."""

Handled = Callable[[int], None]
"""What a handler calls with the ``n`` of its job."""


class Driver(Protocol):
    """A peer, connected."""

    async def install(self) -> None:
        """Create its tables in an empty database."""
        ...

    async def submit(self, jobs: Sequence[Payload]) -> None:
        """Store one job, or several in one go; returns after the commit."""
        ...

    async def work(self, handled: Handled) -> None:
        """Run the peer's worker, until cancelled."""
        ...


OpenDriver = Callable[[str, int], AbstractAsyncContextManager[Driver]]
"""Takes the database's URL and how many submits are made at once."""


class Tally:
    """How much a process has done, and on request when each piece was."""

    def __init__(self, recording: bool) -> None:
        self.count = 0
        self.record: list[tuple[int, ...]] = []
        self._recording = recording

    def handled(self, number: int) -> None:
        self.count += 1
        if self._recording:
            self.record.append((number, time.time_ns()))

    async def tell(self) -> None:
        """Say the count whenever it has changed, at most every 20 ms; until cancelled."""
        told = -1
        while True:
            if self.count != told:
                told = self.count
                _say(count=told, at=time.monotonic())
            await asyncio.sleep(_TELL_EVERY_S)


async def speak(open_driver: OpenDriver) -> None:
    """Do what is ordered, until standard input ends.

    Plan: role, url, clients?, record?. ``setup`` creates the peer's tables and says so; ``worker``
    works, and answers `drain` with its record; ``producer`` answers `submit` {jobs, batch,
    payload_bytes, rate?, record?} when the last commit has returned.
    """
    orders = _orders()
    plan = await anext(orders)
    tally = Tally(bool(plan.get("record")))
    async with open_driver(plan["url"], plan.get("clients", 1)) as driver:
        tasks = [asyncio.create_task(tally.tell())]
        obey = asyncio.create_task(_obey(plan["role"], driver, tally, orders))
        tasks.append(obey)
        if plan["role"] == "worker":
            tasks.append(asyncio.create_task(driver.work(tally.handled)))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


async def _obey(
    role: str, driver: Driver, tally: Tally, orders: AsyncIterator[dict[str, Any]]
) -> None:
    if role == "setup":
        await driver.install()
    _say(ready=True)
    async for order in orders:
        if order["do"] == "submit":
            await _submit(driver, tally, order)
        else:
            _say(handled=tally.count, record=tally.record)


async def _submit(driver: Driver, tally: Tally, order: dict[str, Any]) -> None:
    before, began_at = tally.count, time.monotonic()
    batches = _batches(order, began_at)
    record: list[tuple[int, int, int]] = []

    async def client() -> None:
        for at, jobs in batches:
            if (early_s := at - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            sent_ns = time.time_ns()
            await driver.submit(jobs)
            tally.count += len(jobs)
            if order.get("record"):
                acked_ns = time.time_ns()
                record.extend((job["n"], sent_ns, acked_ns) for job in jobs)

    await _together(client() for _ in range(order["clients"]))
    ended_at = time.monotonic()
    _say(jobs=tally.count - before, began_at=began_at, ended_at=ended_at, record=record)


def _batches(order: dict[str, Any], began_at: float) -> Iterator[tuple[float, list[Payload]]]:
    """When to send, and what; shared by all clients."""
    texts = payloads(order["payload_bytes"], time.time_ns())
    every_s = order["batch"] / order["rate"] if order.get("rate") else 0.0
    for number, start in enumerate(range(0, order["jobs"], order["batch"])):
        size = min(order["batch"], order["jobs"] - start)
        jobs = [json.loads(text) for text in itertools.islice(texts, size)]
        yield began_at + number * every_s, jobs


async def _together(awaitables: Iterator[Awaitable[None]]) -> None:
    await asyncio.gather(*awaitables)


async def _orders() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield json.loads(line)


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)
