"""Rows of ``leases``: one for all that began at an instant, until the last of it has ended."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from jobengine.domain.change import ChangeSet, JobRow
from jobengine.domain.cohort import MARKED_TEXTS, Cohort
from jobengine.domain.entry import Entry
from jobengine.domain.job import State
from jobengine.store.errors import StatementRefusedError
from jobengine.store.port import JobFilter
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import open_pool
from jobengine.store.postgres.migrate import migrate
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.store import PostgresStore
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    job_id,
    new_row,
)
from tests.store.postgres.earlier import open_schema_before

ROWS = "SELECT granted_at, running, begins, worker_ids, cardinality(job_ids) FROM leases ORDER BY 1"
NEW = 13


@pytest.fixture
async def store(migrated_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(migrated_database, dice=random.Random(1)) as store:
        yield store


@pytest.fixture
def scribe(store: PostgresStore) -> Scribe:
    return Scribe(store)


def rows(conninfo: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo) as session:
        return session.execute(ROWS).fetchall()


def running(number: int, worker_id: str = "w1", started_at: int = NOW) -> JobRow:
    return new_row(number, "running", worker_id=worker_id, started_at=started_at)


async def end(scribe: Scribe, *numbers: int) -> None:
    await scribe.rows(*[change_row(await scribe.job(number), "completed") for number in numbers])


async def test_what_begins_at_one_instant_is_one_row_until_its_last_job_ends(
    migrated_database: str, scribe: Scribe
) -> None:
    await scribe.rows(running(1), running(2, started_at=NOW + 1), running(3, "w2"), running(4))
    both = (NOW, 3, [1, 3], ["w1", "w2"], 3), (NOW + 1, 1, [1], ["w1"], 1)
    assert rows(migrated_database) == [*both]
    await end(scribe, 1, 3)
    assert rows(migrated_database) == [(NOW, 1, [1, 3], ["w1", "w2"], 3), both[1]]
    await end(scribe, 2)
    assert rows(migrated_database) == [(NOW, 1, [1, 3], ["w1", "w2"], 3)]
    await end(scribe, 4)
    assert rows(migrated_database) == []


async def test_what_begins_and_ends_at_one_instant_in_one_commit_is_reckoned_up(
    migrated_database: str, store: PostgresStore, scribe: Scribe
) -> None:
    await scribe.rows(running(1), running(2))
    ended = [change_row(await scribe.job(number), "completed") for number in (1, 2)]
    await scribe.rows(ended[0], running(3, "w3"), ended[1], running(4, "w3"))
    assert rows(migrated_database) == [(NOW, 2, [1, 3], ["w1", "w3"], 4)]
    found = await store.leased(SHARD)
    assert [(each.job.job_id, each.worker_id) for each in found] == [
        (job_id(3), "w3"),
        (job_id(4), "w3"),
    ]


async def test_many_ids_lie_outside_of_the_row_and_stay_there_when_it_changes(
    migrated_database: str, scribe: Scribe
) -> None:
    await scribe.rows(*(running(number) for number in range(300)))
    with psycopg.connect(migrated_database, autocommit=True) as session:
        row = session.execute(
            "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'leases'::regclass"
        ).fetchone()
        assert row is not None
        chunks = f"SELECT ctid, chunk_id, chunk_seq FROM {row[0]} ORDER BY 2, 3".encode()
        before = session.execute(chunks).fetchall()
        await end(scribe, *range(150))
        assert session.execute(chunks).fetchall() == before
        assert len(before) > 1
    assert rows(migrated_database)[0][1] == 150


async def test_the_end_of_a_job_that_no_lease_counts_is_refused(
    migrated_database: str, scribe: Scribe
) -> None:
    await scribe.rows(running(1), running(2, started_at=NOW + 1))
    with psycopg.connect(migrated_database) as admin:
        admin.execute("DELETE FROM leases WHERE granted_at = %s", (NOW,))
    with pytest.raises(StatementRefusedError) as raised:
        await end(scribe, 1)
    assert raised.value.sqlstate == "23502"
    assert (await scribe.job(1)).state == State.RUNNING
    await end(scribe, 2)


async def test_a_page_of_running_jobs_ends_nowhere_too_early(migrated_database: str) -> None:
    """Ids that stand twice in a row take no more room in a page than others."""

    async def connect() -> Connection:
        return await Connection.connect(migrated_database)

    async with open_pool(connect, size_max=2, dice=random.Random(1)) as pool:
        store = PostgresStore(pool, pool, pool, rows_per_page_max=4)
        scribe = Scribe(store)
        await scribe.rows(*(running(number) for number in range(1, 9)))
        for number in (8, 7, 6):
            await scribe.rows(change_row(await scribe.job(number), "scheduled"))
            await scribe.rows(change_row(await scribe.job(number), "running"))
        wanted = JobFilter(states=frozenset({State.RUNNING}))
        page = await store.job_list(TENANT, wanted, None, 4)
        rest = await store.job_list(TENANT, wanted, page.next_after, 4)
    ids = [[job.job_id for job in each.jobs] for each in (page, rest)]
    assert ids == [[job_id(n) for n in (8, 7, 6, 5)], [job_id(n) for n in (4, 3, 2, 1)]]


async def test_cohorts_that_begin_at_one_instant_are_one_row(
    migrated_database: str, store: PostgresStore, scribe: Scribe
) -> None:
    async def write(number: int, worker_id: str) -> None:
        ids = [job_id(number), job_id(number + 1)]
        row = running(number, worker_id)
        entry = Entry(actor="test", at=NOW, job=MARKED_TEXTS["job"], kind="job")
        cohort = Cohort.of(
            [entry],
            row,
            fields={"job_id": ids},
            texts={"job": [each.encode() for each in ids]},
            marks=["job"],
        )
        assert cohort is not None
        cohort.first_seq = 1 + 2 * (number // 2)
        changes = ChangeSet(tenant_id=TENANT, entries=[], rows=[], cohorts=[cohort])
        changes.entries = [msgspec.structs.replace(entry, job=each) for each in ids]
        await scribe.write(changes)

    await write(2, "w1")
    await write(4, "w2")
    assert rows(migrated_database) == [(NOW, 4, [1, 3], ["w1", "w2"], 4)]
    holders = [(each.job.job_id, each.worker_id) for each in await store.leased(SHARD)]
    assert holders == [(job_id(n), "w1" if n < 4 else "w2") for n in (2, 3, 4, 5)]


async def test_leases_by_job_become_leases_by_instant(
    migrated_database: str, tmp_path: Path
) -> None:
    held = [(1, "a", "w2", 5), (2, "a", "w1", 5), (3, "a", "w2", 5), (4, "a", "w2", 6)]
    async with open_schema_before(migrated_database, NEW, tmp_path) as connection:
        with psycopg.connect(migrated_database, autocommit=True) as admin:
            for number, tenant_id, worker_id, at in [*held, (5, "b", "w1", 5)]:
                admin.execute(
                    "INSERT INTO before.leases (job_id, granted_at, lease_us, attempt, shard,"
                    " tenant_id, worker_id, task_runner_id) VALUES (%s, %s, 1, 1, 3, %s, %s, 'r')",
                    (job_id(number), at, tenant_id, worker_id),
                )
        done = await migrate(connection, NOW)
    assert done[0].number == NEW
    with psycopg.connect(migrated_database) as admin:
        found = admin.execute(
            "SELECT tenant_id, granted_at, running, shard, begins, worker_ids, task_runner_ids,"
            " job_ids::text[] FROM before.leases ORDER BY tenant_id, granted_at"
        ).fetchall()
    ids = [job_id(number) for number in range(6)]
    assert found == [
        ("a", 5, 3, 3, [1, 2], ["w1", "w2"], ["r", "r"], [ids[2], ids[1], ids[3]]),
        ("a", 6, 1, 3, [1], ["w2"], ["r"], [ids[4]]),
        ("b", 5, 1, 3, [1], ["w1"], ["r"], [ids[5]]),
    ]
