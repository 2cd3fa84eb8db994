"""The servers the suite itself stands on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import trio

from tests.postgres_server import PostgresServer, fresh_database, running_server
from tests.store.embedded.conftest import (
    INSTALLED,
    REPOSITORY,
    alive,
    ask,
    files_of,
    gone,
    parent_of,
    python_path,
)

PROGRAM = """
import sys
from tests.postgres_server import installed_binaries, running_server
found = installed_binaries()
with running_server(found[max(found)]) as server:
    print(server.pid, server.data_dir, flush=True)
    sys.stdin.read()
"""


def test_a_database_is_empty_and_of_one_test_alone(database: str) -> None:
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert ask(database, tables) == 0
    ask(database, "CREATE TABLE mine (value int)")


def test_a_database_can_be_copied_and_is_gone_afterwards(postgres_server: PostgresServer) -> None:
    with fresh_database(postgres_server) as original:
        ask(original, "CREATE TABLE kept AS SELECT 7 AS value")
        name = str(ask(original, "SELECT current_database()"))
        with fresh_database(postgres_server, template=name) as copy, psycopg.connect(copy):
            assert ask(copy, "SELECT value FROM kept") == 7
    databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test_%'"
    assert ask(postgres_server.conninfo, databases) == 0


def test_a_server_of_its_own_can_keep_fsync_on() -> None:
    with running_server(INSTALLED[max(INSTALLED)], durable=True) as server:
        assert ask(server.conninfo, "SHOW fsync") == "on"
    assert not alive(server.pid)
    assert not server.data_dir.exists()


async def test_servers_and_their_files_go_when_the_test_run_is_killed() -> None:
    with run_of_tests() as run:
        assert run.stdout is not None
        pid, data_dir = run.stdout.readline().split()
        guard = parent_of(int(pid))
        run.kill()
    with trio.fail_after(10):
        await gone(guard)
    assert not alive(int(pid))
    assert not files_of(Path(data_dir))


def run_of_tests() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
