"""Opens the PostgreSQL store: its pools, the role of each, and what is set on their connections.

Tenants' reads go as jobengine_api; commits, and the reads of shards, as jobengine_ledger.

Commits and tenants' reads are planned once a connection, without looking at a table's size: a plan
made while a table was small would read it whole when it has grown. With policies in sight,
PostgreSQL left to itself would plan each such read anew, which takes longer than the read. The
reads of shards keep PostgreSQL's own choice.

I1  PostgreSQL itself gives a statement up shortly before its deadline here, and then says so: only
    a server that is gone, stuck or cut off is silent until the deadline. What it was to do is thus
    over soon after, and holds no lock that the next attempt would wait for.
I2  When a connection falls silent, none that is open by then is lent again, of any pool: they may
    have gone the same way. What became of a commit is thus asked on a new one.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import Pool, open_pool
from jobengine.store.postgres.ownership import COMMITTER_KEY
from jobengine.store.postgres.roles import API, LEDGER, Access
from jobengine.store.postgres.store import PostgresStore

__all__ = ["COMMIT_SETTINGS", "SHARD_CONNECTIONS", "open_postgres_store"]

COMMIT_SETTINGS: Final = """
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
"""
SHARD_CONNECTIONS: Final = 3
_SHARD_SETTINGS: Final = "SET jit = off;"
_IS_COMMITTER: Final = f"SELECT pg_advisory_lock_shared({COMMITTER_KEY});"
_SERVERS_SHARE: Final = 0.9
"""Of a deadline: what the server gets (I1)."""


@asynccontextmanager
async def open_postgres_store(
    database: str | Access,
    *,
    dice: random.Random,
    pool_size_max: int = 8,
    shard_connections: int = SHARD_CONNECTIONS,
    commit_connections: int = 1,
    connect_timeout_s: float = 10.0,
    commit_timeout_s: float = 10.0,
    read_timeout_s: float = 30.0,
    acquire_timeout_s: float = 5.0,
) -> AsyncIterator[PostgresStore]:
    """A store that lives as long as the block, on a database whose schema is in place.

    `pool_size_max` connections for tenants' reads, `shard_connections` for what shards read, and
    `commit_connections` for commits, opened when first needed; `dice` spreads reconnections. An
    answer that takes longer than `commit_timeout_s` or `read_timeout_s` costs the connection.
    Bringing roles and schema up to date is the caller's: `bring_up_to_date` first, then this.
    """
    access = Access(database) if isinstance(database, str) else database
    pools: list[Pool] = []

    def distrust() -> None:
        for each in pools:
            each.distrust()

    @asynccontextmanager
    async def pool(
        role: str, settings: str, size_max: int, answer_s_max: float
    ) -> AsyncIterator[Pool]:
        server_ms = max(1, int(answer_s_max * _SERVERS_SHARE * 1_000))
        settings += f"SET statement_timeout = {server_ms};"

        async def connect() -> Connection:
            return await access.connect(
                role, settings=settings, timeout_s=connect_timeout_s, answer_s_max=answer_s_max
            )

        async with open_pool(
            connect,
            size_max=size_max,
            dice=dice,
            acquire_timeout_s=acquire_timeout_s,
            fell_silent=distrust,
        ) as opened:
            pools.append(opened)
            yield opened

    async with (
        pool(API, COMMIT_SETTINGS, pool_size_max, read_timeout_s) as tenants,
        pool(LEDGER, _SHARD_SETTINGS, shard_connections, read_timeout_s) as shards,
        pool(
            LEDGER, COMMIT_SETTINGS + _IS_COMMITTER, commit_connections, commit_timeout_s
        ) as commits,
    ):
        yield PostgresStore(tenants, shards, commits)
