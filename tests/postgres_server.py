"""Real PostgreSQL servers for tests: one per installed major and session, a database per test.

Make the fixtures known in a `conftest.py`:

    from tests.postgres_server import database, postgres_server

then ask for one of them. Both run a test once per major (15 is the floor, 18 the ceiling):

    async def test_a_job_is_found_again(database: str) -> None:
        connection = await connect(database)      # an empty database, of this test alone

    def test_a_server_setting(postgres_server: PostgresServer) -> None:
        with fresh_database(postgres_server, template="migrated") as conninfo: ...

Without fixtures: `with running_server(find_binaries()) as server:` and `fresh_database(server)`.
`running_server(binaries, durable=True)` keeps fsync on, for tests of durability; it also gives a
test a server that it may kill (`server.pid`). A database costs 15-40 ms, a server 100 ms.

The servers run under the same guard as the embedded one, so they end, and their files go, when
pytest is killed. Initialised clusters are cached between sessions in the temporary directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path

import attrs
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.account import Account, server_account
from jobengine.store.embedded.binaries import (
    Binaries,
    find_binaries,
    system_bin_dirs,
    wheel_bin_dir,
)
from jobengine.store.embedded.configuration import DATABASE, PORT, ROLE
from jobengine.store.embedded.data_directory import (
    DataDirectory,
    initdb_command,
    locked_data_directory,
)
from jobengine.store.embedded.errors import diagnose
from jobengine.store.embedded.postmaster import Launch, is_ready, launch_guard
from jobengine.store.embedded.settings import EmbeddedSettings
from jobengine.store.embedded.socket_directory import private_socket_directory

_FLOOR_AND_CEILING = (15, 18)
_MEMORY = Path("/dev/shm")
_MEMORY_FREE_MIN = 2 << 30
_START_S_MAX = 60.0
_STOP_S_MAX = 30.0


@attrs.frozen
class PostgresServer:
    """A running server. `conninfo` is its maintenance database, as superuser, by socket."""

    binaries: Binaries
    conninfo: str
    pid: int
    data_dir: Path
    _admin: psycopg.Connection[tuple[object, ...]]
    _numbers: Iterator[int]

    @property
    def major(self) -> int:
        return self.binaries.major


def installed_binaries() -> dict[int, Binaries]:
    """Usable servers by major, ascending; the wheel goes before the system."""
    bin_dirs = [*system_bin_dirs(), *filter(None, [wheel_bin_dir()])]
    found = [find_binaries(path) for path in bin_dirs]
    return {each.major: each for each in sorted(found, key=lambda each: each.major)}


@contextmanager
def running_server(binaries: Binaries, *, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server of its own for the block. Without `durable` its files are in memory."""
    account = server_account(Path("/nonexistent"), Path("/nonexistent"), None)
    template = initialised_cluster(binaries)
    settings = EmbeddedSettings(durable=durable, connections_max=100, stop_fast_s=10)
    parent = None if durable else fast_directory()
    with private_socket_directory(parent, account) as scratch:
        directory = DataDirectory(scratch, account)
        subprocess.run(["cp", "-a", str(template), str(directory.cluster)], check=True)
        directory.write_configuration(settings, scratch)
        directory.open_log(settings.log_bytes_max)
        conninfo = make_conninfo(host=str(scratch), port=PORT, user=ROLE, dbname=DATABASE)
        with (
            _guarded(_launch(binaries, account, directory, settings), directory) as pid,
            closing(psycopg.connect(conninfo, autocommit=True)) as admin,
        ):
            yield PostgresServer(binaries, conninfo, pid, scratch, admin, count(1))


@contextmanager
def fresh_database(server: PostgresServer, *, template: str = "template0") -> Iterator[str]:
    """The conninfo of a new database, which is dropped with its connections after the block.

    `template` names a database of that server to copy, one without open connections.
    """
    name = sql.Identifier(label := f"test_{next(server._numbers)}")
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    server._admin.execute(create.format(name, sql.Identifier(template)))
    try:
        yield make_conninfo(server.conninfo, dbname=label)
    finally:
        if not server._admin.closed:
            server._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def fast_directory() -> Path | None:
    """A file system in memory with room for some servers, where there is one."""
    usable = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_FREE_MIN
    return _MEMORY if usable else None


_INSTALLED = installed_binaries()
_MAJORS = sorted({*_FLOOR_AND_CEILING, *_INSTALLED})


@pytest.fixture(scope="session", params=_MAJORS, ids=lambda major: f"postgresql{major}")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    if request.param not in _INSTALLED:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    with running_server(_INSTALLED[request.param]) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server) as conninfo:
        yield conninfo


def _launch(
    binaries: Binaries, account: Account, directory: DataDirectory, settings: EmbeddedSettings
) -> Launch:
    return Launch(
        binaries=binaries,
        account=account,
        cluster=directory.cluster,
        configuration_path=directory.configuration_path,
        log_path=directory.log_path,
        scratch_dir=directory.path,
        stop_fast_s=settings.stop_fast_s,
        stop_immediate_s=settings.stop_immediate_s,
    )


@contextmanager
def _guarded(launch: Launch, directory: DataDirectory) -> Iterator[int]:
    guard = launch_guard(launch)
    assert guard.stdin is not None
    assert guard.stdout is not None
    with guard.stdin, guard.stdout:
        word, _, rest = guard.stdout.readline().decode().partition(" ")
        try:
            pid = int(rest) if word == "started" else 0
            deadline = time.monotonic() + _START_S_MAX
            while not is_ready(launch.cluster, pid):
                if guard.poll() is not None or time.monotonic() > deadline:
                    log = directory.log_since(0)
                    raise diagnose(log, directory.path).error(log)
                time.sleep(0.005)
            yield pid
        finally:
            guard.stdin.close()
            guard.wait(_STOP_S_MAX)


def initialised_cluster(binaries: Binaries) -> Path:
    """A cluster that was never started, from the cache or made now; safe against a race."""
    command = " ".join(initdb_command(binaries, Path("cluster")))
    key = sha256(f"{command} {binaries.version} {os.geteuid()}".encode()).hexdigest()[:16]
    cached = Path(tempfile.gettempdir()) / f"jobengine-cluster-{binaries.major}-{key}"
    if _trusted(cached):
        return cached / "cluster"
    making = Path(tempfile.mkdtemp(prefix="jobengine-cluster-", dir=cached.parent))
    making.chmod(0o711)
    try:
        settings = EmbeddedSettings(durable=False)
        with locked_data_directory(making, settings) as directory:
            directory.prepare(binaries, settings)
        making.rename(cached)
    except OSError:
        if not _trusted(cached):
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return cached / "cluster"


def _trusted(cached: Path) -> bool:
    return (
        not cached.is_symlink()
        and (cached / "cluster" / "PG_VERSION").exists()
        and cached.stat().st_uid == os.geteuid()
    )
