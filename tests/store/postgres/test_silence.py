"""Connections to PostgreSQL on which packets vanish: each wait ends, and a commit in doubt is
settled on a new connection by what the database holds."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio
import trio.lowlevel
import trio.testing
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobengine.actors.gateway import UnavailableError
from jobengine.domain.change import ChangeSet
from jobengine.engine import Engine
from jobengine.settings import Settings
from jobengine.store.errors import StoreBusyError, StoreSilentError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.ownership import own_database
from jobengine.store.postgres.statements import Statement, load_statements
from jobengine.store.postgres.store import PostgresStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, new_job
from tests.chaos.cutting_proxy import CuttingProxy, open_socket_proxy
from tests.store.conformance.scribe import TENANT, Scribe, job_id, new_row
from tests.store.postgres.test_ownership import at_once

COMMIT_S = 0.4
READ_S = 0.5
WITHIN_S = 20.0
pytestmark = pytest.mark.parametrize("migrated_database", [18], indirect=True, ids=["18"])
"""What is tried here lies on this side of the connection: one server will do."""
SLEEP = Statement("sleep", "SELECT pg_sleep(60)")


@attrs.frozen
class Way:
    """A store whose connections pass through a proxy, and the database it leads to."""

    store: PostgresStore
    proxy: CuttingProxy
    conninfo: str
    direct: str


@asynccontextmanager
async def open_way(direct: str, **fields: Any) -> AsyncIterator[Way]:
    given = conninfo_to_dict(direct)
    async with open_socket_proxy(
        Path(str(given["host"])) / f".s.PGSQL.{given['port']}", 1
    ) as proxy:
        host, _, port = proxy.address.partition(":")
        conninfo = make_conninfo(direct, host=host, port=port)
        fields = {"commit_timeout_s": COMMIT_S, "read_timeout_s": READ_S} | fields
        async with open_postgres_store(conninfo, dice=random.Random(1), **fields) as store:
            yield Way(store, proxy, conninfo, direct)


@pytest.fixture
async def way(migrated_database: str) -> AsyncIterator[Way]:
    async with open_way(migrated_database) as opened:
        yield opened


def change_of(number: int) -> ChangeSet:
    return ChangeSet(tenant_id=TENANT, entries=[], rows=[new_row(number)])


async def raised_by(call: Callable[[], Awaitable[object]]) -> StoreUnavailableError:
    with trio.fail_after(WITHIN_S), pytest.raises(StoreUnavailableError) as caught:
        await call()
    return caught.value


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_a_commit_that_is_not_answered_ends_in_doubt_and_the_heads_settle_it(
    way: Way, lost: str
) -> None:
    scribe = Scribe(way.store)
    await scribe.rows(new_row(1))
    await way.store.heads([TENANT])
    batch = scribe.batch(change_of(2))
    way.proxy.swallow(**{lost: True})
    began_at = trio.current_time()
    error = await raised_by(lambda: way.store.commit(batch))
    assert isinstance(error, StoreSilentError)
    assert error.may_have_committed
    assert COMMIT_S <= trio.current_time() - began_at < COMMIT_S + 1
    with trio.fail_after(WITHIN_S):
        heads = await way.store.heads([TENANT])
        took_effect = heads[TENANT].next_seq == batch.blocks[0].last_seq + 1
        assert took_effect == (lost == "answers")
        if not took_effect:
            await way.store.commit(batch)
        assert len(await way.store.jobs(TENANT, [job_id(1), job_id(2)])) == 2


async def test_no_connection_that_was_open_when_another_fell_silent_is_used_again(
    way: Way,
) -> None:
    scribe = Scribe(way.store)
    await scribe.rows(new_row(1))
    await way.store.heads([TENANT])
    await scribe.job(1)
    assert way.proxy.open_links == 3
    way.proxy.swallow(requests=True)
    await raised_by(lambda: way.store.commit(scribe.batch(change_of(2))))
    began_at = trio.current_time()
    await way.store.heads([TENANT])
    await scribe.job(1)
    assert trio.current_time() - began_at < READ_S, "a read waited for a connection of before"


async def test_a_lent_connection_that_is_distrusted_keeps_nobody_waiting(
    migrated_database: str,
) -> None:
    async with (
        open_way(migrated_database, shard_connections=1, read_timeout_s=2 * COMMIT_S) as way,
        trio.open_nursery() as nursery,
    ):
        await Scribe(way.store).rows(new_row(1))
        await way.store.heads([TENANT])
        way.proxy.swallow(answers=True)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(raised_by, lambda: way.store.heads([TENANT]))
        await raised_by(lambda: Scribe(way.store).rows(new_row(2)))
        with trio.fail_after(COMMIT_S / 2):
            await way.store.heads([TENANT])


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_a_read_that_is_not_answered_ends(way: Way, lost: str) -> None:
    await way.store.jobs(TENANT, [job_id(1)])
    way.proxy.swallow(**{lost: True})
    error = await raised_by(lambda: way.store.jobs(TENANT, [job_id(1)]))
    assert isinstance(error, StoreSilentError)
    assert await way.store.jobs(TENANT, [job_id(1)]) == []


async def test_a_server_that_takes_connections_and_says_nothing_blocks_no_pool(
    migrated_database: str,
) -> None:
    async with (
        open_way(migrated_database, connect_timeout_s=0.3) as way,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(way.store.heads, [TENANT])
        with trio.fail_after(WITHIN_S):
            while not way.proxy.open_links:
                await trio.lowlevel.checkpoint()
            way.proxy.swallow(answers=True)
            assert await way.store.heads([TENANT]) == {}


async def test_a_statement_that_is_merely_slow_is_given_up_by_the_server(way: Way) -> None:
    with psycopg.connect(way.direct) as holder:
        scribe = Scribe(way.store)
        await scribe.rows(new_row(1))
        holder.execute("SELECT FROM ledger_heads FOR UPDATE")
        error = await raised_by(lambda: way.store.commit(scribe.batch(change_of(2))))
        assert error.sqlstate == "57014"
        assert not error.may_have_committed


async def test_a_pool_whose_connections_are_all_lent_says_so(migrated_database: str) -> None:
    async with (
        open_way(migrated_database, pool_size_max=1, acquire_timeout_s=0.05) as way,
        trio.open_nursery() as nursery,
    ):
        await way.store.jobs(TENANT, [job_id(1)])
        async with way.proxy.hold():
            nursery.start_soon(way.store.jobs, TENANT, [job_id(1)])
            await trio.testing.wait_all_tasks_blocked()
            for tenant_id in ("another", TENANT):
                error = await raised_by(partial(way.store.jobs, tenant_id, [job_id(1)]))
                assert isinstance(error, StoreBusyError)


async def test_what_prepares_a_statement_is_known_to_have_kept_nothing(way: Way) -> None:
    connection = await Connection.connect(way.conninfo, answer_s_max=0.1)
    way.proxy.swallow(answers=True)
    error = await raised_by(lambda: connection.fetch(SLEEP))
    assert isinstance(error, StoreSilentError)
    assert not error.may_have_committed
    assert connection.is_closed


async def test_a_large_request_that_is_not_taken_ends_too(way: Way) -> None:
    connection = await Connection.connect(way.conninfo, answer_s_max=0.2)
    async with way.proxy.hold():
        error = await raised_by(lambda: connection.fetch("SELECT $1::bytea", (bytes(50_000_000),)))
    assert isinstance(error, StoreSilentError)


async def test_an_engine_whose_lock_the_server_keeps_for_its_lost_session_goes_on(
    way: Way,
) -> None:
    async def connect() -> Connection:
        return await Connection.connect(way.conninfo, application_name="jobengine test")

    holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with psycopg.connect(way.direct, autocommit=True) as admin:
        with trio.fail_after(WITHIN_S):
            async with own_database(connect, at_once):
                before = admin.execute(holders).fetchall()
                way.proxy.lose_near_ends()
                while way.proxy.open_links < 2:  # noqa: ASYNC110 - a proxy is watched
                    await trio.sleep(0.01)
                await trio.sleep(0.1)
                assert admin.execute(holders).fetchall() == before
                admin.execute("SELECT pg_terminate_backend(%s)", before[0])
                while admin.execute(holders).fetchall() in ([], before):  # noqa: ASYNC110
                    await trio.sleep(0.01)


async def test_an_attempt_that_took_the_lock_and_heard_nothing_is_no_other_engine(
    way: Way,
) -> None:
    pids: list[int] = []
    holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"

    async def connect() -> Connection:
        connection = await Connection.connect(way.conninfo, answer_s_max=4 * READ_S)
        pids.append(connection.backend_pid)
        if len(pids) == 2:
            await connection.prepare([load_statements()["ownership_try"]])
            way.proxy.swallow(answers=True)
        return connection

    with psycopg.connect(way.direct, autocommit=True) as admin, trio.fail_after(WITHIN_S):
        async with own_database(connect, at_once):
            admin.execute("SELECT pg_terminate_backend(%s)", pids)
            while len(pids) < 2 or admin.execute(holders).fetchall() != [(pids[1],)]:
                await trio.lowlevel.checkpoint()
            way.proxy.swallow(requests=True, answers=True)
            while len(pids) < 4:
                await trio.lowlevel.checkpoint()
            assert admin.execute(holders).fetchall() == [(pids[1],)]
            admin.execute("SELECT pg_terminate_backend(%s)", pids[1:2])
            while admin.execute(holders).fetchall() in ([], [(pids[1],)]):
                await trio.lowlevel.checkpoint()


def is_away(engine: Engine) -> bool:
    return engine.ledger.state.away_since_mono is not None


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_tenants_are_told_of_the_doubt_and_every_submit_takes_effect_once(
    way: Way, lost: str
) -> None:
    settings = Settings(shards=2)
    async with (
        memory_engine(store=way.store, settings=settings) as engine,
        trio.open_nursery() as nursery,
    ):
        submit = engine.gateway.submit
        await submit(TENANT, PRODUCER, [new_job(engine)], None)
        way.proxy.swallow(**{lost: True})
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as submits:
                for _ in range(3):
                    submits.start_soon(submit, TENANT, PRODUCER, [new_job(engine)], None)
                while not is_away(engine):
                    await trio.lowlevel.checkpoint()
                assert "no answer within 0.4 s" in engine.ledger.state.why
                with pytest.raises(UnavailableError, match="a commit is in doubt") as caught:
                    await submit(TENANT, PRODUCER, [new_job(engine)], None)
                assert caught.value.retry_after_s == 2
            await submit(TENANT, PRODUCER, [new_job(engine)], None)
        assert not is_away(engine)
        nursery.cancel_scope.cancel()
    with psycopg.connect(way.direct) as session:
        row = session.execute("SELECT count(*), count(DISTINCT job_id) FROM jobs").fetchone()
        assert row == (5, 5)
