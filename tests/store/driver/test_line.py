"""Statements behind each other on one connection."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
import trio.testing

from jobengine.store.errors import (
    ProgrammerError,
    StatementRefusedError,
    StoreSilentError,
    StoreUnavailableError,
)
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.line import Lines
from jobengine.store.postgres.driver.pool import Pool, open_pool
from jobengine.store.postgres.statements import Statement

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

# Each finds only what the one before it left: without the other's commit it divides by zero.
STEP = Statement(
    "step",
    "WITH moved AS (UPDATE place SET at = at + 1 WHERE at = $1 RETURNING 1), "
    "slept AS (SELECT pg_sleep($2)) "
    "SELECT 1 / (SELECT count(*) FROM moved), (SELECT count(*) FROM slept)",
    ("at", "seconds"),
)
WITHIN_S = 20.0


@asynccontextmanager
async def open_lines(
    server: Server, size_max: int = 1, answer_s_max: float = WITHIN_S
) -> AsyncIterator[tuple[Lines, Pool]]:
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        )
        admin.execute("DROP TABLE IF EXISTS place")
        admin.execute("CREATE TABLE place (at bigint)")
        admin.execute("INSERT INTO place VALUES (0)")

    async def connect() -> Connection:
        return await Connection.connect(server.conninfo, answer_s_max=answer_s_max)

    async with open_pool(connect, size_max=size_max, dice=random.Random(1)) as pool:
        with trio.fail_after(WITHIN_S):
            yield Lines(pool, [STEP]), pool


def step(lines: Lines, at: int, *, seconds: float = 0.0, key: str = "a") -> Awaitable[None]:
    return lines.begin({key}, STEP, {"at": at, "seconds": seconds})


def place(server: Server) -> int:
    with psycopg.connect(server.conninfo) as admin:
        [(at,)] = admin.execute("SELECT at FROM place").fetchall()
    assert isinstance(at, int)
    return at


ASLEEP = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def asleep(server: Server) -> int:
    with psycopg.connect(server.conninfo) as admin:
        return admin.execute(f"SELECT {ASLEEP}").rowcount


async def until_asleep(server: Server) -> None:
    """A server that has not begun a statement yet does not hear that it is cancelled."""
    while asleep(server) == 0:
        await trio.lowlevel.checkpoint()


async def outcomes(*calls: Awaitable[None]) -> list[Exception | None]:
    """Wait for all at once, in whatever order tasks are started."""
    found: list[Exception | None] = [None] * len(calls)

    async def take(number: int, call: Awaitable[None]) -> None:
        try:
            await call
        except Exception as error:  # noqa: BLE001 - it is looked at
            found[number] = error

    async with trio.open_nursery() as nursery:
        for number, call in reversed(list(enumerate(calls))):
            nursery.start_soon(take, number, call)
    return found


@pytest.mark.parametrize("warm", [False, True])
async def test_calls_that_share_a_key_take_effect_in_the_order_in_which_they_began(
    server: Server, warm: bool
) -> None:
    async with open_lines(server, size_max=3) as (lines, pool):
        first = 0
        if warm:
            await step(lines, 0)
            first = 1
        calls = [step(lines, first + number, seconds=0.05) for number in range(4)]
        assert await outcomes(*calls) == [None] * 4
        assert place(server) == first + 4
        assert pool.statistics.open == pool.statistics.idle == 1


async def test_a_call_of_another_key_does_not_wait_for_the_line(server: Server) -> None:
    async with open_lines(server, size_max=2) as (_, pool):
        other = Statement("other", "SELECT $1::bigint + $2::bigint", ("a", "b"))
        both = Lines(pool, [STEP, other])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcomes, both.begin({"a"}, STEP, {"at": 0, "seconds": 60.0}))
            await trio.testing.wait_all_tasks_blocked()
            await both.begin({"b"}, other, {"a": 1, "b": 2})
            nursery.cancel_scope.cancel()


async def test_what_follows_a_failed_call_is_run_and_finds_what_that_left(server: Server) -> None:
    async with open_lines(server) as (lines, _):
        await step(lines, 0)
        calls = [step(lines, 7), step(lines, 1), step(lines, 2)]
        refused, *well = await outcomes(*calls)
        assert isinstance(refused, StatementRefusedError)
        assert well == [None, None]
        assert place(server) == 3
        await step(lines, 3)


async def test_when_the_session_is_lost_the_outcome_of_all_on_the_line_is_unknown(
    server: Server,
) -> None:
    async with open_lines(server) as (lines, pool):
        await step(lines, 0)
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            found: list[Exception | None] = []

            async def run() -> None:
                calls = [step(lines, 1, seconds=60.0), step(lines, 2), step(lines, 3)]
                found.extend(await outcomes(*calls))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                pid = None
                while pid is None:
                    row = admin.execute(
                        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                    ).fetchone()
                    pid = row and row[0]
                    await trio.lowlevel.checkpoint()
                admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert len(found) == 3
        for error in found:
            assert isinstance(error, StoreUnavailableError)
            assert error.may_have_committed
        assert place(server) == 1
        await step(lines, 1)
        assert pool.statistics.open == 1


async def test_a_server_that_cannot_be_had_has_taken_none_of_the_calls(server: Server) -> None:
    async def connect() -> Connection:
        raise StoreUnavailableError("nobody listens")

    async with open_pool(
        connect, size_max=1, dice=random.Random(1), acquire_timeout_s=0.05
    ) as pool:
        lines = Lines(pool, [STEP])
        for error in await outcomes(step(lines, 0), step(lines, 1)):
            assert isinstance(error, StoreUnavailableError)
            assert not error.may_have_committed
            assert "nobody listens" in str(error)


async def test_a_cancelled_line_is_over_on_the_server_when_its_calls_return(
    server: Server,
) -> None:
    async with open_lines(server) as (lines, pool):
        await step(lines, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                outcomes, step(lines, 1, seconds=60.0), step(lines, 1), step(lines, 2)
            )
            await trio.testing.wait_all_tasks_blocked()
            await until_asleep(server)
            nursery.cancel_scope.cancel()
        after = place(server)
        assert after in (1, 3), "the sleeping call was cancelled; those behind it went on from it"
        await step(lines, after)
        assert pool.statistics.open == 1


async def test_a_call_that_is_cancelled_before_it_waits_is_over_on_the_server_too(
    server: Server,
) -> None:
    async with open_lines(server) as (lines, pool):
        await step(lines, 0)
        calls = [step(lines, 1, seconds=60.0), step(lines, 1)]
        await until_asleep(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcomes, *calls)
            nursery.cancel_scope.cancel()
        assert asleep(server) == 0
        after = place(server)
        assert after in (1, 2), "the one behind it goes on from there, if it goes on"
        await step(lines, after)
        assert pool.statistics.open == 1
        assert not lines.lost


async def test_a_call_that_has_no_answer_when_its_session_is_given_up_is_known_as_lost(
    server: Server,
) -> None:
    async with open_lines(server, answer_s_max=0.2) as (lines, _):
        await step(lines, 0)
        await outcomes(step(lines, 1, seconds=60.0), step(lines, 2))
        with psycopg.connect(server.conninfo) as admin:
            pids = admin.execute(f"SELECT pid {ASLEEP}").fetchall()
        assert [(pid,) for pid in lines.lost] == pids


async def test_a_cancelled_call_leaves_the_one_in_front_alone(server: Server) -> None:
    async with open_lines(server) as (lines, pool):
        await step(lines, 0)
        front = step(lines, 1, seconds=0.2)
        behind = step(lines, 2)
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                with trio.move_on_after(0):
                    await behind

            nursery.start_soon(give_up)
            assert await outcomes(front) == [None]
        assert pool.statistics.idle == 0, "an answer nobody waits for costs the connection"
        assert place(server) in (2, 3)


async def test_a_silent_server_costs_the_connection_and_distrust_of_the_others(
    server: Server,
) -> None:
    async with open_lines(server, answer_s_max=0.2) as (lines, pool):
        await step(lines, 0)
        silences: list[None] = []
        pool.fell_silent = lambda: silences.append(None)
        silent, behind = await outcomes(step(lines, 1, seconds=60.0), step(lines, 2))
        assert isinstance(silent, StoreSilentError)
        assert isinstance(behind, StoreUnavailableError)
        assert silent.may_have_committed
        assert behind.may_have_committed
        assert silences == [None]
        assert pool.statistics.open == 0


async def test_a_call_that_two_lines_would_have_to_carry_is_a_mistake(server: Server) -> None:
    async with open_lines(server, size_max=2) as (lines, _):
        calls = [step(lines, 0, key="a"), step(lines, 1, key="b")]
        with pytest.raises(ProgrammerError):
            lines.begin({"a", "b"}, STEP, {"at": 2, "seconds": 0.0})
        await outcomes(*calls)


async def test_a_stale_plan_is_made_anew_for_the_next_call(server: Server) -> None:
    async with open_lines(server) as (lines, _):
        await step(lines, 0)
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute("DROP TABLE place")
            admin.execute("CREATE TABLE place (at bigint)")
            admin.execute("INSERT INTO place VALUES (1)")
        await step(lines, 1)
        assert place(server) == 2


SWALLOW = Statement("swallow", "SELECT length($1::text), pg_sleep($2)", ("text", "seconds"))


def swallow(lines: Lines, megabytes: int, seconds: float) -> Awaitable[None]:
    return lines.begin({"a"}, SWALLOW, {"text": "x" * (megabytes << 20), "seconds": seconds})


@asynccontextmanager
async def open_swallowing(server: Server) -> AsyncIterator[tuple[Lines, list[Connection]]]:
    made: list[Connection] = []

    async def connect() -> Connection:
        made.append(await Connection.connect(server.conninfo))
        return made[-1]

    async with open_pool(connect, size_max=1, dice=random.Random(1)) as pool:
        with trio.fail_after(WITHIN_S):
            yield Lines(pool, [SWALLOW]), made


async def test_calls_larger_than_any_buffer_pass_behind_each_other(server: Server) -> None:
    async with open_swallowing(server) as (lines, _):
        for megabytes in (1, 8):
            calls = [swallow(lines, megabytes, 0.02) for _ in range(4)]
            assert await outcomes(*calls) == [None] * 4


async def test_an_answer_that_is_read_while_the_next_call_is_sent_is_heard(server: Server) -> None:
    async with open_swallowing(server) as (lines, made):
        await swallow(lines, 0, 0.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcomes, swallow(lines, 0, 0.05))
            await trio.testing.wait_all_tasks_blocked()
            while not made[0].has_unread_input:
                pass  # The reader does not get to it: libpq reads it, since it cannot send all.
            nursery.start_soon(outcomes, swallow(lines, 8, 0.0))
