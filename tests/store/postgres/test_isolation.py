"""Tenants are kept apart by the database itself: policies, privileges, roles, refusals."""

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from jobengine.engine import open_database
from jobengine.settings import Settings
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import open_pool
from jobengine.store.postgres.isolation import require_isolation
from jobengine.store.postgres.migrate import migrate
from jobengine.store.postgres.opening import COMMIT_SETTINGS
from jobengine.store.postgres.roles import (
    API,
    LEDGER,
    Access,
    RolesRefusedError,
    bring_up_to_date,
)
from jobengine.store.postgres.statements import Statement, load_statements
from tests.end_to_end.processes import open_stage
from tests.postgres_server import PostgresServer, database, fresh_database, postgres_server
from tests.store.conformance.scribe import NOW
from tests.store.postgres.test_plans import CASES, FILL, literal, nodes

__all__ = ["database", "postgres_server"]

FEW = FILL.replace("20000", "100").replace("10000", "100").replace("5000", "100")
WRITTEN_BY_TENANT = ("artifact_contents", "artifact_chunks", "artifact_usage")
TABLES_WITH_TENANTS = """
    SELECT c.oid::regclass::text, c.relispartition, c.relrowsecurity AND c.relforcerowsecurity,
        ARRAY(
            SELECT polroles::regrole[]::text || ' ' || pg_get_expr(polqual, polrelid)
            FROM pg_policy WHERE polrelid = c.oid ORDER BY polname
        )
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE a.attname = 'tenant_id' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY 1
"""
POLICIES = [
    "{jobengine_ledger} true",
    (
        "{jobengine_api} (tenant_id = "
        "NULLIF(current_setting('jobengine.tenant'::text, true), ''::text))"
    ),
]
TENANTS = Statement("tenants", "SELECT DISTINCT tenant_id FROM jobs ORDER BY tenant_id")
TENANT_SET = load_statements()["tenant_set"]


@pytest.fixture
def filled(migrated_database: str) -> str:
    """Every table holds rows of the tenants t0 to t19."""
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute(FEW.encode())
    return migrated_database


@contextmanager
def session_as(conninfo: str, role: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(f"SET ROLE {role}".encode())
        yield session


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo)
    yield connection
    await connection.aclose()


def tables_with_tenants(conninfo: str) -> list[Any]:
    with psycopg.connect(conninfo) as session:
        return session.execute(TABLES_WITH_TENANTS).fetchall()


def test_no_table_with_tenants_rows_has_been_forgotten(migrated_database: str) -> None:
    found = tables_with_tenants(migrated_database)
    assert len(found) > 12
    for table, is_partition, is_forced, policies in found:
        assert is_forced, table
        assert policies == ([] if is_partition else POLICIES), table


def test_a_reader_sees_the_tenant_of_its_transaction_and_no_other(filled: str) -> None:
    tables = [name for name, is_partition, *_ in tables_with_tenants(filled) if not is_partition]
    with session_as(filled, API) as session:
        for table in tables:
            question = f"SELECT DISTINCT tenant_id FROM {table}".encode()
            assert session.execute(question).fetchall() == [], table
            with session.transaction():
                session.execute("SELECT set_config('jobengine.tenant', 't7', true)")
                assert session.execute(question).fetchall() == [("t7",)], table
            assert session.execute(question).fetchall() == [], table
    with session_as(filled, LEDGER) as session:
        for table in tables:
            question = f"SELECT DISTINCT tenant_id FROM {table}".encode()
            assert len(session.execute(question).fetchall()) >= 20, table


async def test_no_tenant_is_left_on_a_connection_that_the_next_one_gets(filled: str) -> None:
    async def connect() -> Connection:
        return await Access(filled).connect(API, settings=COMMIT_SETTINGS)

    fails = Statement("fails", "SELECT 1 / (count(*) - count(*)) FROM jobs")
    sleeps = Statement("sleeps", "SELECT pg_sleep(60)")
    async with open_pool(connect, size_max=1, dice=random.Random(1)) as pool:
        for number in range(8):
            async with pool.connection() as connection:
                seen = await connection.fetch_after(TENANT_SET, (f"t{number}",), TENANTS, ())
                assert seen == [(f"t{number}",)]
                with pytest.raises(Exception, match="division"):
                    await connection.fetch_after(TENANT_SET, ("t1",), fails, ())
            async with pool.connection() as connection:
                assert await connection.fetch(TENANTS) == []
                with trio.move_on_after(number / 1000):
                    await connection.fetch_after(TENANT_SET, ("t1",), sleeps, ())
            async with pool.connection() as connection:
                assert await connection.fetch(TENANTS) == []
        assert pool.statistics.open == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_blocks SET at = at",
        "DELETE FROM ledger_blocks",
        "TRUNCATE ledger_blocks",
        "DELETE FROM ledger_heads",
        "DELETE FROM jobs",
        "DROP TABLE jobs",
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine (id int)",
        "UPDATE schema_migration SET number = 9",
        "SET ROLE jobengine_owner",
    ],
)
def test_the_writer_of_the_ledger_can_only_add_to_it(
    migrated_database: str, statement: str
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS a_node")
        admin.execute("CREATE ROLE a_node LOGIN IN ROLE jobengine_ledger")
    try:
        with (
            session_as(make_conninfo(migrated_database, user="a_node"), LEDGER) as session,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            session.execute(statement.encode())
    finally:
        with psycopg.connect(migrated_database, autocommit=True) as admin:
            admin.execute("DROP ROLE a_node")


def test_a_reader_writes_nothing_and_names_no_partition(filled: str) -> None:
    with session_as(filled, API) as session:
        session.execute("SELECT set_config('jobengine.tenant', 't1', false)")
        for table, is_partition, *_ in tables_with_tenants(filled):
            if table in WRITTEN_BY_TENANT:
                continue
            forbidden = [f"DELETE FROM {table}", f"UPDATE {table} SET tenant_id = 't1'"]
            forbidden += [f"INSERT INTO {table} DEFAULT VALUES"]
            forbidden += [f"SELECT FROM {table}"] * is_partition
            for statement in forbidden:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement.encode())
        for call in (
            "add_day_partitions(0, 1)",
            "drop_idempotency_partitions(0)",
            "drop_log_partitions(0)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT {call}".encode())


def test_the_bytes_of_artifacts_are_written_for_the_tenant_of_the_transaction_alone(
    filled: str,
) -> None:
    with session_as(filled, API) as session:
        session.execute("SELECT set_config('jobengine.tenant', 't1', false)")
        for table in WRITTEN_BY_TENANT:
            copied = f"CREATE TEMPORARY TABLE mine AS SELECT * FROM {table}"
            session.execute(f"{copied}; UPDATE mine SET tenant_id = 't2'".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                session.execute(f"INSERT INTO {table} SELECT * FROM mine".encode())
            session.execute("DROP TABLE mine")
        gone = session.execute("DELETE FROM artifact_contents").rowcount
    with psycopg.connect(filled) as admin:
        left = admin.execute("SELECT count(*) FROM artifact_contents").fetchone()
    assert gone == 5
    assert left == (95,)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("ALTER TABLE leases DISABLE ROW LEVEL SECURITY", "leases has no row-level security"),
        ("ALTER TABLE leases NO FORCE ROW LEVEL SECURITY", "leases does not force"),
        ("DROP POLICY tenant_of_transaction ON jobs", "jobs lacks its policy tenant_of"),
        ("ALTER POLICY tenant_of_transaction ON jobs USING (true)", "jobs lacks its policy"),
        ("ALTER POLICY tenant_of_transaction ON jobs TO PUBLIC", "jobs lacks its policy"),
        ("CREATE POLICY more ON jobs USING (true)", "jobs has a policy more"),
        ("ALTER TABLE jobs OWNER TO CURRENT_USER", "jobs belongs to"),
        ("SET ROLE jobengine_owner; CREATE TABLE more (tenant_id text)", "more has no row-level"),
        ("ALTER TABLE engine_facts OWNER TO jobengine_api", "jobengine_api owns engine_facts"),
    ],
)
async def test_a_database_that_does_not_keep_tenants_apart_is_refused(
    migrated_database: str, damage: str, said: str
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute(damage.encode())
    async with connected(migrated_database) as connection:
        with pytest.raises(RolesRefusedError, match=said):
            await require_isolation(connection)


@pytest.mark.parametrize(
    ("power", "without", "said"),
    [
        ("ALTER ROLE jobengine_api BYPASSRLS", "ALTER ROLE jobengine_api NOBYPASSRLS", "BYPASSRLS"),
        ("ALTER ROLE jobengine_api SUPERUSER", "ALTER ROLE jobengine_api NOSUPERUSER", "superuser"),
        (
            "GRANT jobengine_owner TO jobengine_ledger",
            "REVOKE jobengine_owner FROM jobengine_ledger",
            "member of jobengine_owner",
        ),
    ],
)
async def test_a_serving_role_with_power_is_refused(
    migrated_database: str, power: str, without: str, said: str
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute(power.encode())
        try:
            async with connected(migrated_database) as connection:
                with pytest.raises(RolesRefusedError, match=said):
                    await require_isolation(connection)
        finally:
            admin.execute(without.encode())


class Logins:
    """Makes logins, and databases that they own, on one server; they go with the test."""

    def __init__(self, server: PostgresServer, conninfo: str) -> None:
        self._server = server
        self.conninfo = conninfo
        self.admin = psycopg.connect(conninfo, autocommit=True)
        self._made: list[str] = []

    def make(self, name: str, options: str = "") -> str:
        """The conninfo of a new login."""
        self.admin.execute(f"CREATE ROLE {name} LOGIN {options}".encode())
        self._made.append(name)
        return make_conninfo(self.conninfo, user=name)

    def own(self, name: str) -> None:
        self.admin.execute(f"ALTER DATABASE {self.admin.info.dbname} OWNER TO {name}".encode())

    def close(self) -> None:
        self.admin.execute(
            f"ALTER DATABASE {self.admin.info.dbname} OWNER TO CURRENT_USER".encode()
        )
        for name in (*self._made, "jobengine_api", "jobengine_ledger", "jobengine_owner"):
            self.admin.execute(f"DROP OWNED BY {name}".encode() if self._is(name) else b"SELECT 1")
            self.admin.execute(f"DROP ROLE IF EXISTS {name}".encode())
        self.admin.close()

    def _is(self, name: str) -> bool:
        found = self.admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,))
        return found.fetchone() is not None


@pytest.fixture
def logins(postgres_server: PostgresServer, database: str) -> Iterator[Logins]:
    logins = Logins(postgres_server, database)
    try:
        yield logins
    finally:
        logins.close()


async def test_a_login_that_creates_roles_and_owns_the_database_sets_everything_up(
    logins: Logins,
) -> None:
    conninfo = logins.make("team", "CREATEROLE")
    logins.own("team")
    async with connected(conninfo) as connection:
        done = await bring_up_to_date(connection, NOW)
        assert done.roles == ("jobengine_owner", "jobengine_api", "jobengine_ledger")
        assert (await bring_up_to_date(connection, NOW)).roles == ()
    async with open_database(Settings(), conninfo=conninfo, any_login=False) as store:
        assert (await store.health()).ready


async def test_a_login_that_may_not_is_told_the_sql_that_an_administrator_runs(
    logins: Logins,
) -> None:
    conninfo = logins.make("humble")
    with pytest.raises(RolesRefusedError) as refused:
        async with open_database(Settings(), conninfo=conninfo, any_login=False):
            pass
    assert "CREATE ROLE jobengine_owner" in str(refused.value)
    logins.admin.execute(str(refused.value).partition("administrator run: ")[2].encode())
    async with open_database(Settings(), conninfo=conninfo, any_login=False) as store:
        assert (await store.health()).ready


async def test_a_login_that_may_only_serve_serves_what_another_one_migrated(
    logins: Logins,
) -> None:
    conninfo = logins.make("node")
    async with connected(logins.conninfo) as connection:
        await bring_up_to_date(connection, NOW)
    with pytest.raises(RolesRefusedError, match="GRANT jobengine_api, jobengine_ledger TO"):
        async with open_database(Settings(), conninfo=conninfo, any_login=False):
            pass
    logins.admin.execute("GRANT jobengine_api, jobengine_ledger TO node")
    async with open_database(Settings(), conninfo=conninfo, any_login=False) as store:
        assert await store.jobs("t1", []) == []
    logins.admin.execute("DELETE FROM schema_migration WHERE number >= 3")
    with pytest.raises(
        RolesRefusedError, match="migration 0003 is pending, and node may not migrate"
    ):
        async with open_database(Settings(), conninfo=conninfo, any_login=False):
            pass


@pytest.mark.parametrize("power", ["SUPERUSER", "BYPASSRLS"])
async def test_a_login_that_no_policy_binds_is_refused_before_anything_is_done(
    logins: Logins, power: str
) -> None:
    conninfo = logins.make("mighty", power)
    with pytest.raises(RolesRefusedError, match="create one for nodes with CREATE ROLE"):
        async with open_database(Settings(), conninfo=conninfo, any_login=False):
            pass
    assert logins.admin.execute("SELECT to_regclass('schema_migration')").fetchone() == (None,)


async def test_what_was_made_before_the_roles_is_given_to_the_owner(
    logins: Logins, tmp_path: Path
) -> None:
    source = files("jobengine.store.postgres") / "migrations"
    for name in ("0001_initial.sql", "0002_engine_facts.sql"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    async with connected(logins.conninfo) as connection:
        await migrate(connection, NOW, tmp_path)
        await connection.fetch("SELECT add_day_partitions($1, 2)", (NOW,))
        await bring_up_to_date(connection, NOW)
        await require_isolation(connection)
        await connection.execute_script("RESET ROLE; SET ROLE jobengine_ledger")
        assert await connection.fetch("SELECT add_day_partitions($1, 3)", (NOW,)) == [(3,)]
    assert all(is_forced for _, _, is_forced, _ in tables_with_tenants(logins.conninfo))


def test_every_table_and_sequence_that_belongs_to_another_is_named(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as session:
        kinds = {"S": "SEQUENCE", "r": "TABLE", "p": "TABLE"}
        made = session.execute(
            "SELECT relkind::text, oid::regclass::text FROM pg_class"
            " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('S', 'r', 'p')"
        ).fetchall()
        for kind, name in made:
            session.execute(f"ALTER {kinds[kind]} {name} OWNER TO CURRENT_USER".encode())
        found = session.execute(load_statements()["objects_of_others"].sql.encode()).fetchall()
    assert {(kind, name) for kind, name, _ in found} == {(kinds[kind], name) for kind, name in made}


@pytest.mark.parametrize("role", [API, LEDGER])
def test_hot_questions_use_their_index_under_the_policies_too(
    migrated_database: str, role: str
) -> None:
    statements = load_statements()
    with psycopg.connect(migrated_database, autocommit=True) as session:
        session.execute(FILL.encode())
        session.execute(f"SET ROLE {role}; {COMMIT_SETTINGS if role == API else ''}".encode())
        session.execute("SELECT set_config('jobengine.tenant', 't1', false)")
        for name, (parameters, indexes) in CASES.items():
            statement = statements[name]
            if (role == API) is not ("tenant_id" in parameters and name != "ready"):
                continue
            values = ", ".join(literal(session, parameters[each]) for each in statement.parameters)
            session.execute(f"PREPARE {name} AS {statement.sql}".encode())
            found = session.execute(f"EXPLAIN (FORMAT json) EXECUTE {name} ({values})".encode())
            [(rows,)] = found.fetchall()
            plan = nodes(rows[0]["Plan"])
            used = {node["Index Name"] for node in plan if "Index Name" in node}
            assert not any(node["Node Type"] == "Seq Scan" for node in plan), (name, rows)
            for index in indexes:
                prefix, _, suffix = index.partition("%")
                hit = any(each.startswith(prefix) and each.endswith(suffix) for each in used)
                assert hit, (name, index, json.dumps(rows, indent=1))


def test_the_embedded_database_is_served_by_sessions_that_are_nothing_but_their_role() -> None:
    with open_stage() as stage:
        stage.engine()
        said = (stage.data / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()
        conninfo = make_conninfo(host=said[4], port=said[3], user="jobengine", dbname="postgres")
        with psycopg.connect(conninfo, autocommit=True) as admin:
            rows = admin.execute(
                "SELECT DISTINCT usename FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
    assert {name for (name,) in rows} <= {API, LEDGER}
    assert (LEDGER,) in rows


def test_databases_of_one_server_share_the_roles_and_may_be_set_up_at_once(
    postgres_server: PostgresServer,
) -> None:
    ready: list[str] = []

    async def set_up(conninfo: str) -> None:
        async with connected(conninfo) as connection:
            await bring_up_to_date(connection, NOW)
            await require_isolation(connection)
            ready.append(conninfo)

    async def set_up_both(*conninfos: str) -> None:
        async with trio.open_nursery() as nursery:
            for conninfo in conninfos:
                nursery.start_soon(set_up, conninfo)

    with fresh_database(postgres_server) as first, fresh_database(postgres_server) as second:
        trio.run(set_up_both, first, second)
        assert sorted(ready) == sorted([first, second])
