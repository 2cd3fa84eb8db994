from __future__ import annotations

import datetime as dt
import random
import uuid
from array import array
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from jobengine.store.errors import (
    ProgrammerError,
    StatementRefusedError,
    StoreUnavailableError,
    TransactionConflictError,
)
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import Statement

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

NOON = dt.datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=dt.UTC)
AN_ID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")

ROUND_TRIPS: list[tuple[str, Any, Any]] = [
    ("int2", -32768, -32768),
    ("int4", 2147483647, 2147483647),
    ("int8", -(2**63), -(2**63)),
    ("float8", 0.1, 0.1),
    ("float8", float("inf"), float("inf")),
    ("bool", True, True),
    ("bool", False, False),
    ("text", "grüß 'Gott' \\ \U0001f600", "grüß 'Gott' \\ \U0001f600"),
    ("text", "", ""),
    ("text", b"utf-8 bytes", "utf-8 bytes"),
    ("varchar", "v", "v"),
    ("bytea", bytes(range(256)), bytes(range(256))),
    ("bytea", b"", b""),
    ("bytea", bytearray(b"\0a\0"), b"\0a\0"),
    ("bytea", memoryview(b"\0b"), b"\0b"),
    ("json", '{"b": 1,  "a": 2}', b'{"b": 1,  "a": 2}'),
    ("json", b'{"raw":"bytes"}', b'{"raw":"bytes"}'),
    ("jsonb", '{"b":1}', b'{"b": 1}'),
    ("jsonb", b"[1]", b"[1]"),
    ("timestamptz", NOON, NOON),
    ("timestamptz", NOON.astimezone(dt.timezone(dt.timedelta(hours=9))), NOON),
    ("uuid", AN_ID, str(AN_ID)),
    ("uuid", str(AN_ID), str(AN_ID)),
    ("int8[]", [1, None, -3], [1, None, -3]),
    ("int8[]", [2**63 - 1, -(2**63), 0], [2**63 - 1, -(2**63), 0]),
    ("int8[]", array("q", [7, -7]), [7, -7]),
    ("int8[]", [], []),
    ("int4[]", (), []),
    ("text[]", ['a"b', "c\\d", "", "NULL", None, "{,}"], ['a"b', "c\\d", "", "NULL", None, "{,}"]),
    ("text[]", "{x,y}", ["x", "y"]),
    ("bytea[]", [b"\0\\\xff", None, b""], [b"\0\\\xff", None, b""]),
    ("uuid[]", [AN_ID], [str(AN_ID)]),
    ("uuid[]", [AN_ID, None], [str(AN_ID), None]),
    ("uuid[]", [str(AN_ID), str(AN_ID).upper()], [str(AN_ID), str(AN_ID)]),
    ("uuid[]", (), []),
    ("bool[]", [True, None, False], [True, None, False]),
    ("text[]", ["NULL", "None", " a,b ", None, "{ü}"], ["NULL", "None", " a,b ", None, "{ü}"]),
    ("text[]", ['say "x"'], ['say "x"']),
    ("text[]", ["back\\slash", None], ["back\\slash", None]),
    ("text[]", [None, None], [None, None]),
    ("float8[]", [1.5, float("-inf"), None], [1.5, float("-inf"), None]),
    ("timestamptz[]", [NOON, None], [NOON, None]),
]


@pytest.mark.parametrize(("type_name", "sent", "received"), ROUND_TRIPS)
async def test_a_value_comes_back_as_it_was_sent(
    connection: Connection, type_name: str, sent: Any, received: Any
) -> None:
    statement = Statement("echo", f"SELECT $1::{type_name}, NULL::{type_name}", ("value",))
    assert await connection.fetch(statement, (sent,)) == [(received, None)]
    assert await connection.fetch(statement, {"value": None}) == [(None, None)]


async def test_ten_megabytes_travel_both_ways_as_they_are(connection: Connection) -> None:
    blob = random.Random(7).randbytes(10_000_000)
    assert await connection.fetch("SELECT $1::bytea", (blob,)) == [(blob,)]
    text = '"' + "ü" * 5_000_000 + '"'
    rows = await connection.fetch("SELECT length($1::json #>> '{}')", (text,))
    assert rows == [(5_000_000,)]


@pytest.mark.parametrize(
    ("sql", "value", "error"),
    [
        ("SELECT $1::bytea", "text", TypeError),
        ("SELECT $1::json", 5, TypeError),
        ("SELECT $1::int8", b"5", TypeError),
        ("SELECT $1::int8", {"a": 1}, TypeError),
        ("SELECT $1::int8[]", 5, TypeError),
        ("SELECT $1::timestamptz", dt.datetime(2026, 1, 1), ValueError),  # noqa: DTZ001
        ("SELECT $1::uuid", "a\0b", ValueError),
        ("SELECT $1::text[]", ["a\0b"], ValueError),
        ("SELECT $1::text[]", [b"bytes"], TypeError),
        ("SELECT $1::int8[]", [1, {}], TypeError),
        ("SELECT $1::int8[]", [2**63], ValueError),
        ("SELECT $1::int8[]", [None, 2**63], ValueError),
        ("SELECT $1::uuid[]", ["no uuid"], ValueError),
        ("SELECT $1::uuid[]", ["g" * 32], ValueError),
        ("SELECT $1::uuid[]", [5], TypeError),
        ("SELECT $1::text", "\ud800", ValueError),
    ],
)
async def test_an_unfit_value_is_refused_by_name_before_it_is_sent(
    connection: Connection, sql: str, value: object, error: type[Exception]
) -> None:
    statement = Statement("unfit", sql, ("amount",))
    with pytest.raises(error, match="parameter amount") as caught:
        await connection.fetch(statement, {"amount": value})
    assert repr(value) not in str(caught.value)
    assert await connection.fetch("SELECT 1") == [(1,)]


async def test_parameters_must_be_exactly_those_of_the_statement(connection: Connection) -> None:
    statement = Statement("two", "SELECT $1::int8 - $2::int8", ("a", "b"))
    assert await connection.fetch_one(statement, {"b": 1, "a": 3}) == (2,)
    with pytest.raises(TypeError, match="parameters b"):
        await connection.fetch(statement, {"a": 1})
    with pytest.raises(TypeError, match="parameters c"):
        await connection.fetch(statement, {"a": 1, "b": 2, "c": 3})
    with pytest.raises(TypeError, match="2 parameters expected, not 1"):
        await connection.fetch(statement, (1,))


async def test_execute_counts_rows_and_fetch_one_wants_at_most_one(connection: Connection) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int)")
    assert await connection.execute("INSERT INTO t SELECT generate_series(1, 5)") == 5
    assert await connection.execute("UPDATE t SET id = id WHERE id > $1", (3,)) == 2
    assert await connection.execute("SET work_mem = '4MB'") == 0
    assert await connection.fetch("SET work_mem = '4MB'") == []
    assert await connection.fetch_one("SELECT id FROM t WHERE false") is None
    with pytest.raises(ProgrammerError, match="5 rows"):
        await connection.fetch_one("SELECT id FROM t")


async def test_a_statement_is_prepared_once_a_session(connection: Connection) -> None:
    statement = Statement("times_two", "SELECT 2 * $1::int8", ("n",))
    for n in range(5):
        assert await connection.fetch(statement, (n,)) == [(2 * n,)]
    await connection.fetch("SELECT $1::int8", (1,))
    prepared = await connection.fetch(
        "SELECT name, generic_plans + custom_plans FROM pg_prepared_statements WHERE name <> ''"
    )
    assert prepared == [("times_two_1", 5)]


async def test_a_statement_survives_a_change_of_its_table(
    server: Server, connection: Connection
) -> None:
    server.admin("CREATE TABLE grows (id int)")
    statement = Statement("everything", "SELECT * FROM grows")
    try:
        assert await connection.fetch(statement) == []
        server.admin("ALTER TABLE grows ADD COLUMN more text")
        server.admin("INSERT INTO grows VALUES (1, 'x')")
        assert await connection.fetch(statement) == [(1, "x")]
        server.admin("ALTER TABLE grows ADD COLUMN yet_more text")
        with pytest.raises(TransactionConflictError):
            async with connection.transaction():
                await connection.fetch(statement)
        assert await connection.fetch(statement) == [(1, "x", None)]
    finally:
        server.admin("DROP TABLE grows")


async def test_a_transaction_keeps_all_or_nothing(connection: Connection) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int PRIMARY KEY)")
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ProgrammerError, match="nest"):
            async with connection.transaction():
                pass

    async def insert_and(then: Callable[[], Awaitable[object]]) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (2)")
            await then()

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(StatementRefusedError):
        await insert_and(lambda: connection.execute("INSERT INTO t VALUES (1)"))
    with pytest.raises(ZeroDivisionError):
        await insert_and(fail)
    assert await connection.fetch("SELECT id FROM t") == [(1,)]
    assert connection.is_idle


async def test_committing_a_failed_transaction_is_loud(connection: Connection) -> None:
    async def swallow() -> None:
        async with connection.transaction():
            with pytest.raises(StatementRefusedError):
                await connection.fetch("SELECT 1 / 0")

    with pytest.raises(ProgrammerError, match="nothing was kept"):
        await swallow()
    assert connection.is_idle


async def test_refusals_tell_state_and_constraint_but_no_values(connection: Connection) -> None:
    await connection.execute_script(
        "CREATE TEMP TABLE t (id int CONSTRAINT t_id_positive CHECK (id > 0))"
    )
    with pytest.raises(StatementRefusedError) as caught:
        await connection.execute("INSERT INTO t VALUES ($1)", (-424242,))
    assert caught.value.sqlstate == "23514"
    assert caught.value.constraint_name == "t_id_positive"
    assert "424242" not in str(caught.value)
    with pytest.raises(StatementRefusedError) as caught:
        await connection.fetch("SELECT $1::int8", ('se"cret',))
    assert caught.value.sqlstate == "22P02"
    assert "cret" not in str(caught.value)
    with pytest.raises(StatementRefusedError) as caught:
        await connection.fetch("SELECT $1::text", ("a\0b",))
    assert caught.value.sqlstate == "22021"


async def test_a_wrong_statement_is_a_programmers_error(connection: Connection) -> None:
    with pytest.raises(ProgrammerError, match="no_such_table") as caught:
        await connection.fetch(Statement("typo", "SELECT * FROM no_such_table"))
    assert caught.value.sqlstate == "42P01"
    with pytest.raises(ProgrammerError, match="COPY"):
        await connection.execute_script("COPY pg_class TO STDOUT")
    assert connection.is_closed


async def test_notices_reach_the_callback(server: Server) -> None:
    heard: list[tuple[str, str]] = []
    connection = await Connection.connect(
        server.conninfo, on_notice=lambda severity, message: heard.append((severity, message))
    )
    await connection.execute_script("DO $$ BEGIN RAISE WARNING 'look out'; END $$")
    await connection.aclose()
    assert heard == [("WARNING", "look out")]


async def test_a_second_call_at_a_time_is_refused_and_disturbs_nothing(
    connection: Connection,
) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.fetch, "SELECT pg_sleep(0.1)")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await connection.fetch("SELECT 1")
    assert await connection.fetch("SELECT 2") == [(2,)]


async def test_a_closed_connection_answers_unavailable(connection: Connection) -> None:
    await connection.aclose()
    await connection.aclose()
    with pytest.raises(StoreUnavailableError) as caught:
        await connection.fetch("SELECT 1")
    assert not caught.value.may_have_committed


async def test_closing_under_a_running_call_ends_it(connection: Connection) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def sleep() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await connection.fetch("SELECT pg_sleep(60)")

            nursery.start_soon(sleep)
            await trio.testing.wait_all_tasks_blocked()
            connection.close()
