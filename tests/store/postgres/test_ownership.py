"""One engine a database: the lock, its loss, and the facts that are fixed."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from jobengine.store.errors import StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.ownership import (
    DatabaseFactMismatchError,
    DatabaseInUseError,
    own_database,
    settle_facts,
)

WITHIN_S = 60.0


async def at_once() -> None:
    """Nothing is to be made ready."""


def connector(conninfo: str) -> Callable[[], Awaitable[Connection]]:
    async def connect() -> Connection:
        return await Connection.connect(conninfo, timeout_s=5, application_name="jobengine test")

    return connect


async def test_a_second_engine_is_refused_and_told_who_holds_the_database(migrated_database):
    connect = connector(migrated_database)
    async with own_database(connect, at_once):
        with pytest.raises(DatabaseInUseError, match="jobengine test"):
            async with own_database(connect, at_once):
                pass
    async with own_database(connect, at_once):
        pass


async def test_another_number_of_shards_is_refused_with_the_one_that_holds(migrated_database):
    connection = await connector(migrated_database)()
    await settle_facts(connection, {"shards": "16"})
    with pytest.raises(DatabaseFactMismatchError, match="set shards to 16"):
        await settle_facts(connection, {"shards": "8"})
    await connection.aclose()


_END_THE_OWNER = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks "
    "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
)
_IN_LINE = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_OWNERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
_OWNER = 7669456921319859570


async def test_a_lost_lock_is_taken_again(migrated_database):
    connect = connector(migrated_database)
    other = await connect()
    async with own_database(connect, at_once):
        await other.fetch(_END_THE_OWNER, {})
        with trio.fail_after(10):
            while not (await other.fetch("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'", {})):
                pass
    await other.aclose()


HIDING = """
    CREATE SCHEMA hiding;
    CREATE VIEW hiding.pg_locks AS SELECT * FROM pg_catalog.pg_locks WHERE false;
"""
"""A holder that ends between two looks is there for the first one alone."""


async def test_an_owner_that_finds_the_lock_taken_and_then_nobody_tries_again(migrated_database):
    taken: list[int] = []
    thief, killer = await connector(migrated_database)(), await connector(migrated_database)()
    await killer.execute_script(HIDING)

    async def connect() -> Connection:
        connection = await connector(migrated_database)()
        taken.append(connection.backend_pid)
        await connection.execute_script("SET search_path = hiding, pg_catalog, public")
        return connection

    with trio.fail_after(WITHIN_S):
        async with own_database(connect, at_once), trio.open_nursery() as nursery:
            nursery.start_soon(thief.fetch, f"SELECT pg_advisory_lock({_OWNER})", {})
            while not await killer.fetch(_IN_LINE, {}):
                pass
            await killer.fetch(_END_THE_OWNER, {})
            while len(taken) < 3:
                await trio.lowlevel.checkpoint()
            await thief.aclose()
            while [(taken[-1],)] != await killer.fetch(_OWNERS, {}):
                await trio.lowlevel.checkpoint()
    await killer.aclose()


async def test_losing_the_database_to_another_engine_ends_the_block(migrated_database):
    connect = connector(migrated_database)
    thief, killer = await connect(), await connect()

    async def be_robbed() -> None:
        async with own_database(connect, at_once), trio.open_nursery() as nursery:
            # In line before the owner ends, so that it is the thief who gets the lock.
            nursery.start_soon(thief.fetch, f"SELECT pg_advisory_lock({_OWNER})", {})
            with trio.fail_after(60):
                while not await killer.fetch(_IN_LINE, {}):
                    pass
                await killer.fetch(_END_THE_OWNER, {})
                await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await be_robbed()
    assert raised.group_contains(DatabaseInUseError)
    assert not raised.group_contains(StoreUnavailableError)
    await thief.aclose()
    await killer.aclose()
