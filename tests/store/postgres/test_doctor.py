"""`jobengine db doctor`: every fault is found, named, and comes with its remedy."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobengine.domain.instant import DAY, SECOND
from jobengine.store.postgres.doctor import Finding, examine
from jobengine.store.postgres.driver.connection import Connection
from tests.cli.conftest import Run, run
from tests.postgres_server import database, postgres_server
from tests.store.conformance.scribe import NOW

__all__ = ["database", "postgres_server", "run"]

CHECKS = [
    *("version", "pooler", "roles", "login", "migrations", "row security", "privileges"),
    *("partitions", "horizon", "bloat", "clock", "disk"),
]


@asynccontextmanager
async def sessions(conninfo: str) -> AsyncIterator[tuple[Connection, Connection]]:
    async with AsyncExitStack() as stack:
        both = [await Connection.connect(conninfo) for _ in range(2)]
        for each in both:
            stack.push_async_callback(each.aclose)
        yield both[0], both[1]


async def findings(conninfo: str, now_at: int = NOW) -> dict[str, Finding]:
    async with sessions(conninfo) as (one, other):
        found = await examine(one, other, lambda: now_at)
    assert [each.check for each in found] == CHECKS
    assert all((each.remedy is None) is (each.verdict == "ok") for each in found)
    return {each.check: each for each in found}


def verdicts(found: dict[str, Finding], verdict: str) -> set[str]:
    return {each.check for each in found.values() if each.verdict == verdict}


async def server_now_at(conninfo: str) -> int:
    async with sessions(conninfo) as (one, _):
        [(at,)] = await one.fetch("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
        now_at: int = at
        return now_at


async def test_a_database_in_order_has_no_fault(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS a_visitor")
        admin.execute("CREATE ROLE a_visitor LOGIN IN ROLE jobengine_api, jobengine_ledger")
        try:
            conninfo = make_conninfo(migrated_database, user="a_visitor")
            found = await findings(conninfo)
        finally:
            admin.execute("DROP ROLE a_visitor")
    assert verdicts(found, "fail") <= {"clock"}
    assert found["partitions"].detail == "room for 7 days more"
    assert "jobengine_api, jobengine_ledger" in found["login"].detail


async def test_an_empty_database_is_told_to_migrate(database: str) -> None:
    found = await findings(database)
    assert {"migrations"} <= verdicts(found, "fail") <= {"roles", "migrations", "clock"}
    assert found["migrations"].remedy == "run `jobengine db migrate`"


@pytest.mark.parametrize(
    ("damage", "check", "said"),
    [
        ("DELETE FROM schema_migration WHERE number = 2", "migrations", "0002 is pending"),
        ("UPDATE schema_migration SET sha256 = ''", "migrations", "0001 is changed"),
        ("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY", "row security", "jobs does not force"),
        ("ALTER TABLE waiting OWNER TO CURRENT_USER", "row security", "waiting belongs to"),
        ("GRANT DELETE ON ledger_blocks TO jobengine_ledger", "privileges", "may DELETE"),
        ("GRANT UPDATE ON jobs TO jobengine_api", "privileges", "jobengine_api may UPDATE on jobs"),
        ("GRANT TRUNCATE ON jobs TO PUBLIC", "privileges", "may TRUNCATE on jobs"),
        ("ALTER TABLE engine_facts OWNER TO jobengine_ledger", "roles", "owns engine_facts"),
    ],
)
async def test_a_fault_of_the_schema_is_found(
    migrated_database: str, damage: str, check: str, said: str
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        admin.execute(damage.encode())
    found = await findings(migrated_database)
    assert found[check].verdict == "fail"
    assert said in found[check].detail
    assert found["login"].verdict == "warn"


@pytest.mark.parametrize(
    ("days", "verdict"), [(0, "ok"), (5, "ok"), (6, "warn"), (7, "warn"), (8, "fail")]
)
async def test_days_without_room_are_foreseen(
    migrated_database: str, days: int, verdict: str
) -> None:
    found = await findings(migrated_database, NOW + days * DAY)
    assert found["partitions"].verdict == verdict


async def test_a_gap_between_the_days_counts_as_their_end(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as admin:
        [(name,)] = admin.execute(
            "SELECT 'job_logs_' || to_char(to_timestamp(%s) AT TIME ZONE 'UTC', 'YYYYMMDD')",
            (NOW / SECOND + 2 * 86_400,),
        )
        admin.execute(f"DROP TABLE {name}".encode())
    found = await findings(migrated_database)
    assert found["partitions"].detail == "job_logs has room for 1 more days"


@pytest.mark.parametrize(("off_s", "verdict"), [(0, "ok"), (5, "warn"), (-60, "fail")])
async def test_clocks_that_differ_are_told(
    migrated_database: str, off_s: int, verdict: str
) -> None:
    now_at = await server_now_at(migrated_database)
    found = await findings(migrated_database, now_at + off_s * SECOND)
    assert found["clock"].verdict == verdict


async def test_whoever_holds_the_horizon_is_named(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, application_name="a long report") as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT FROM jobs")
        found = await findings(migrated_database)
        assert found["horizon"].verdict == "ok"
        assert f"a long report, server process {reader.info.backend_pid}" in (
            found["horizon"].detail
        )


@contextmanager
def login(conninfo: str, *roles: str) -> Iterator[str]:
    """A login of its own that is a member of these roles, as long as the block."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS a_doctor")
        admin.execute(f"CREATE ROLE a_doctor LOGIN IN ROLE {', '.join(roles)}".encode())
        try:
            yield make_conninfo(conninfo, user="a_doctor")
        finally:
            admin.execute("DROP ROLE a_doctor")


async def test_a_login_that_may_see_all_judges_old_transactions_and_free_space(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobengine.store.postgres.doctor._HORIZON_S", (0.0, 3600.0))
    roles = ("pg_monitor", "jobengine_api", "jobengine_ledger")
    with login(migrated_database, *roles) as doctor, psycopg.connect(migrated_database) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT FROM jobs")
        seen = await findings(doctor)
        by_superuser = await findings(migrated_database)
    for found in (seen, by_superuser):
        assert found["horizon"].verdict == "warn"
        assert re.search(r"transactions back, for \d+ s$", found["horizon"].detail)
        assert "pg_terminate_backend" in (found["horizon"].remedy or "")
        assert re.search(r" MiB \(\d+%\) are free$", found["disk"].detail)


async def test_what_a_login_may_not_see_is_never_called_ok(migrated_database: str) -> None:
    with login(migrated_database, "jobengine_api", "jobengine_ledger") as doctor:
        idle = await findings(doctor)
        with psycopg.connect(migrated_database) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT FROM jobs")
            held = await findings(doctor)
    assert idle["horizon"].verdict == "ok"
    assert held["horizon"].verdict == "warn"
    assert "for how long 1 sessions of others do so is not shown" in held["horizon"].detail
    assert held["disk"].verdict == "warn"
    for each in (held["horizon"], held["disk"]):
        assert "GRANT pg_monitor" in (each.remedy or "")


class TransactionPooler:
    """Shows each transaction another server session, as pgbouncer does with pool_mode=transaction.

    A client's message is sent on through a session that is free at that moment; it is free again
    once the server says that it is outside of a transaction. Knows of the protocol only that.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._free: list[trio.SocketStream] = []
        self._all: list[trio.SocketStream] = []

    async def serve(self, path: str, task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen(5)
            task_status.started()
            try:
                async with trio.open_nursery() as nursery:
                    while True:
                        client, _ = await listener.accept()
                        nursery.start_soon(self._serve_one, trio.SocketStream(client))
            finally:
                for server in self._all:
                    server.socket.close()

    async def _serve_one(self, client: trio.SocketStream) -> None:
        async with client:
            held: trio.SocketStream | None = await trio.open_unix_socket(self._server)
            assert held is not None
            self._all.append(held)
            async for octets in client:
                if octets.startswith(b"X"):
                    break
                if held is None:
                    held = self._free.pop()
                await held.send_all(octets)
                if await self._answer(held, client):
                    self._free.append(held)
                    held = None

    async def _answer(self, server: trio.SocketStream, client: trio.SocketStream) -> bool:
        """Pass on an answer up to its end; whether the session is outside of a transaction."""
        octets = b""
        while not (octets[-6:-1] == b"Z\x00\x00\x00\x05" or octets == b"N"):
            some = await server.receive_some()
            if not some:
                return False
            octets += some
        await client.send_all(octets)
        return octets[-1:] == b"I"


async def test_a_pooler_that_does_not_keep_sessions_is_found(
    migrated_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = conninfo_to_dict(migrated_database)
    pooler = TransactionPooler(f"{host['host']}/.s.PGSQL.{host['port']}")
    directory = tmp_path_factory.mktemp("p")
    async with trio.open_nursery() as nursery:
        path = f"{directory}/.s.PGSQL.5432"
        await nursery.start(lambda task_status: pooler.serve(path, task_status))
        through = make_conninfo(migrated_database, host=str(directory), port=5432)
        with trio.fail_after(20):
            async with sessions(through) as (one, other):
                _, found = await examine(one, other, lambda: NOW)
        nursery.cancel_scope.cancel()
    assert found.verdict == "fail"
    assert found.remedy == "connect to PostgreSQL itself, or set pool_mode = session"


def test_the_command_prints_each_finding_and_exits_1_when_one_fails(
    database: str, run: Run
) -> None:
    environ = {"JOBENGINE_DATABASE_URL": database}
    broken = run("db", "doctor", "--output", "json", **environ)
    assert broken.exit_code == 1
    assert [each["check"] for each in json.loads(broken.stdout)] == CHECKS
    assert run("db", "migrate", **environ).exit_code == 0
    mended = run("db", "doctor", **environ)
    assert mended.exit_code == 0, mended.stdout
    assert "do: create one for nodes with CREATE ROLE jobengine_node" in mended.stdout
