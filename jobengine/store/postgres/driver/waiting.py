"""Runs psycopg's protocol generators on Trio: no threads, no second event loop.

A generator yields what its socket must become (readable, writable, either) and is sent what it has
become; its return value is the outcome. Everything psycopg offers for this without promising it
(`psycopg.generators`, `psycopg.waiting`, `conninfo_attempts`) is imported in this file and nowhere
else; a test names what moved after an upgrade.

Deliberately not here: what a cancelled wait leaves behind. A generator dropped half-way leaves the
connection mid-exchange, and `connection.py` brings it back or closes it.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_attempts
from psycopg.generators import cancel, connect, execute, fetch_many, notifies, send
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

__all__ = [
    "Reader",
    "answer_in_pipeline",
    "cancel",
    "connect",
    "conninfo_attempts",
    "drive",
    "drive_connecting",
    "execute",
    "fetch_many",
    "fetch_pipeline",
    "has_input",
    "notifies",
    "send",
]

_T = TypeVar("_T")
_WAIT_READABLE = Wait.R
_WAIT_WRITABLE = Wait.W
_READABLE = Ready.R
_WRITABLE = Ready.W


def answer_in_pipeline(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """Flush what is queued; the results of every query up to the next sync, the sync's at the end.

    The sync is missing where the session was lost.
    """
    yield from send(pgconn)
    return (yield from fetch_pipeline(pgconn))


def fetch_pipeline(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """The results that are still to come, up to the sync."""
    results: list[PGresult] = []
    while not (results and results[-1].status == ExecStatus.PIPELINE_SYNC):
        some = yield from fetch_many(pgconn)
        if not some:
            break
        results += some
    return results


async def drive(generator: PQGen[_T], fileno: int) -> _T:
    """Run `generator` to its end on one socket. Cancellable at each wait."""
    try:
        wait = next(generator)
        while True:
            if wait is _WAIT_READABLE:
                await trio.lowlevel.wait_readable(fileno)
                wait = generator.send(_READABLE)
            else:
                wait = generator.send(await _ready(fileno, wait))
    except StopIteration as stop:
        result: _T = stop.value
        return result


class Reader:
    """Drives what waits for an answer while others send on the same connection.

    libpq reads as well when it cannot send at once. What it has read by then makes no socket
    readable, so whoever sends has the reader look again.
    """

    def __init__(self) -> None:
        self._wait: trio.CancelScope | None = None

    async def drive(self, generator: PQGen[_T], fileno: int) -> _T:
        """As `drive`."""
        try:
            wait = next(generator)
            while True:
                ready = _READABLE
                with trio.CancelScope() as self._wait:
                    ready = await _ready(fileno, wait)
                wait = generator.send(ready)
        except StopIteration as stop:
            result: _T = stop.value
            return result
        finally:
            self._wait = None

    def look_again(self) -> None:
        if self._wait is not None:
            self._wait.cancel()


async def drive_connecting(generator: PQGenConn[_T]) -> _T:
    """As `drive`, for generators whose socket may be another one at each step."""
    try:
        fileno, wait = next(generator)
        while True:
            fileno, wait = generator.send(await _ready(fileno, wait))
    except StopIteration as stop:
        result: _T = stop.value
        return result


def has_input(fileno: int) -> bool:
    """Whether the server sent something, or hung up, while nobody was asking. Never blocks."""
    return bool(_poll(fileno, select.POLLIN))


async def _ready(fileno: int, wait: Wait) -> Ready:
    if wait is _WAIT_READABLE:
        await trio.lowlevel.wait_readable(fileno)
        return _READABLE
    if wait is _WAIT_WRITABLE:
        await trio.lowlevel.wait_writable(fileno)
        return _WRITABLE
    if events := _poll(fileno, select.POLLIN | select.POLLOUT):
        await trio.lowlevel.checkpoint()
        return _to_ready(events)
    return await _either(fileno)


def _poll(fileno: int, events: int) -> int:
    poll = select.poll()
    poll.register(fileno, events)
    return next((found for _, found in poll.poll(0)), 0)


def _to_ready(events: int) -> Ready:
    """An error or hang-up counts as readable: the next read tells which."""
    readable = events & ~select.POLLOUT
    if readable and events & select.POLLOUT:
        return Ready.RW
    return _READABLE if readable else _WRITABLE


async def _either(fileno: int) -> Ready:
    """Wait until the socket is readable or writable, whichever comes first."""
    found: list[Ready] = []

    async def watch(wait: Callable[[int], Awaitable[None]], ready: Ready) -> None:
        await wait(fileno)
        found.append(ready)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, trio.lowlevel.wait_readable, _READABLE)
        nursery.start_soon(watch, trio.lowlevel.wait_writable, _WRITABLE)
    return Ready.RW if len(found) == 2 else found[0]
