"""What only PostgreSQL can get wrong: concurrency, lost sessions, partitions, shared text."""

import random
import tempfile
from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobengine.domain.change import (
    ArtifactRow,
    ChangeSet,
    DeadLetterRow,
    IdempotencyRow,
    UniqueRow,
)
from jobengine.domain.instant import DAY, HOUR
from jobengine.store.errors import HeadMovedError, StoreUnavailableError
from jobengine.store.port import JobFilter
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import open_pool
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.store import PostgresStore
from jobengine.wire.fields import INDEXED_BYTES_MAX
from tests.store.conformance.scribe import (
    NOW,
    TENANT,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)


@pytest.fixture
async def store(migrated_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(
        migrated_database, dice=random.Random(1), commit_connections=2
    ) as store:
        yield store


def partitions(conninfo: str, table: str) -> list[str]:
    with psycopg.connect(conninfo) as session:
        rows = session.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
            " ORDER BY 1",
            (table,),
        )
        return [name for (name,) in rows]


async def waiting_pid(admin: psycopg.Connection[tuple[object, ...]]) -> int:
    """The backend that waits for a lock."""
    with trio.fail_after(10):
        while True:
            row = admin.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if row is not None:
                assert isinstance(row[0], int)
                return row[0]
            await trio.lowlevel.checkpoint()


async def test_a_commit_killed_half_way_has_left_nothing(
    migrated_database: str, store: PostgresStore
) -> None:
    scribe = Scribe(store)
    await scribe.rows(new_row(1))
    batch = scribe.batch(
        ChangeSet(
            tenant_id=TENANT,
            entries=[],
            rows=[new_row(2), change_row(await scribe.job(1), "running")],
        )
    )
    errors: list[StoreUnavailableError] = []

    async def commit() -> None:
        with pytest.raises(StoreUnavailableError) as raised:
            await store.commit(batch)
        errors.append(raised.value)

    with (
        psycopg.connect(migrated_database, autocommit=True) as admin,
        psycopg.connect(migrated_database) as blocker,
    ):
        async with trio.open_nursery() as nursery:
            blocker.execute("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
            nursery.start_soon(commit)
            admin.execute("SELECT pg_terminate_backend(%s)", (await waiting_pid(admin),))
    assert errors[0].may_have_committed
    assert await store.heads([TENANT]) == scribe.heads
    assert await store.jobs(TENANT, [job_id(2)]) == []
    await store.commit(batch)
    assert [job.job_id for job in await store.jobs(TENANT, [job_id(2)])] == [job_id(2)]


class Muffler:
    """Passes a connection on to a server until told to swallow its answers and hang up."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.swallows = False

    async def serve(self, path: str, task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen(5)
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    client, _ = await listener.accept()
                    nursery.start_soon(self._pass_on, trio.SocketStream(client))

    async def _pass_on(self, client: trio.SocketStream) -> None:
        server = await trio.open_unix_socket(self._server)
        async with client, server, trio.open_nursery() as nursery:

            async def answers() -> None:
                async for octets in server:
                    if self.swallows:
                        break
                    await client.send_all(octets)
                nursery.cancel_scope.cancel()

            nursery.start_soon(answers)
            async for octets in client:
                await server.send_all(octets)
            nursery.cancel_scope.cancel()


async def test_a_commit_whose_answer_is_lost_is_found_by_its_head(
    migrated_database: str, store: PostgresStore
) -> None:
    host = conninfo_to_dict(migrated_database)
    muffler = Muffler(f"{host['host']}/.s.PGSQL.{host['port']}")
    async with trio.open_nursery() as nursery:
        with tempfile.TemporaryDirectory(prefix="jobengine-") as directory:
            path = f"{directory}/.s.PGSQL.5432"
            await nursery.start(lambda task_status: muffler.serve(path, task_status))
            through = make_conninfo(migrated_database, host=directory, port=5432)
            async with open_postgres_store(through, dice=random.Random(1)) as muffled:
                scribe = Scribe(muffled)
                await scribe.rows(new_row(1))
                batch = scribe.batch(ChangeSet(tenant_id=TENANT, entries=[], rows=[new_row(2)]))
                muffler.swallows = True
                with pytest.raises(StoreUnavailableError) as raised:
                    await muffled.commit(batch)
                assert raised.value.may_have_committed
                muffler.swallows = False
                heads = await muffled.heads([TENANT])
                assert heads[TENANT].link == batch.blocks[0].link
                with pytest.raises(HeadMovedError):
                    await muffled.commit(batch)
            nursery.cancel_scope.cancel()
    assert len(await store.jobs(TENANT, [job_id(2)])) == 1


async def test_two_writers_of_many_tenants_never_wait_in_a_ring(store: PostgresStore) -> None:
    """Every commit names all tenants, in either order; whoever comes second finds heads moved."""
    tenant_ids = [f"t{number}" for number in range(8)]
    moved = 0

    async def write(number: int, order: int) -> None:
        nonlocal moved
        scribe = Scribe(store)
        for turn in range(15):
            scribe.heads = await store.heads(tenant_ids)
            rows = [
                new_row(turn * 20 + number * 10 + place, tenant_id=tenant_id)
                for place, tenant_id in enumerate(tenant_ids[::order])
            ]
            try:
                await scribe.rows(*rows)
            except HeadMovedError:
                moved += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, 0, 1)
            nursery.start_soon(write, 1, -1)
    heads = await store.heads(tenant_ids)
    assert {head.next_seq for head in heads.values()} == {1 + 30 - moved}


async def test_other_tenants_commit_while_one_waits(
    migrated_database: str, store: PostgresStore
) -> None:
    scribe = Scribe(store)
    await scribe.rows(new_row(1), new_row(2, tenant_id="other"))
    first = scribe.batch(ChangeSet(tenant_id=TENANT, entries=[], rows=[new_row(3)]))
    with (
        psycopg.connect(migrated_database, autocommit=True) as admin,
        psycopg.connect(migrated_database) as blocker,
    ):
        async with trio.open_nursery() as nursery:
            blocker.execute("SELECT FROM ledger_heads WHERE tenant_id = %s FOR UPDATE", (TENANT,))
            nursery.start_soon(store.commit, first)
            await waiting_pid(admin)
            with trio.fail_after(10):
                await scribe.rows(new_row(4, tenant_id="other"))
            blocker.rollback()
    assert len(await store.jobs(TENANT, [job_id(3)])) == 1


async def test_days_are_prepared_once_however_many_ask(
    migrated_database: str, store: PostgresStore
) -> None:
    before = partitions(migrated_database, "ledger_blocks")
    assert len(before) == 9
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(store.prepare, NOW + 3 * DAY)
    assert partitions(migrated_database, "ledger_blocks")[:9] == before
    for table in ("ledger_blocks", "job_logs"):
        assert len(partitions(migrated_database, table)) == 12
    await Scribe(store).write(ChangeSet(tenant_id=TENANT), at=NOW + 10 * DAY)


@pytest.mark.parametrize("days", [9, -2])
async def test_a_commit_of_a_day_that_is_not_prepared_is_kept_out_whole_until_it_is(
    store: PostgresStore, days: int
) -> None:
    scribe, at = Scribe(store), NOW + days * DAY
    batch = scribe.batch(ChangeSet(tenant_id=TENANT, entries=[], rows=[new_row(1)]), at=at)
    with pytest.raises(StoreUnavailableError, match=r"no partition of .* wall clock") as caught:
        await store.commit(batch)
    assert not caught.value.may_have_committed
    assert await store.jobs(TENANT, [job_id(1)]) == []
    await store.prepare(at)
    await store.commit(batch)
    assert len(await store.jobs(TENANT, [job_id(1)])) == 1


async def test_the_longest_texts_that_doors_take_fit_together_into_every_index(
    store: PostgresStore,
) -> None:
    chance = random.Random(5)

    def letters(count: int) -> str:
        """Of four bytes each, which do not compress."""
        return "".join(chr(chance.randrange(0x20000, 0x2A6D0)) for _ in range(count))

    tenant_id, text, name = letters(256), letters(INDEXED_BYTES_MAX // 4), "n" * 128
    about = definition(queue=name, job_type=name, source_id=name, run_id=letters(64))
    await Scribe(store).write(
        ChangeSet(
            tenant_id=tenant_id,
            entries=[],
            rows=[new_row(1, tenant_id=tenant_id, about=about)],
            artifacts=[
                ArtifactRow(
                    tenant_id=tenant_id,
                    job_id=job_id(1),
                    attempt=1,
                    name=text,
                    digest="sha256:" + "0" * 64,
                    mime="",
                    size_bytes=0,
                    at=NOW,
                )
            ],
            unique=[UniqueRow(tenant_id=tenant_id, key=text, job_id=job_id(1))],
            idempotency=[
                IdempotencyRow(
                    tenant_id=tenant_id,
                    key=text,
                    path="/" + letters(128),
                    body_digest="",
                    answer=msgspec.Raw(b"{}"),
                    at=NOW,
                )
            ],
            dead_letters=[
                DeadLetterRow(
                    tenant_id=tenant_id,
                    dead_letter_id=f"{job_id(1)}.1",
                    job_id=job_id(1),
                    job_type=name,
                    queue=name,
                    class_=name,
                    signature=name,
                    error=msgspec.Raw(b"{}"),
                    attempts=1,
                    at=NOW,
                )
            ],
        )
    )


async def test_answers_are_dropped_by_whole_days_that_are_over(
    migrated_database: str, store: PostgresStore
) -> None:
    day = NOW - NOW % DAY
    await store.drop_over(day + DAY + 23 * HOUR)
    kept = partitions(migrated_database, "idempotency_answers")
    await store.drop_over(day + 2 * DAY)
    later = partitions(migrated_database, "idempotency_answers")
    assert [name for name in kept if name not in later] == [kept[0]]


async def test_whoever_drops_days_at_the_same_time_gives_way_or_waits(
    migrated_database: str, store: PostgresStore
) -> None:
    for days in range(1, 11):
        now_at = NOW + days * DAY
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.prepare, now_at)
                nursery.start_soon(store.drop_over, now_at)
                nursery.start_soon(store.drop_logs, now_at - 4 * DAY)
        await store.prepare(now_at)
        await store.drop_over(now_at)
        await store.drop_logs(now_at - 4 * DAY)
        oldest = partitions(migrated_database, "ledger_blocks")[days][-8:]
        assert partitions(migrated_database, "idempotency_answers")[0].endswith(oldest)
        assert len(partitions(migrated_database, "job_logs")) == min(9 + days, 12)


async def test_dropping_does_not_wait_for_a_reader_of_old_answers(
    migrated_database: str, store: PostgresStore
) -> None:
    before = partitions(migrated_database, "idempotency_answers")
    with psycopg.connect(migrated_database) as reader:
        reader.execute("SELECT FROM idempotency_answers")
        with trio.fail_after(10):
            await store.drop_over(NOW + 2 * DAY)
    assert set(before) <= set(partitions(migrated_database, "idempotency_answers"))
    await store.drop_over(NOW + 2 * DAY)
    assert not set(before) <= set(partitions(migrated_database, "idempotency_answers"))


async def test_a_page_of_a_selective_list_reads_a_bounded_number_of_rows(
    migrated_database: str,
) -> None:
    async def connect() -> Connection:
        return await Connection.connect(migrated_database)

    async with open_pool(connect, size_max=2, dice=random.Random(1)) as pool:
        store = PostgresStore(pool, pool, pool, rows_per_page_max=10)
        await Scribe(store).rows(*(new_row(number) for number in range(1, 36)))
        wanted = JobFilter(run_id="none")
        page = await store.job_list(TENANT, wanted, None, 5)
        assert (page.jobs, page.next_after) == ([], job_id(26))
        pages = 1
        while page.next_after is not None:
            page = await store.job_list(TENANT, wanted, page.next_after, 5)
            pages += 1
        assert pages == 4


async def test_a_database_without_the_schema_is_not_ready(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute("DELETE FROM schema_migration")
    async with open_postgres_store(migrated_database, dice=random.Random(1)) as store:
        health = await store.health()
    assert not health.ready
    assert "0001" in health.detail


async def test_a_server_that_is_away_is_not_ready() -> None:
    nowhere = "host=/nonexistent dbname=none connect_timeout=2"
    async with open_postgres_store(nowhere, dice=random.Random(1), acquire_timeout_s=0.2) as store:
        health = await store.health()
        with pytest.raises(StoreUnavailableError):
            await store.heads([TENANT])
    assert (health.ready, health.schema_version) == (False, 0)
    assert health.detail


async def test_changes_of_jobs_touch_no_index(migrated_database: str, store: PostgresStore) -> None:
    scribe = Scribe(store)
    numbers = range(1, 301)
    await scribe.rows(*(new_row(number, "running") for number in numbers))
    jobs = await store.jobs(TENANT, [job_id(number) for number in numbers])
    with psycopg.connect(migrated_database, autocommit=True) as session:
        before = session.execute("SELECT pg_relation_size('jobs')").fetchone()
        await scribe.rows(*(change_row(job, "completed") for job in jobs))
        assert session.execute("SELECT pg_relation_size('jobs')").fetchone() == before


async def test_old_days_are_dropped_whatever_the_planner_looks_at_first(
    migrated_database: str,
) -> None:
    connection = await Connection.connect(migrated_database)
    await connection.execute_script(
        "SET enable_nestloop = off; SET enable_hashjoin = off; SET enable_indexscan = off;"
        "SET enable_bitmapscan = off; ANALYZE pg_inherits; ANALYZE pg_class"
    )
    await connection.fetch("SELECT drop_idempotency_partitions($1)", (NOW,))
    await connection.fetch("SELECT drop_log_partitions($1)", (NOW,))
    await connection.aclose()
