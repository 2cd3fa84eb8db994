from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from jobengine.store.errors import ProgrammerError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.migrate import (
    MigrationFailedError,
    MigrationState,
    SchemaMismatchError,
    load_migrations,
    migrate,
    status,
)

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

NOW_AT = 1_795_262_400_000_000
FIRST = "0001_first.sql", "CREATE TABLE first (id int); INSERT INTO first VALUES (1);\n"
SECOND = "0002_second.sql", "ALTER TABLE first ADD COLUMN more text;\n"
BROKEN = "0003_broken.sql", "CREATE TABLE third (id int);\nSELECT no_such_column FROM first;\n"


def write(directory: Path, *migrations: tuple[str, str]) -> Path:
    for name, sql in migrations:
        (directory / name).write_text(sql)
    return directory


@pytest.fixture
async def conninfo(server: Server) -> AsyncIterator[str]:
    """An empty schema that goes away afterwards, as the only one in sight."""
    server.admin("CREATE SCHEMA migrating")
    yield f"{server.conninfo} options='-c search_path=migrating'"
    server.admin("SET client_min_messages = error; DROP SCHEMA migrating CASCADE")


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo)
    yield connection
    await connection.aclose()


async def test_pending_migrations_are_applied_in_order_and_once(
    database: Connection, tmp_path: Path
) -> None:
    assert [state.state for state in await status(database, write(tmp_path, FIRST))] == ["pending"]
    assert [done.label for done in await migrate(database, NOW_AT, tmp_path)] == ["0001_first"]
    write(tmp_path, SECOND)
    assert [done.label for done in await migrate(database, NOW_AT + 1, tmp_path)] == ["0002_second"]
    assert await migrate(database, NOW_AT + 2, tmp_path) == ()
    assert await database.fetch("SELECT id, more FROM first") == [(1, None)]
    assert await status(database, tmp_path) == (
        MigrationState(1, "first", "applied", NOW_AT),
        MigrationState(2, "second", "applied", NOW_AT + 1),
    )


async def test_line_ends_do_not_count_as_a_change(database: Connection, tmp_path: Path) -> None:
    await migrate(database, NOW_AT, write(tmp_path, FIRST))
    path = tmp_path / FIRST[0]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(database, NOW_AT, tmp_path) == ()


async def test_a_failing_migration_leaves_nothing_of_itself_behind(
    database: Connection, tmp_path: Path
) -> None:
    write(tmp_path, FIRST, SECOND, BROKEN)
    with pytest.raises(MigrationFailedError, match=r"0003_broken: .*no_such_column"):
        await migrate(database, NOW_AT, tmp_path)
    assert [state.state for state in await status(database, tmp_path)] == [
        "applied",
        "applied",
        "pending",
    ]
    assert await database.fetch("SELECT to_regclass('third')::text") == [(None,)]
    assert database.is_idle
    write(tmp_path, ("0003_broken.sql", "CREATE TABLE third (id int)"))
    assert [done.number for done in await migrate(database, NOW_AT, tmp_path)] == [3]


async def test_a_changed_migration_is_refused_before_anything_is_done(
    database: Connection, tmp_path: Path
) -> None:
    await migrate(database, NOW_AT, write(tmp_path, FIRST))
    write(tmp_path, (FIRST[0], FIRST[1] + "-- a remark"), SECOND)
    with pytest.raises(
        SchemaMismatchError, match=r"0001_first was changed .* into a new migration"
    ):
        await migrate(database, NOW_AT, tmp_path)
    assert [state.state for state in await status(database, tmp_path)] == ["changed", "pending"]


async def test_a_newer_database_is_refused(database: Connection, tmp_path: Path) -> None:
    await migrate(database, NOW_AT, write(tmp_path, FIRST, SECOND))
    (tmp_path / SECOND[0]).unlink()
    with pytest.raises(
        SchemaMismatchError, match=r"has migration 0002 \(second\).* start the version"
    ):
        await migrate(database, NOW_AT, tmp_path)
    assert [state.state for state in await status(database, tmp_path)] == ["applied", "unknown"]


async def test_a_hole_in_the_record_is_refused(database: Connection, tmp_path: Path) -> None:
    await migrate(database, NOW_AT, write(tmp_path, FIRST, SECOND))
    await database.execute("DELETE FROM schema_migration WHERE number = 1")
    with pytest.raises(SchemaMismatchError, match="0001_first is missing below applied ones"):
        await migrate(database, NOW_AT, tmp_path)


async def test_nodes_that_start_together_apply_each_migration_once(
    conninfo: str, tmp_path: Path
) -> None:
    count = 6
    for number in range(1, count + 1):
        sql = f"SELECT pg_sleep(0.01); CREATE TABLE t{number} (id int)"
        write(tmp_path, (f"{number:04}_t{number}.sql", sql))
    applied: list[int] = []

    async def start() -> None:
        connection = await Connection.connect(conninfo)
        applied.extend(done.number for done in await migrate(connection, NOW_AT, tmp_path))
        await connection.aclose()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(start)
    assert sorted(applied) == list(range(1, count + 1))


async def test_a_lock_that_another_session_keeps_is_waited_for_as_long_as_for_an_answer(
    conninfo: str, tmp_path: Path
) -> None:
    holder = await Connection.connect(conninfo)
    waiting = await Connection.connect(conninfo, answer_s_max=0.5)
    async with holder.transaction():
        await holder.fetch("SELECT pg_advisory_xact_lock($1)", (0x6A6F_6265_6E67_696E,))
        with pytest.raises(StoreUnavailableError, match="another session migrates"):
            await migrate(waiting, NOW_AT, write(tmp_path, FIRST))
    assert len(await migrate(waiting, NOW_AT, tmp_path)) == 1
    await holder.aclose()
    await waiting.aclose()


async def test_a_migration_may_take_longer_than_any_answer(conninfo: str, tmp_path: Path) -> None:
    slow = "0001_slow.sql", "CREATE TABLE first (id int); SELECT pg_sleep(1.2);\n"
    connection = await Connection.connect(conninfo, answer_s_max=1.0)
    assert len(await migrate(connection, NOW_AT, write(tmp_path, slow))) == 1
    assert connection.answer_s_max == 1.0
    await connection.aclose()


async def test_a_start_cancelled_while_waiting_for_the_lock_leaves_no_trace(
    conninfo: str, database: Connection, tmp_path: Path
) -> None:
    write(tmp_path, FIRST)
    waiting = await Connection.connect(conninfo)
    async with database.transaction():
        await database.fetch("SELECT pg_advisory_xact_lock($1)", (0x6A6F_6265_6E67_696E,))
        with trio.move_on_after(0.1) as scope:
            await migrate(waiting, NOW_AT, tmp_path)
    assert scope.cancelled_caught
    assert waiting.is_idle
    assert [done.number for done in await migrate(waiting, NOW_AT, tmp_path)] == [1]
    await waiting.aclose()


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([("0002_late.sql", "")], "0002_late stands where number 0001 is due"),
        ([("0001_a.sql", ""), ("0001_b.sql", "")], "stands where number 0002 is due"),
        ([("1_short.sql", "")], "1_short.sql is not named NNNN_name.sql"),
        ([("0001_x.sql", "SELECT 1; -- now\n commit;")], "ends its own transaction: commit"),
        ([("0001_x.sql", "ROLLBACK")], "ends its own transaction: ROLLBACK"),
    ],
)
def test_a_directory_out_of_order_is_refused(
    tmp_path: Path, files: list[tuple[str, str]], complaint: str
) -> None:
    with pytest.raises(ProgrammerError, match=re.escape(complaint)):
        load_migrations(write(tmp_path, *files))


def test_words_in_bodies_literals_and_comments_end_no_transaction(tmp_path: Path) -> None:
    sql = """
        -- ; COMMIT;
        CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN NULL; COMMIT; END $f$;
        INSERT INTO t VALUES ('; ROLLBACK'); /* ; BEGIN */
    """
    (only,) = load_migrations(write(tmp_path, ("0001_words.sql", sql), ("README.md", "")))
    assert only.label == "0001_words"
