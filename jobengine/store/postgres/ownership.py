"""Keeps a database to one engine, and an engine to the facts of its database.

The lock is advisory and lives with one connection. When that connection is lost, as in a restart of
PostgreSQL, it is taken again as soon as the server answers; commits that cross such a gap are still
fenced by the ledger's compare-and-set. A server that has not noticed the loss keeps the lock for
the lost session: it is ours still, and taken again once the server has let it go.

I1  No engine serves a database whose lock another one holds.
I2  The number of shards never changes for a database: rows carry their shard.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from jobengine.store.errors import StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import load_statements

__all__ = ["DatabaseFactMismatchError", "DatabaseInUseError", "own_database"]

_LOCK_KEY: Final = 0x6A6F_626F_776E_6572  # "jobowner"
_AGAIN_S: Final = 1.0

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
async def own_database(connect: Connect, facts: Mapping[str, str]) -> AsyncIterator[None]:
    """Be the only engine of a database for as long as the block runs.

    Raises:
        DatabaseInUseError: on entering, or out of the block when another engine has taken over.
        DatabaseFactMismatchError: on entering, naming the fact, both values and the remedy.
        StoreUnavailableError: on entering, when the server does not answer.
    """
    connection = await connect()
    try:
        await _take(connection)
        await _check(connection, facts)
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
    # The login sees the name of another session of its own; the role it serves as need not.
    await connection.execute_script("RESET ROLE")
    rows = await connection.fetch(statements["ownership_holder"], key)
    holder, pid = "a session that has just ended; try again", None
    if rows:
        name, address, pid = rows[0]
        where = f"from {address}" if address else "on this machine"
        holder = f"{name or 'a session'} {where}, server process {pid}; stop it first"
    raise DatabaseInUseError(f"another engine serves this database: {holder}", pid)


async def _check(connection: Connection, facts: Mapping[str, str]) -> None:
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
    """The lock on a new connection; `lost_pid` is the server's process of the one that was lost."""
    while True:
        try:
            connection = await connect()
        except StoreUnavailableError:
            await trio.sleep(_AGAIN_S)
            continue
        try:
            await _take(connection)
        except StoreUnavailableError:
            connection.close()
            await trio.sleep(_AGAIN_S)
        except DatabaseInUseError as error:
            connection.close()
            if error.server_pid != lost_pid:
                raise
            await trio.sleep(_AGAIN_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
