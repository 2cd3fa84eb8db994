"""The server in the hands of a living engine: start, stop, restart, limits."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import attrs
import psycopg
import pytest
import trio
import trio.testing

from jobengine.store.embedded import (
    Binaries,
    EmbeddedServer,
    EmbeddedServerError,
    EmbeddedSettings,
)
from jobengine.store.embedded.leftovers import server_processes
from tests.store.embedded.conftest import (
    alive,
    ask,
    eventually,
    files_of,
    gone,
    initialised_data_dir,
    parent_of,
    socket_dir_of,
)


def answers(conninfo: str) -> bool:
    try:
        return ask(conninfo, "SELECT true") is True
    except psycopg.OperationalError:
        return False


def cluster_made(data_dir: Path) -> tuple[int, int]:
    """Tells one cluster from another: the file is written when it is made."""
    [path] = data_dir.rglob("global/pg_filenode.map")
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_first_start_makes_a_durable_server_and_a_second_finds_the_data(
    fast_dir: Path, binaries: Binaries
) -> None:
    settings = EmbeddedSettings(bin_dir=binaries.bin_dir)
    async with EmbeddedServer(fast_dir / "new" / "data", settings) as server:
        for name, expected in {
            "server_version": binaries.version,
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "listen_addresses": "",
            "max_connections": str(settings.connections_max),
        }.items():
            assert str(ask(server.conninfo, f"SHOW {name}")).startswith(expected)
        assert ask(server.conninfo, "SELECT 'a' > 'B'")
        ask(server.conninfo, "CREATE TABLE kept AS SELECT 7 AS value")

    async with EmbeddedServer(fast_dir / "new" / "data", settings) as server:
        assert ask(server.conninfo, "SELECT value FROM kept") == 7


async def test_a_warm_start_makes_no_cluster_anew(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    async with EmbeddedServer(data_dir, settings):
        made = cluster_made(data_dir)
    async with EmbeddedServer(data_dir, settings):
        assert cluster_made(data_dir) == made


async def test_nothing_is_left_after_the_block(data_dir: Path, settings: EmbeddedSettings) -> None:
    async with EmbeddedServer(data_dir, settings) as server:
        assert server.pid is not None
        processes = [server.pid, parent_of(server.pid)]
        socket_dir = socket_dir_of(server.conninfo)
        assert mode_of(socket_dir) == 0o700
        assert ".s.PGSQL.5432" in files_of(socket_dir)
    assert not any(alive(pid) for pid in processes)
    assert not files_of(socket_dir)
    assert "database system is shut down" in (data_dir / "server.log").read_text()


async def test_an_error_in_the_block_stops_the_server(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    pids = []

    async def fail() -> None:
        async with EmbeddedServer(data_dir, settings) as server:
            pids.append(server.pid)
            raise ValueError

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(ValueError)
    assert pids[0] is not None
    assert not alive(pids[0])


async def test_a_killed_postmaster_is_replaced_with_committed_data_intact(
    fast_dir: Path, binaries: Binaries
) -> None:
    data_dir = initialised_data_dir(fast_dir / "data", binaries)
    async with EmbeddedServer(data_dir, EmbeddedSettings(bin_dir=binaries.bin_dir)) as server:
        ask(server.conninfo, "CREATE TABLE kept AS SELECT 7 AS value")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: server.restarts == 1)
        assert ask(server.conninfo, "SELECT value FROM kept") == 7


async def test_a_backend_busy_beyond_its_postmaster_is_ended_before_the_restart(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    backends: list[int] = []

    def busy_for_hours(conninfo: str) -> None:
        with psycopg.connect(conninfo) as connection:
            backends.append(connection.info.backend_pid)
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000000)")

    async def expect_loss(conninfo: str) -> None:
        with pytest.raises(psycopg.OperationalError):
            await trio.to_thread.run_sync(busy_for_hours, conninfo)

    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
    async with EmbeddedServer(data_dir, settings) as server, trio.open_nursery() as nursery:
        nursery.start_soon(expect_loss, server.conninfo)
        await eventually(lambda: ask(server.conninfo, active) == 2)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await gone(backends[0])
        await eventually(lambda: server.restarts == 1)
        assert answers(server.conninfo)


async def test_a_killed_guard_takes_its_postmaster_along_and_both_are_replaced(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    async with EmbeddedServer(data_dir, settings) as server:
        first = server.pid
        assert first is not None
        os.kill(parent_of(first), signal.SIGKILL)
        await eventually(lambda: server.restarts == 1)
        assert not alive(first)
        assert answers(server.conninfo)


async def test_the_guard_outlives_the_stop_signals_of_a_terminal_or_service(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    async with EmbeddedServer(data_dir, settings) as server:
        assert server.pid is not None
        guard = parent_of(server.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard, number)
        await trio.testing.wait_all_tasks_blocked()
        assert answers(server.conninfo)
        assert parent_of(server.pid) == guard


async def test_a_server_that_keeps_dying_is_given_up_and_can_be_started_again(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    settings = attrs.evolve(settings, restarts_max=0)

    async def run() -> None:
        async with EmbeddedServer(data_dir, settings) as server:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(20):
        await run()
    assert caught.group_contains(EmbeddedServerError, match="failed 1 times within 60 s")
    async with EmbeddedServer(data_dir, settings) as server:
        assert answers(server.conninfo)


async def test_what_a_server_said_at_its_death_is_where_the_error_points(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    settings = attrs.evolve(settings, restarts_max=0, log_bytes_max=64 << 10)
    log_path = data_dir / "server.log"

    async def run() -> None:
        async with EmbeddedServer(data_dir, settings) as server:
            with log_path.open("a") as log:
                log.write("LOG:  talkative\n" * (8 << 10) + "PANIC:  the last line\n")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(20):
        await run()
    assert caught.group_contains(EmbeddedServerError, match=f"see {log_path}$")
    assert "PANIC:  the last line\n" in log_path.read_text()
    async with EmbeddedServer(data_dir, settings):
        assert log_path.with_name("server.log.1").read_text().endswith("PANIC:  the last line\n")


async def test_a_postmaster_deaf_to_every_request_is_killed_in_bounded_time(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    settings = attrs.evolve(settings, stop_fast_s=0.1, stop_immediate_s=0.1)
    with trio.fail_after(5):
        async with EmbeddedServer(data_dir, settings) as server:
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)
    async with EmbeddedServer(data_dir, settings) as server:
        assert answers(server.conninfo)


async def test_a_cancelled_start_leaves_no_process_and_no_lock(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    async def run() -> None:
        async with EmbeddedServer(data_dir, settings):
            await trio.sleep_forever()

    for patience_s in (0, 0.01, 0.03, 0.05):
        with trio.move_on_after(patience_s):
            await run()
        assert not server_processes(data_dir / "cluster")
    async with EmbeddedServer(data_dir, settings) as server:
        assert answers(server.conninfo)


async def test_no_password_is_needed_by_socket_and_tcp_is_closed_without_one(
    data_dir: Path, settings: EmbeddedSettings, free_port: int
) -> None:
    async with EmbeddedServer(data_dir, attrs.evolve(settings, tcp_port=free_port)) as server:
        assert "password" not in server.conninfo
        by_tcp = f"host=127.0.0.1 port={free_port} dbname=postgres"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{by_tcp} user=jobengine")
        ask(server.conninfo, "CREATE ROLE reader LOGIN PASSWORD 'of this test'")
        assert answers(f"{by_tcp} user=reader password='of this test'")


async def test_a_data_directory_of_any_length_works(
    fast_dir: Path, newest: Binaries, settings: EmbeddedSettings
) -> None:
    deep = fast_dir / ("d" * 120) / ("e" * 120)
    deep.parent.mkdir()
    async with EmbeddedServer(initialised_data_dir(deep, newest), settings) as server:
        assert answers(server.conninfo)


async def test_quotes_and_blanks_in_paths_are_taken_as_they_are(
    fast_dir: Path, newest: Binaries, settings: EmbeddedSettings
) -> None:
    runtime_dir = fast_dir / "so ck's"
    runtime_dir.mkdir(mode=0o755)
    data_dir = initialised_data_dir(fast_dir / "it's a \\ dir", newest)
    async with EmbeddedServer(data_dir, attrs.evolve(settings, runtime_dir=runtime_dir)) as server:
        assert answers(server.conninfo)
