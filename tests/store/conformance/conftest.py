"""Every test that asks for ``store`` runs on the memory store and on each installed PostgreSQL."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing

import psycopg
import pytest
import trio

from jobengine.store.memory import MemoryStore
from jobengine.store.port import Store
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.roles import bring_up_to_date
from tests.postgres_server import (
    PostgresServer,
    fresh_database,
    installed_binaries,
    running_server,
)
from tests.store.conformance.scribe import NOW, Scribe

MAJORS = (15, 18)


class Servers:
    """Started when first asked for: a server a major, and in it a migrated database to copy."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[int, tuple[PostgresServer, str]] = {}

    def migrated(self, major: int) -> tuple[PostgresServer, str]:
        if major not in self._running:
            binaries = installed_binaries().get(major)
            if binaries is None:
                pytest.skip(f"PostgreSQL {major} is not installed")
            server = self._stack.enter_context(running_server(binaries))
            conninfo = self._stack.enter_context(fresh_database(server))
            trio.run(_migrate, conninfo)
            with closing(psycopg.connect(conninfo)) as session:
                name = session.info.dbname
            self._running[major] = server, name
        return self._running[major]


async def _migrate(conninfo: str) -> None:
    connection = await Connection.connect(conninfo)
    await bring_up_to_date(connection, NOW)
    await connection.fetch("SELECT add_day_partitions($1, 7)", (NOW,))
    await connection.aclose()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(params=MAJORS, ids=lambda major: f"postgresql{major}")
def migrated_database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """The conninfo of a fresh database with the schema in place."""
    server, template = servers.migrated(request.param)
    with fresh_database(server, template=template) as conninfo:
        yield conninfo


@pytest.fixture(params=["memory", *MAJORS], ids=str)
def store_place(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """Where the store of a test lives: a conninfo, or nothing for memory."""
    if request.param == "memory":
        yield ""
        return
    server, template = servers.migrated(request.param)
    with fresh_database(server, template=template) as conninfo:
        yield conninfo


@pytest.fixture
async def store(store_place: str) -> AsyncIterator[Store]:
    async with open_store(store_place) as store:
        yield store


@pytest.fixture
def scribe(store: Store) -> Scribe:
    return Scribe(store)


@asynccontextmanager
async def open_store(place: str) -> AsyncIterator[Store]:
    if not place:
        yield MemoryStore()
        return
    async with open_postgres_store(place, dice=random.Random(1), commit_connections=2) as store:
        yield store
