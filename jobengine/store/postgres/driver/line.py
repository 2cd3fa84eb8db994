"""Statements behind each other on one connection: sent as they come, answered in that order.

A *line* is a connection on which several calls are under way. The server begins the next one as
soon as it is through with the one in front, without a word from here in between; each is a
transaction of its own. A line is made for a call that shares no *key* with any under way, and ends
with the last call on it; a call that shares one joins the line of that key.

I1  Calls that share a key reach the server in the order in which they were begun, and end in it.
    The second of two is begun by the server after the first has committed or failed.
I2  A connection is on one line at most, and back in its pool when that ends.
I3  When a call is interrupted, or the session lost, the outcome of those behind it is unknown.
    Where it is not known to be over on the server when it returns, its session is among the `lost`.
I4  A call waits no longer for its answer than the session allows, from when it is first in line.

Not here: what goes over the wire (`session.py`), statements (`connection.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Collection, Sequence
from typing import Final

import trio

from jobengine.store.errors import ProgrammerError, StoreSilentError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection, Params
from jobengine.store.postgres.driver.pool import Pool
from jobengine.store.postgres.statements import Statement

__all__ = ["Lines"]


class Lines:
    """Calls over a pool's connections, which have `statements` prepared when a line gets them.

    As many lines are open at once as the pool has connections; others wait for one.
    """

    def __init__(self, pool: Pool, statements: Sequence[Statement]) -> None:
        self._pool: Final = pool
        self._statements: Final = statements
        self._last: dict[str, _Call] = {}
        self.lost: Final[set[int]] = set()
        """The server's processes of sessions that were closed with a call under way, until somebody
        has seen that they are gone."""

    def begin(self, keys: Collection[str], statement: Statement, params: Params) -> Awaitable[None]:
        """Send a statement that commits by itself, or have it sent when its turn comes; what is
        returned has to be awaited, once.

        It raises what `Connection.fetch` does. Keys of two lines raise `ProgrammerError`.
        """
        lines = {
            id(self._last[key].line): self._last[key].line for key in keys if key in self._last
        }
        if len(lines) > 1:
            raise ProgrammerError("a call can follow those of one line only")
        line = next(iter(lines.values()), None) or _Line(self._pool, self._statements, self.lost)
        call = _Call(line, statement, params)
        line.join(call)
        for key in keys:
            self._last[key] = call
        return self._outcome(call, keys)

    async def _outcome(self, call: _Call, keys: Collection[str]) -> None:
        try:
            await call.line.outcome(call)
        finally:
            for key in keys:
                if self._last.get(key) is call:
                    del self._last[key]


class _Call:
    """`lost` says why it can have no answer, once that is so."""

    __slots__ = ("first", "line", "lost", "params", "sent", "statement")

    def __init__(self, line: _Line, statement: Statement, params: Params) -> None:
        self.line = line
        self.statement = statement
        self.params = params
        self.sent = False
        self.lost = ""
        self.first = trio.Event()


class _Line:
    """The calls under way on one connection, or waiting for it. `_broken` says why those that still
    join can have no answer."""

    def __init__(self, pool: Pool, statements: Sequence[Statement], lost: set[int]) -> None:
        self._pool = pool
        self._statements = statements
        self._lost = lost
        self._calls: deque[_Call] = deque()
        self._connection: Connection | None = None
        self._broken = ""
        if (idle := pool.acquire_nowait()) is not None:
            if idle.has_prepared(statements):
                self._use(idle)
                idle.enter_line()
            else:
                pool.give_back(idle)

    def join(self, call: _Call) -> None:
        self._calls.append(call)
        call.lost = self._broken
        if len(self._calls) == 1:
            call.first.set()
        if self._connection is not None:
            try:
                self._send(call)
            except BaseException:
                self._leave(call)
                raise

    async def outcome(self, call: _Call) -> None:
        """Wait for a call's answer; then the next one is first."""
        try:
            await call.first.wait()
            if self._connection is None and not call.lost:
                await self._open()
            if call.lost:
                raise StoreUnavailableError(call.lost, may_have_committed=call.sent)
            assert self._connection is not None
            await self._connection.answer_in_line(call.statement)
        except trio.Cancelled:
            self._break("the call in front of it was interrupted", call)
            if call.sent and call is self._calls[0] and self._connection is not None:
                await self._connection.interrupt_line()
            raise
        except trio.ClosedResourceError:
            if not call.lost:
                raise
            raise StoreUnavailableError(call.lost, may_have_committed=call.sent) from None
        except StoreUnavailableError as error:
            if self._connection is None or self._connection.is_closed:
                self._break(str(error), call)
            if isinstance(error, StoreSilentError) and self._pool.fell_silent is not None:
                self._pool.fell_silent()
            raise
        finally:
            self._leave(call)

    def _break(self, why: str, call: _Call | None = None) -> None:
        """What is behind this call, or every one, is lost."""
        self._broken = self._broken or why
        calls = iter(self._calls)
        if call is not None:
            next(each for each in calls if each is call)
        for each in calls:
            each.lost = each.lost or why

    async def _open(self) -> None:
        connection = await self._pool.acquire()
        connection.enter_line()
        try:
            await connection.prepare(self._statements)
        except BaseException:
            connection.leave_line()
            self._pool.give_back(connection)
            raise
        self._use(connection)
        for call in self._calls:
            self._send(call)

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self._lost.discard(connection.backend_pid)

    def _send(self, call: _Call) -> None:
        if call.lost:
            return
        assert self._connection is not None
        try:
            self._connection.send_in_line(call.statement, call.params)
        except StoreUnavailableError as error:
            self._break(str(error))
        else:
            call.sent = True

    def _leave(self, call: _Call) -> None:
        self._calls.remove(call)
        connection = self._connection
        if self._calls:
            self._calls[0].first.set()
        elif connection is not None:
            self._connection = None
            connection.leave_line()
            self._pool.give_back(connection)
        if connection is not None and connection.is_adrift:
            self._lost.add(connection.backend_pid)
