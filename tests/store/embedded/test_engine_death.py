"""What is left of the server when the engine's process dies without a word."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from jobengine.store.embedded import EmbeddedServer, EmbeddedServerError, EmbeddedSettings
from tests.store.embedded.conftest import (
    EngineProcess,
    alive,
    ask,
    files_of,
    gone,
    socket_dir_of,
    user_of,
)

Start = Callable[..., EngineProcess]


async def test_the_server_ends_within_seconds_of_its_killed_engine(
    data_dir: Path, start_engine: Start
) -> None:
    engine = start_engine(data_dir)
    engine.kill()
    with trio.fail_after(5):
        await gone(engine.guard)
    assert not alive(engine.postmaster)
    assert not files_of(socket_dir_of(engine.conninfo))


async def test_a_server_deaf_to_every_request_ends_with_its_killed_engine_all_the_same(
    data_dir: Path, start_engine: Start, settings: EmbeddedSettings
) -> None:
    engine = start_engine(data_dir)
    os.kill(engine.postmaster, signal.SIGSTOP)
    engine.kill()
    with trio.fail_after(10):
        await gone(engine.guard)
    assert not alive(engine.postmaster)
    async with EmbeddedServer(data_dir, settings) as server:
        assert ask(server.conninfo, "SELECT true") is True


async def test_the_server_ends_when_engine_and_guard_are_killed_together(
    data_dir: Path, start_engine: Start
) -> None:
    engine = start_engine(data_dir)
    os.kill(engine.guard, signal.SIGSTOP)
    engine.kill()
    os.kill(engine.guard, signal.SIGKILL)
    with trio.fail_after(5):
        await gone(engine.postmaster)
    remove_directory(socket_dir_of(engine.conninfo))


async def test_a_new_engine_takes_over_from_a_server_still_running(
    data_dir: Path, start_engine: Start, settings: EmbeddedSettings
) -> None:
    engine = start_engine(data_dir)
    ask(engine.conninfo, "CREATE TABLE kept AS SELECT 7 AS value")
    os.kill(engine.guard, signal.SIGSTOP)
    try:
        engine.kill()
        assert alive(engine.postmaster)
        async with EmbeddedServer(data_dir, settings) as server:
            assert not alive(engine.postmaster)
            assert ask(server.conninfo, "SELECT value FROM kept") == 7
    finally:
        os.kill(engine.guard, signal.SIGCONT)
    await gone(engine.guard)


async def test_a_new_engine_may_start_at_once_after_a_kill(
    data_dir: Path, start_engine: Start
) -> None:
    for _ in range(3):
        engine = start_engine(data_dir)
        ask(engine.conninfo, "CREATE TABLE IF NOT EXISTS kept (value int)")
        ask(engine.conninfo, "INSERT INTO kept VALUES (1)")
        engine.kill()
    engine = start_engine(data_dir)
    assert ask(engine.conninfo, "SELECT count(*) FROM kept") == 3


async def test_a_second_engine_is_refused_naming_the_first(
    data_dir: Path, start_engine: Start, settings: EmbeddedSettings
) -> None:
    engine = start_engine(data_dir)
    with pytest.raises(EmbeddedServerError, match=f"another engine, process {engine.process.pid}:"):
        await EmbeddedServer(data_dir, settings).__aenter__()
    assert ask(engine.conninfo, "SELECT true") is True


@pytest.mark.parametrize("user", ["nobody", None] if os.geteuid() == 0 else [None])
async def test_the_server_never_runs_as_root(
    open_dir: Path, start_engine: Start, user: str | None
) -> None:
    home = open_dir / "home"
    home.mkdir()
    if user is not None:
        os.chown(home, *ids_of(user))
    engine = start_engine(home / "data", user=user)
    assert user_of(engine.postmaster) != "root"
    assert user in (None, user_of(engine.postmaster))
    assert ask(engine.conninfo, "SELECT current_user") == "jobengine"


def remove_directory(path: Path) -> None:
    shutil.rmtree(path)


def ids_of(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid
