"""A database of its own for each peer and measurement, on the server that jobengine is measured on.

I1  A peer's tables are made once, in a database that is the template of those it is measured in;
    so each measurement begins with empty tables, and a backlog that was cut short is left behind.
I2  Every database made here is dropped in the end, also when the run is cancelled. Its name begins
    with `jobengine_bench_`, for whoever finds one after SIGKILL.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import quote, urlencode

import attrs
import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bench.harness.database import Database

__all__ = ["PeerDatabase", "create_database"]

_PREFIX: Final = "jobengine_bench"
_URL_PARAMETERS: Final = ("host", "port", "user", "password", "sslmode")


@attrs.frozen
class PeerDatabase:
    """All methods block."""

    server: Database
    name: str

    @property
    def url(self) -> str:
        """In the form that libpq, asyncpg, node-postgres and sqlx agree on."""
        known = conninfo_to_dict(self.server.conninfo)
        given = {name: known[name] for name in _URL_PARAMETERS if known.get(name) is not None}
        return f"postgresql:///{self.name}?{urlencode(given, quote_via=quote)}"

    def count(self, query: str) -> int:
        """The one number that a query gives."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def create(self, template: "PeerDatabase | None") -> None:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template.name))
        with self.server.connection() as connection:
            connection.execute(statement)

    def drop(self) -> None:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with suppress(psycopg.OperationalError), self.server.connection() as connection:
            connection.execute(statement.format(sql.Identifier(self.name)))


@asynccontextmanager
async def create_database(
    server: Database, peer: str, template: PeerDatabase | None = None
) -> AsyncIterator[PeerDatabase]:
    """A database for the block, empty or a copy of another that nobody is connected to."""
    name = f"{_PREFIX}_{peer.replace('-', '_')}_{time.time_ns():x}"
    database = PeerDatabase(server, name)
    try:
        await trio.to_thread.run_sync(database.create, template)
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(database.drop)
