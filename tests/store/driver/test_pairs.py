"""Two statements in one message: one transaction, and nothing left of it, however it ends."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trio

from jobengine.store.errors import ProgrammerError, StatementRefusedError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import Statement

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

    UntilAsleep = Callable[[Server, int], Awaitable[None]]

SET = Statement("set_word", "SELECT set_config('my.word', $1, true)", ("word",))
GET = Statement("get_word", "SELECT current_setting('my.word', true), $1::int8", ("number",))
SLEEP = Statement("sleep", "SELECT pg_sleep(60)")


async def test_what_the_first_one_sets_holds_for_the_second_and_no_longer(
    connection: Connection,
) -> None:
    for number in range(3):
        rows = await connection.fetch_after(SET, ("here",), GET, {"number": number})
        assert rows == [("here", number)]
        assert await connection.fetch(GET, (0,)) == [("", 0)]
        assert connection.is_idle


async def test_both_are_one_transaction(connection: Connection) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int)")
    insert = Statement("insert", "INSERT INTO t VALUES (1)")
    fails = Statement("fails", "SELECT 1 / $1::int8", ("by",))
    with pytest.raises(StatementRefusedError, match="division by zero"):
        await connection.fetch_after(insert, (), fails, (0,))
    assert connection.is_idle
    assert await connection.fetch("SELECT FROM t") == []
    assert await connection.fetch_after(insert, (), fails, (1,)) == [(1,)]
    assert await connection.fetch("SELECT id FROM t") == [(1,)]


async def test_a_failing_first_one_keeps_the_second_from_running(connection: Connection) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int)")
    fails = Statement("fails", "SELECT 1 / $1::int8", ("by",))
    insert = Statement("insert", "INSERT INTO t VALUES (1)")
    with pytest.raises(StatementRefusedError, match="division by zero"):
        await connection.fetch_after(fails, (0,), insert, ())
    assert await connection.fetch("SELECT FROM t") == []


async def test_a_plan_that_went_stale_is_made_anew(connection: Connection) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)")
    everything = Statement("everything", "SELECT * FROM t")
    assert await connection.fetch_after(SET, ("a",), everything, ()) == [(1,)]
    await connection.execute_script("ALTER TABLE t ADD COLUMN more text DEFAULT 'x'")
    assert await connection.fetch_after(SET, ("a",), everything, ()) == [(1, "x")]


async def test_a_cancelled_pair_is_cancelled_on_the_server(
    server: Server, connection: Connection, until_asleep: UntilAsleep
) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.fetch_after, SET, ("a",), SLEEP, ())
            await until_asleep(server, connection.backend_pid)
            nursery.cancel_scope.cancel()
    assert connection.is_idle
    assert await connection.fetch(GET, (1,)) == [("", 1)]


async def test_a_pair_cancelled_at_any_moment_leaves_idle(connection: Connection) -> None:
    statement = Statement("payload", "SELECT length($1::bytea)", ("octets",))
    payload = bytes(4_000_000)
    for step in range(40):
        with trio.move_on_after(step / 5000):
            await connection.fetch_after(SET, ("a",), statement, (payload,))
        assert connection.is_idle, f"after {step / 5:.1f} ms"
        [(word, number)] = await connection.fetch(GET, (step,))
        assert (word or "", number) == ("", step)


async def test_a_server_that_stops_in_mid_pair_is_unavailable(
    running: Server, until_asleep: UntilAsleep
) -> None:
    connection = await Connection.connect(running.conninfo)

    async def work() -> None:
        with pytest.raises(StoreUnavailableError):
            await connection.fetch_after(SET, ("a",), SLEEP, ())

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await until_asleep(running, connection.backend_pid)
            await trio.to_thread.run_sync(running.stop, signal.SIGQUIT)
    assert connection.is_closed


async def test_a_pair_is_no_part_of_a_transaction(connection: Connection) -> None:
    async with connection.transaction():
        with pytest.raises(ProgrammerError, match="transaction of its own"):
            await connection.fetch_after(SET, ("a",), GET, (1,))
