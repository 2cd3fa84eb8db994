"""Keeps a database to one engine, and an engine to the facts of its database.

The lock is advisory and lives with one connection. When that connection is lost, as in a restart of
PostgreSQL, it is taken again as soon as the server answers; commits that cross such a gap are still
fenced by the ledger's compare-and-set. A server that has not noticed the loss keeps the lock for
the lost session: it is ours still, and taken again once the server has let it go.

A *committer* is a session that commits. It holds a lock of its own, shared, for as long as the
server knows it, and the server may be at work for it when its engine is long gone.

I1  No engine serves a database whose lock another one holds.
I2  The number of shards never changes for a database: rows carry their shard.
I3  Nothing is read or migrated before the committers of every earlier engine are gone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from jobengine.store.errors import StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import load_statements

__all__ = [
    "COMMITTER_KEY",
    "DatabaseFactMismatchError",
    "DatabaseInUseError",
    "end_committers",
    "own_database",
    "settle_facts",
]

_LOCK_KEY: Final = 0x6A6F_626F_776E_6572  # "jobowner"
COMMITTER_KEY: Final = 0x6A6F_6263_6F6D_6D69  # "jobcommi"
_AGAIN_S: Final = 1.0
_ENDING_S: Final = 30.0
_ENDING_AGAIN_S: Final = 0.1
_GONE_WITHIN_MS: Final = 200

Connect = Callable[[], Awaitable[Connection]]


class DatabaseInUseError(Exception):
    """Another engine serves this database; the message names its session, `server_pid` the server's
    process of it; None where it has just ended."""

    def __init__(self, message: str, server_pid: int | None) -> None:
        super().__init__(message)
        self.server_pid = server_pid


class DatabaseFactMismatchError(Exception):
    """A setting differs from what this database was first served with."""


@asynccontextmanager
async def own_database(
    connect: Connect, make_ready: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Be the only engine of a database for as long as the block runs.

    ``make_ready`` is called on entering, under the lock. ``connect`` logs in and takes no role.

    Raises:
        DatabaseInUseError: on entering, or out of the block when another engine has taken over.
        StoreUnavailableError: on entering, when the server does not answer, or is still at work for
            an earlier engine.
    """
    connection = await connect()
    try:
        await _take(connection)
        await _end_earlier(connection)
        await make_ready()
    except BaseException:
        connection.close()
        raise
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hold, connection, connect)
        yield
        nursery.cancel_scope.cancel()


async def _take(connection: Connection) -> None:
    statements = load_statements()
    key = {"lock_key": _LOCK_KEY}
    [(free,)] = await connection.fetch(statements["ownership_try"], key)
    if free:
        return
    rows = await connection.fetch(statements["ownership_holder"], key)
    holder, pid = "a session that has just ended; try again", None
    if rows:
        name, address, pid = rows[0]
        where = f"from {address}" if address else "on this machine"
        holder = f"{name or 'a session'} {where}, server process {pid}; stop it first"
    raise DatabaseInUseError(f"another engine serves this database: {holder}", pid)


async def _end_earlier(connection: Connection) -> None:
    """I3"""
    with trio.move_on_after(_ENDING_S):
        while left := await end_committers(connection, None):  # noqa: ASYNC110 - the server knows
            await trio.sleep(_ENDING_AGAIN_S)
        return
    raise StoreUnavailableError(
        f"server process {', '.join(map(str, sorted(left)))} is still at work for the engine before"
    )


async def end_committers(connection: Connection, pids: Collection[int] | None) -> set[int]:
    """End the committers of these server processes, or, given none, of all but one's own session.

    Those that are not gone by then are returned: they are at work and cannot be interrupted, wait
    for a standby, or belong to another login. On a session of the login itself, no role taken.
    """
    parameters = {
        "lock_key": COMMITTER_KEY,
        "pids": None if pids is None else sorted(pids),
        "wait_ms": _GONE_WITHIN_MS,
    }
    return {
        pid for (pid,) in await connection.fetch(load_statements()["committers_end"], parameters)
    }


async def settle_facts(connection: Connection, facts: Mapping[str, str]) -> None:
    """Fix what is fixed for a database when it is first served. Raises
    `DatabaseFactMismatchError`, naming the fact, both values and the remedy.
    """
    statement = load_statements()["fact_settle"]
    for name, value in sorted(facts.items()):
        [(settled,)] = await connection.fetch(statement, {"name": name, "value": value})
        if settled != value:
            raise DatabaseFactMismatchError(
                f"{name} is {value}, but this database has been served with {settled}; "
                f"set {name} to {settled}"
            )


async def _hold(connection: Connection, connect: Connect) -> None:
    """Wait until the session is lost, then take the lock again; for ever."""
    while True:
        pid = connection.backend_pid
        try:
            while True:
                await connection.notifications()
        except StoreUnavailableError:
            pass
        finally:
            connection.close()
        connection = await _regain(connect, pid)


async def _regain(connect: Connect, lost_pid: int) -> Connection:
    """The lock on a new connection; `lost_pid` is the server's process of the one that was lost.

    An attempt whose answer was lost may have taken it, and then the server keeps it for that one.
    """
    own_pids = {lost_pid}
    while True:
        try:
            connection = await connect()
        except StoreUnavailableError:
            await trio.sleep(_AGAIN_S)
            continue
        try:
            await _take(connection)
        except StoreUnavailableError:
            own_pids.add(connection.backend_pid)
            connection.close()
            await trio.sleep(_AGAIN_S)
        except DatabaseInUseError as error:
            connection.close()
            if error.server_pid is not None and error.server_pid not in own_pids:
                raise
            await trio.sleep(_AGAIN_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
