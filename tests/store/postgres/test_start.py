"""What a node does to a database before it serves it, and how long it lets itself be kept."""

from collections.abc import Iterator

import psycopg
import pytest
import trio

from jobengine.engine import DatabaseInUseError, examine_database, migrations_of, open_database
from jobengine.settings import Settings
from jobengine.store.errors import StoreSilentError
from tests.postgres_server import fresh_database
from tests.store.conformance.conftest import Servers

WITHIN_S = 60.0
HURRIED = Settings(read_timeout_s=0.3)
_OWNER = 7669456921319859570


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    server, _ = servers.migrated(18)
    with fresh_database(server) as conninfo:
        yield conninfo


async def test_a_node_that_waits_for_the_database_of_another_changes_nothing_in_it(
    empty_database: str,
) -> None:
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(empty_database, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (_OWNER,))
        with pytest.raises(DatabaseInUseError):
            async with open_database(Settings(), conninfo=empty_database):
                pass
        assert holder.execute(tables).fetchone() == (0,)
        holder.execute("SELECT pg_advisory_unlock(%s)", (_OWNER,))
        async with open_database(Settings(), conninfo=empty_database) as store:
            assert (await store.health()).ready


async def test_a_server_that_takes_connections_and_does_nothing_keeps_no_command(
    migrated_database: str,
) -> None:
    with psycopg.connect(migrated_database) as holder, trio.fail_after(WITHIN_S):
        holder.execute("LOCK TABLE schema_migration IN ACCESS EXCLUSIVE MODE")
        for ask in (migrations_of, examine_database):
            with pytest.raises(StoreSilentError):
                await ask(migrated_database, HURRIED)
        with pytest.raises(StoreSilentError):
            async with open_database(HURRIED, conninfo=migrated_database):
                pass
