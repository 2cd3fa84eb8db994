"""Where ledgers stand: one head a tenant, found by its number."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from jobengine.domain.change import ChangeSet
from jobengine.domain.instant import DAY
from jobengine.store.errors import HeadMovedError
from jobengine.store.feeds import FeedBehind
from jobengine.store.postgres.migrate import migrate
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.store import PostgresStore
from tests.store.conformance.scribe import NOW, TENANT, Scribe
from tests.store.postgres.earlier import open_schema_before

NEW = 15


@pytest.fixture
async def store(migrated_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(migrated_database, dice=random.Random(1)) as store:
        await store.prepare(NOW)
        yield store


async def test_a_ledger_begins_once_whatever_the_day(store: PostgresStore) -> None:
    first, second = Scribe(store), Scribe(store)
    await first.aside()
    with pytest.raises(HeadMovedError):
        await second.aside(at=NOW + DAY)
    assert await store.heads([TENANT, "another"]) == first.heads


async def test_a_head_is_read_among_versions_that_cannot_be_vacuumed(
    migrated_database: str, store: PostgresStore
) -> None:
    scribe = Scribe(store)
    await scribe.aside()
    with psycopg.connect(migrated_database) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT FROM ledger_heads")
        for _ in range(30):
            await scribe.write(
                ChangeSet(tenant_id=TENANT, entries=[]), ChangeSet(tenant_id="other", entries=[])
            )
        assert await store.heads([TENANT, "other"]) == scribe.heads
        assert await store.feeds_behind("bus", "", 10) == [
            FeedBehind(name, 0, head.next_seq - 1) for name, head in sorted(scribe.heads.items())
        ]


async def test_heads_of_the_version_before_go_on(migrated_database: str, tmp_path: Path) -> None:
    async with open_schema_before(migrated_database, NEW, tmp_path) as connection:
        with psycopg.connect(migrated_database, autocommit=True) as admin:
            admin.execute(
                "INSERT INTO before.ledger_heads (tenant_id, next_seq, link, batch_id) VALUES"
                " ('a', 5, sha256('a'), 'x'), ('b', 2, sha256('b'), 'y')"
            )
        done = await migrate(connection, NOW)
    assert done[0].number == NEW
    with psycopg.connect(migrated_database) as admin:
        found = admin.execute(
            "SELECT tenant_id, next_seq FROM before.ledger_heads JOIN before.ledgers"
            " USING (tenant_id) ORDER BY 1"
        ).fetchall()
    assert found == [("a", 5), ("b", 2)]
