"""Opens the PostgreSQL store: its pools, the role of each, and what is set on their connections.

Tenants' reads go as jobengine_api; commits, and the reads of shards, as jobengine_ledger.

Commits and tenants' reads are planned once a connection, without looking at a table's size: a plan
made while a table was small would read it whole when it has grown. With policies in sight,
PostgreSQL left to itself would plan each such read anew, which takes longer than the read. The
reads of shards keep PostgreSQL's own choice.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import Pool, open_pool
from jobengine.store.postgres.roles import API, LEDGER, Access
from jobengine.store.postgres.store import PostgresStore

__all__ = ["COMMIT_SETTINGS", "open_postgres_store"]

COMMIT_SETTINGS: Final = """
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
"""
_SHARD_SETTINGS: Final = "SET jit = off;"


@asynccontextmanager
async def open_postgres_store(
    database: str | Access,
    *,
    dice: random.Random,
    pool_size_max: int = 8,
    shard_connections: int = 3,
    commit_connections: int = 1,
    connect_timeout_s: float = 10.0,
    acquire_timeout_s: float = 5.0,
) -> AsyncIterator[PostgresStore]:
    """A store that lives as long as the block, on a database whose schema is in place.

    `pool_size_max` connections for tenants' reads, `shard_connections` for what shards read, and
    `commit_connections` for commits, opened when first needed; `dice` spreads reconnections.
    Bringing roles and schema up to date is the caller's: `bring_up_to_date` first, then this.
    """
    access = Access(database) if isinstance(database, str) else database

    @asynccontextmanager
    async def pool(role: str, settings: str, size_max: int) -> AsyncIterator[Pool]:
        async def connect() -> Connection:
            return await access.connect(role, settings=settings, timeout_s=connect_timeout_s)

        async with open_pool(
            connect, size_max=size_max, dice=dice, acquire_timeout_s=acquire_timeout_s
        ) as opened:
            yield opened

    async with (
        pool(API, COMMIT_SETTINGS, pool_size_max) as tenants,
        pool(LEDGER, _SHARD_SETTINGS, shard_connections) as shards,
        pool(LEDGER, COMMIT_SETTINGS, commit_connections) as commits,
    ):
        yield PostgresStore(tenants, shards, commits)
