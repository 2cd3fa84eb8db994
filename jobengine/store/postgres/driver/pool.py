"""A bounded pool of connections on Trio.

I1  At most `size_max` connections are open, lent, idle and being opened together; those that
    `distrust` was about no longer count.
I2  Whoever waits is served in order of arrival: an idle connection exists only while nobody waits.
I3  Only one task opens connections, one at a time; after a failure it waits, longer each time and
    with jitter, so that a server which comes back is not overrun.
I4  Nothing is sent to find out whether a connection lives: it is discarded when its call failed,
    when its server spoke while it lay idle (it hung up), or at `lifetime_s_max`.

A cancelled borrower costs no connection: it gives back what it was handed, and opening goes on.
Deliberately not here: a minimum size, a keep-alive, a reset between two borrowers (a connection
that comes back inside a transaction or a call is closed instead).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from types import TracebackType
from typing import Final

import attrs
import trio

from jobengine.store.errors import StoreBusyError, StoreSilentError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection

_LIFETIME_JITTER: Final = 0.1


@attrs.frozen
class PoolStatistics:
    """`open` counts lent and idle connections that are trusted; `acquired_total` only grows."""

    open: int
    idle: int
    waiting: int
    acquired_total: int


@attrs.define(eq=False)
class _Waiter:
    served: trio.Event = attrs.field(factory=trio.Event)
    connection: Connection | None = None


@asynccontextmanager
async def open_pool(
    connect: Callable[[], Awaitable[Connection]],
    *,
    size_max: int,
    dice: random.Random,
    acquire_timeout_s: float = 5.0,
    lifetime_s_max: float = 3600.0,
    backoff_s_min: float = 0.05,
    backoff_s_max: float = 5.0,
    fell_silent: Callable[[], None] | None = None,
) -> AsyncIterator[Pool]:
    """A pool that lives as long as the block; connections are opened when first needed.

    `fell_silent` is called when a block that had a connection ended in `StoreSilentError`.
    Leaving the block closes idle connections at once and lent ones when they come back. What
    `connect` raises other than `StoreUnavailableError` ends the block. As with any nursery,
    exceptions leave the block in an `ExceptionGroup`.
    """
    pool = Pool(
        connect,
        size_max=size_max,
        dice=dice,
        acquire_timeout_s=acquire_timeout_s,
        lifetime_s_max=lifetime_s_max,
        backoff_s_min=backoff_s_min,
        backoff_s_max=backoff_s_max,
        fell_silent=fell_silent,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        try:
            yield pool
        finally:
            pool.close()
            nursery.cancel_scope.cancel()


class Pool:
    """See the module. `open_pool` runs it; or start `run` in a nursery of one's own."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        size_max: int,
        dice: random.Random,
        acquire_timeout_s: float,
        lifetime_s_max: float,
        backoff_s_min: float,
        backoff_s_max: float,
        fell_silent: Callable[[], None] | None = None,
    ) -> None:
        if size_max < 1:
            raise ValueError("a pool has room for one connection at least")
        self._connect = connect
        self.size_max = size_max
        self._dice = dice
        self.acquire_timeout_s = acquire_timeout_s
        self._lifetime_s_max = lifetime_s_max
        self._backoff_s_min = backoff_s_min
        self._backoff_s_max = backoff_s_max
        self.fell_silent = fell_silent
        self._retire_at: dict[Connection, float] = {}  # every trusted connection: its end of life
        self._idle: deque[Connection] = deque()
        self._waiters: deque[_Waiter] = deque()
        self._wanted = trio.Event()
        self._retry_at = -inf
        self._failures = 0
        self._last_failure = ""
        self._acquired_total = 0
        self._closed = False

    def connection(self, *, timeout_s: float | None = None) -> Lease:
        """`async with pool.connection() as c`: waits in order of arrival, for `timeout_s` at most.

        When the time is up it raises `StoreUnavailableError` with the reason the server gave, if it
        was asked in vain, else `StoreBusyError`; `trio.ClosedResourceError` when the pool is
        closed. Not a checkpoint when a connection is idle.
        """
        return Lease(self, timeout_s)

    @property
    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            open=len(self._retire_at),
            idle=len(self._idle),
            waiting=len(self._waiters),
            acquired_total=self._acquired_total,
        )

    async def run(self) -> None:
        """Open connections while somebody waits and there is room, and retire idle ones, until
        cancelled."""
        while not self._closed:
            if not self._waiters or len(self._retire_at) >= self.size_max:
                self._wanted = trio.Event()
                with trio.move_on_at(self._next_retirement()):
                    await self._wanted.wait()
                self._retire_idle()
                continue
            if trio.current_time() < self._retry_at:
                await trio.sleep_until(self._retry_at)
                continue
            try:
                connection = await self._connect()
            except StoreUnavailableError as failure:
                self._back_off(str(failure))
                continue
            self._failures = 0
            self._last_failure = ""
            life_s = self._lifetime_s_max * (1 - self._dice.random() * _LIFETIME_JITTER)
            self._retire_at[connection] = trio.current_time() + life_s
            self.give_back(connection)

    async def acquire(self, timeout_s: float | None = None) -> Connection:
        """As `connection`, for callers that `give_back` by themselves."""
        if self._closed:
            raise trio.ClosedResourceError("the pool is closed")
        if timeout_s is None:
            timeout_s = self.acquire_timeout_s
        connection = self._take_idle() or await self._wait_in_line(timeout_s)
        self._acquired_total += 1
        return connection

    def acquire_nowait(self) -> Connection | None:
        """As `acquire`, if a connection is idle."""
        connection = None if self._closed else self._take_idle()
        self._acquired_total += connection is not None
        return connection

    def give_back(self, connection: Connection) -> None:
        """Hand a connection to whoever waits longest, keep it idle, or discard it (I4)."""
        if self._closed or not self._is_fit(connection):
            self._discard(connection)
        elif self._waiters:
            waiter = self._waiters.popleft()
            waiter.connection = connection
            waiter.served.set()
        else:
            self._idle.append(connection)

    def distrust(self) -> None:
        """Lend no connection again that is open now: another one to the same server fell silent.

        Idle ones are closed; lent ones when they come back, and there is room for others at once.
        """
        while self._idle:
            self._idle.pop().close()
        self._retire_at.clear()
        self._wanted.set()

    async def aclose(self) -> None:
        """As `close`; idempotent."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close idle connections now and lent ones when they return; whoever waits is refused."""
        self._closed = True
        self._wanted.set()
        while self._idle:
            self._discard(self._idle.pop())
        while self._waiters:
            self._waiters.popleft().served.set()

    def _take_idle(self) -> Connection | None:
        """The one used last: the others age, and their prepared statements are the least warm."""
        while self._idle:
            connection = self._idle.pop()
            if self._is_fit(connection) and not connection.has_unread_input:
                return connection
            self._discard(connection)
        return None

    async def _wait_in_line(self, timeout_s: float) -> Connection:
        waiter = _Waiter()
        self._waiters.append(waiter)
        self._wanted.set()
        try:
            with trio.move_on_after(timeout_s):
                await waiter.served.wait()
        except BaseException:
            if waiter.connection is not None:
                self.give_back(waiter.connection)
            raise
        finally:
            if not waiter.served.is_set():
                self._waiters.remove(waiter)
        if waiter.connection is not None:
            return waiter.connection
        if self._closed:
            raise trio.ClosedResourceError("the pool is closed")
        late = f"no connection within {timeout_s:g} s"
        if self._last_failure:
            raise StoreUnavailableError(f"{late}: {self._last_failure}")
        raise StoreBusyError(f"{late}: all of them are in use")

    def _next_retirement(self) -> float:
        """When the next of those that are not over-age will be; a lent one retires on return."""
        now = trio.current_time()
        return min((at for at in self._retire_at.values() if at > now), default=inf)

    def _retire_idle(self) -> None:
        """Those at the bottom are not lent for as long as the others suffice (I4)."""
        for connection in [each for each in self._idle if not self._is_fit(each)]:
            self._idle.remove(connection)
            self._discard(connection)

    def _is_fit(self, connection: Connection) -> bool:
        retire_at = self._retire_at.get(connection, -inf)
        return connection.is_idle and trio.current_time() < retire_at

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._retire_at.pop(connection, None)
        self._wanted.set()

    def _back_off(self, failure: str) -> None:
        self._last_failure = failure
        ceiling_s = min(self._backoff_s_max, self._backoff_s_min * 2 ** min(self._failures, 30))
        self._failures += 1
        self._retry_at = trio.current_time() + ceiling_s * (0.5 + self._dice.random() / 2)


class Lease:
    """A connection for the length of a block."""

    __slots__ = ("_connection", "_pool", "_timeout_s")

    def __init__(self, pool: Pool, timeout_s: float | None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.acquire(self._timeout_s)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._pool.give_back(connection)
        if isinstance(error, StoreSilentError) and self._pool.fell_silent is not None:
            self._pool.fell_silent()
