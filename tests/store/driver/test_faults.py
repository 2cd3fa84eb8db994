"""Cancellation, lost servers, unreachable hosts: what is left afterwards, and what is said."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trio

from jobengine.store.errors import ProgrammerError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import Statement

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

    UntilAsleep = Callable[[Server, int], Awaitable[None]]

SLEEP = Statement("sleep", "SELECT pg_sleep(60)")


async def test_a_cancelled_call_is_cancelled_on_the_server(
    server: Server, connection: Connection, until_asleep: UntilAsleep
) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.fetch, SLEEP)
            await until_asleep(server, connection.backend_pid)
            nursery.cancel_scope.cancel()
    assert connection.is_idle
    assert await connection.fetch("SELECT 1") == [(1,)]
    state = server.admin(f"SELECT state FROM pg_stat_activity WHERE pid={connection.backend_pid}")
    assert state == [("idle",)]


async def test_a_call_cancelled_at_any_moment_leaves_idle_or_closed(connection: Connection) -> None:
    statement = Statement("payload", "SELECT length($1::bytea)", ("octets",))
    payload = bytes(4_000_000)
    for step in range(40):
        with trio.move_on_after(step / 5000):
            await connection.fetch(statement, (payload,))
        assert connection.is_idle, f"after {step / 5:.1f} ms"
        assert await connection.fetch("SELECT $1::int8", (step,)) == [(step,)]


async def test_a_transaction_cancelled_in_mid_query_is_rolled_back(
    server: Server, connection: Connection, until_asleep: UntilAsleep
) -> None:
    await connection.execute_script("CREATE TEMP TABLE t (id int)")

    async def work() -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.fetch(SLEEP)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await until_asleep(server, connection.backend_pid)
            nursery.cancel_scope.cancel()
    assert connection.is_idle
    assert await connection.fetch("SELECT count(*) FROM t") == [(0,)]


async def test_a_cancel_that_the_server_does_not_obey_closes_the_connection(
    server: Server, until_asleep: UntilAsleep
) -> None:
    connection = await Connection.connect(server.conninfo, cancel_timeout_s=0.1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.fetch, SLEEP)
            await until_asleep(server, connection.backend_pid)
            os.kill(connection.backend_pid, signal.SIGSTOP)
            pid = connection.backend_pid
            try:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    while not connection.is_closed:  # noqa: ASYNC110 — a clean-up is watched
                        await trio.sleep(0.01)
            finally:
                os.kill(pid, signal.SIGCONT)
    assert connection.is_closed


async def test_a_backend_killed_in_mid_query_is_unavailability_with_unknown_outcome(
    running: Server, until_asleep: UntilAsleep
) -> None:
    connection = await Connection.connect(running.conninfo)
    caught: list[StoreUnavailableError] = []

    async def sleep() -> None:
        with pytest.raises(StoreUnavailableError) as info:
            await connection.fetch(SLEEP)
        caught.append(info.value)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            await until_asleep(running, connection.backend_pid)
            os.kill(connection.backend_pid, signal.SIGKILL)
    assert caught[0].may_have_committed
    assert connection.is_closed


async def test_a_loss_before_commit_is_known_to_have_kept_nothing(
    server: Server, connection: Connection
) -> None:
    async def lose_it() -> None:
        async with connection.transaction():
            await connection.fetch("SELECT 1")
            server.admin(f"SELECT pg_terminate_backend({connection.backend_pid})")
            await connection.fetch("SELECT 2")

    with pytest.raises(StoreUnavailableError) as caught:
        await lose_it()
    assert not caught.value.may_have_committed
    assert connection.is_closed


async def test_a_loss_at_commit_is_ambiguous(server: Server, connection: Connection) -> None:
    async def lose_it() -> None:
        async with connection.transaction():
            await connection.fetch("SELECT 1")
            server.admin(f"SELECT pg_terminate_backend({connection.backend_pid}, 5000)")

    with pytest.raises(StoreUnavailableError, match="COMMIT") as caught:
        await lose_it()
    assert caught.value.may_have_committed


async def test_a_shutdown_in_mid_query_is_unavailability(
    running: Server, until_asleep: UntilAsleep
) -> None:
    connection = await Connection.connect(running.conninfo)
    caught: list[StoreUnavailableError] = []

    async def sleep() -> None:
        with pytest.raises(StoreUnavailableError) as info:
            await connection.fetch(SLEEP)
        caught.append(info.value)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            await until_asleep(running, connection.backend_pid)
            await trio.to_thread.run_sync(running.stop)
    assert caught[0].sqlstate == "57P01"
    assert connection.is_closed


async def test_a_server_that_is_away_refuses(running: Server) -> None:
    running.stop()
    with trio.fail_after(10), pytest.raises(StoreUnavailableError, match=r"127[.]0[.]0[.]1"):
        await Connection.connect(running.tcp_conninfo)


async def test_a_statement_timeout_keeps_nothing_and_the_connection(connection: Connection) -> None:
    await connection.execute_script("SET statement_timeout = '20ms'")
    with pytest.raises(StoreUnavailableError) as caught:
        await connection.fetch(SLEEP)
    assert caught.value.sqlstate == "57014"
    assert not caught.value.may_have_committed
    assert connection.is_idle


async def test_a_read_only_server_is_left_for_another_one(connection: Connection) -> None:
    await connection.execute_script("SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailableError) as caught:
        await connection.execute("CREATE TABLE nowhere (id int)")
    assert caught.value.sqlstate == "25006"
    assert connection.is_closed


async def test_the_next_host_is_tried_when_the_first_is_dead(server: Server) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        dead = reserved.getsockname()[1]
        conninfo = f"host=127.0.0.1,127.0.0.1 port={dead},{server.port} user=postgres"
        connection = await Connection.connect(conninfo, application_name="second host")
    assert await connection.fetch("SHOW application_name") == [("second host",)]
    await connection.aclose()


async def test_a_silent_host_costs_its_timeout_and_no_more(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent, trio.fail_after(10):
        port = silent.getsockname()[1]
        with pytest.raises(StoreUnavailableError, match=r"no answer from 127.0.0.1 within 0.05 s"):
            await Connection.connect(f"host=127.0.0.1 port={port}", timeout_s=0.05)
        conninfo = f"host=127.0.0.1,127.0.0.1 port={port},{server.port} user=postgres"
        connection = await Connection.connect(conninfo, timeout_s=0.5)
        assert await connection.fetch("SELECT 1") == [(1,)]
        await connection.aclose()


async def test_the_wanted_kind_of_server_is_honoured(server: Server) -> None:
    with trio.fail_after(10):
        with pytest.raises(StoreUnavailableError, match="standby"):
            await Connection.connect(f"{server.conninfo} target_session_attrs=standby")
        for attrs in ("read-write", "primary", "prefer-standby"):
            connection = await Connection.connect(f"{server.conninfo} target_session_attrs={attrs}")
            await connection.aclose()


async def test_a_host_name_is_looked_up(server: Server) -> None:
    conninfo = f"host=localhost port={server.port} user=postgres dbname=postgres"
    connection = await Connection.connect(conninfo)
    assert await connection.fetch("SELECT 1") == [(1,)]
    await connection.aclose()


async def test_an_unreadable_connection_string_is_a_programmers_error() -> None:
    with pytest.raises(ProgrammerError, match="connection string"):
        await Connection.connect("nonsense without equals")
    with pytest.raises(ProgrammerError, match=r"no host name: .*label empty"):
        await Connection.connect("postgresql://a..b/x")


async def test_a_refused_connection_is_unavailability_without_the_password(server: Server) -> None:
    with pytest.raises(StoreUnavailableError, match="no_such_database") as caught:
        await Connection.connect(f"{server.conninfo} password=hunter2 dbname=no_such_database")
    assert "hunter2" not in str(caught.value)
