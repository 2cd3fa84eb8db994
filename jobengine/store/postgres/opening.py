"""Opens the PostgreSQL store: its pools, and what is set on their connections.

Commits are planned once a connection, without looking at a table's size: a plan made while a table
was small would read it whole when it has grown. Reads keep PostgreSQL's own choice.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import open_pool
from jobengine.store.postgres.store import PostgresStore

__all__ = ["COMMIT_SETTINGS", "open_postgres_store"]

COMMIT_SETTINGS: Final = """
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
"""
_READ_SETTINGS: Final = "SET jit = off;"


@asynccontextmanager
async def open_postgres_store(
    conninfo: str,
    *,
    dice: random.Random,
    pool_size_max: int = 8,
    commit_connections: int = 1,
    connect_timeout_s: float = 10.0,
    acquire_timeout_s: float = 5.0,
) -> AsyncIterator[PostgresStore]:
    """A store that lives as long as the block, on a database whose schema is in place.

    `pool_size_max` connections for reads and `commit_connections` for commits, opened when first
    needed; `dice` spreads reconnections. Migrating is the caller's: `migrate` first, then this.
    """

    async def connect(settings: str) -> Connection:
        connection = await Connection.connect(conninfo, timeout_s=connect_timeout_s)
        try:
            await connection.execute_script(settings)
        except BaseException:
            connection.close()
            raise
        return connection

    async def connect_for_reads() -> Connection:
        return await connect(_READ_SETTINGS)

    async def connect_for_commits() -> Connection:
        return await connect(COMMIT_SETTINGS)

    async with (
        open_pool(
            connect_for_reads,
            size_max=pool_size_max,
            dice=dice,
            acquire_timeout_s=acquire_timeout_s,
        ) as reads,
        open_pool(
            connect_for_commits,
            size_max=commit_connections,
            dice=dice,
            acquire_timeout_s=acquire_timeout_s,
        ) as commits,
    ):
        yield PostgresStore(reads, commits)
