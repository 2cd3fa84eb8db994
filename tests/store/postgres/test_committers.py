"""What the server is still at work on for connections that are gone: it is over before anybody goes
on from what the store holds."""

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import psycopg
import pytest
import trio
import trio.lowlevel

from jobengine.store.errors import HeadMovedError, StoreSilentError, StoreUnavailableError
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.ownership import COMMITTER_KEY, own_database
from jobengine.store.postgres.store import PostgresStore
from tests.store.conformance.scribe import SHARD, TENANT, Scribe, new_row
from tests.store.postgres.test_ownership import at_once, connector
from tests.store.postgres.test_silence import change_of, open_way

WITHIN_S = 60.0
COMMIT_S = 0.4
COMMITTERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = "
    f"{COMMITTER_KEY & 0xFFFFFFFF} AND pid <> pg_backend_pid()"
)
WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"


@contextmanager
def admin_of(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as admin:
        yield admin


async def until_waiting(admin: psycopg.Connection[Any]) -> None:
    with trio.fail_after(WITHIN_S):
        while admin.execute(WAITING).fetchone() is None:
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_store(conninfo: str, **fields: Any) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(conninfo, dice=random.Random(1), **fields) as store:
        yield store


async def test_a_commit_of_an_earlier_engine_is_over_before_the_next_one_reads(
    migrated_database: str,
) -> None:
    async with (
        open_way(migrated_database, commit_timeout_s=WITHIN_S) as way,
        trio.open_nursery() as nursery,
    ):
        scribe = Scribe(way.store)
        await scribe.rows(new_row(1))
        with admin_of(way.direct) as admin, psycopg.connect(way.direct) as holder:
            holder.execute("SELECT FROM ledger_heads FOR UPDATE")
            nursery.start_soon(way.store.commit, scribe.batch(change_of(2)))
            await until_waiting(admin)
            way.proxy.swallow(requests=True, answers=True)

            async def look() -> None:
                assert admin.execute(COMMITTERS).fetchall() == []

            with trio.fail_after(WITHIN_S):
                async with own_database(connector(way.direct), look):
                    holder.rollback()
                    async with open_store(way.direct) as later:
                        assert await later.heads([TENANT]) == scribe.heads
        nursery.cancel_scope.cancel()


async def test_the_committers_of_an_engine_that_regains_its_lock_are_left_alone(
    migrated_database: str,
) -> None:
    async with open_store(migrated_database) as store:
        with admin_of(migrated_database) as admin, trio.fail_after(WITHIN_S):
            async with own_database(connector(migrated_database), at_once):
                await Scribe(store).rows(new_row(1))
                before = admin.execute(COMMITTERS).fetchall()
                owners = "SELECT pid FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype = "
                [owner] = admin.execute(owners + "'advisory'").fetchall()
                admin.execute("SELECT pg_terminate_backend(%s)", owner)
                while admin.execute(owners + "'advisory'").fetchall() in ([], [owner]):
                    await trio.lowlevel.checkpoint()
                assert admin.execute(COMMITTERS).fetchall() == before


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_heads_settle_nothing_while_the_server_may_be_at_work_on_the_commit(
    migrated_database: str,
) -> None:
    async with open_store(migrated_database, commit_timeout_s=COMMIT_S) as store:
        scribe = Scribe(store)
        await scribe.rows(new_row(1))
        batch = scribe.batch(change_of(2))
        with admin_of(migrated_database) as admin, trio.fail_after(WITHIN_S):
            [(pid,)] = admin.execute(COMMITTERS).fetchall()
            with stopped(pid):
                with pytest.raises(StoreSilentError):
                    await store.commit(batch)
                for tenant_ids in ([TENANT], []):
                    with pytest.raises(StoreUnavailableError, match=f"{pid} is still at work"):
                        await store.settled_heads(tenant_ids)
                with pytest.raises(StoreUnavailableError, match=f"{pid} is still at work"):
                    await store.commit(msgspec.structs.replace(batch, again=True))
            settled = None
            while settled is None:
                try:
                    settled = await store.settled_heads([TENANT])
                except StoreUnavailableError:
                    await trio.lowlevel.checkpoint()
            assert (pid,) not in admin.execute("SELECT pid FROM pg_stat_activity").fetchall()
            if settled == scribe.heads:
                await store.commit(batch)
            else:
                with pytest.raises(HeadMovedError):
                    await store.commit(batch)


async def test_slow_reads_of_shards_keep_no_commit_from_its_heads(migrated_database: str) -> None:
    async with (
        open_store(migrated_database, shard_connections=1, acquire_timeout_s=0.05) as store,
        trio.open_nursery() as nursery,
    ):
        scribe = Scribe(store)
        await scribe.rows(new_row(1))
        with admin_of(migrated_database) as admin, psycopg.connect(migrated_database) as holder:
            holder.execute("LOCK TABLE controls IN ACCESS EXCLUSIVE MODE")
            nursery.start_soon(store.controls, SHARD)
            await until_waiting(admin)
            with trio.fail_after(WITHIN_S):
                assert await store.settled_heads([TENANT]) == scribe.heads
                late = Scribe(store).batch(change_of(2))
                with pytest.raises(HeadMovedError) as moved:
                    await store.commit(late)
                assert moved.value.tenant_ids == (TENANT,)
        nursery.cancel_scope.cancel()
