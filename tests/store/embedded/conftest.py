"""A data directory that an unprivileged server can reach, and engines in processes of their own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from jobengine.store.embedded import Binaries, EmbeddedSettings
from tests.postgres_server import (
    database,
    fast_directory,
    initialised_cluster,
    installed_binaries,
    postgres_server,
)

__all__ = ["database", "postgres_server"]

REPOSITORY = Path(__file__).parents[3]
INSTALLED = installed_binaries()


@attrs.frozen
class EngineProcess:
    """A child process that runs an `EmbeddedServer` until it is killed."""

    process: subprocess.Popen[str]
    conninfo: str
    postmaster: int
    guard: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(params=[15, 18], ids=lambda major: f"postgresql{major}")
def binaries(request: pytest.FixtureRequest) -> Binaries:
    if request.param not in INSTALLED:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    return INSTALLED[request.param]


@pytest.fixture
def newest() -> Binaries:
    """One major is enough where PostgreSQL itself is not what is tested."""
    return INSTALLED[max(INSTALLED)]


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Like `tmp_path`, but another account may pass through it."""
    with passable_directory(None) as path:
        yield path


@pytest.fixture
def fast_dir() -> Iterator[Path]:
    """Like `open_dir`, in memory where possible; no program can be run from there."""
    with passable_directory(fast_directory()) as path:
        yield path


@pytest.fixture
def settings(newest: Binaries) -> EmbeddedSettings:
    return EmbeddedSettings(bin_dir=newest.bin_dir, stop_fast_s=10)


@pytest.fixture
def data_dir(fast_dir: Path, newest: Binaries) -> Path:
    """An initialised data directory of the newest major."""
    return initialised_data_dir(fast_dir / "data", newest)


@pytest.fixture
def start_engine(settings: EmbeddedSettings) -> Iterator[Callable[..., EngineProcess]]:
    """Start an engine process on a data directory; all of them are ended after the test."""
    engines: list[EngineProcess] = []

    def start(data_dir: Path, *, user: str | None = None) -> EngineProcess:
        process = engine_process(data_dir, settings, user)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the engine process ended with code {process.wait(10)}"
        engines.append(EngineProcess(process, **json.loads(line)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.kill()
        assert engine.process.stdout is not None
        engine.process.stdout.close()
        with suppress(TimeoutError):
            trio.run(gone, engine.postmaster)


@contextmanager
def passable_directory(parent: Path | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="jobengine-test-", dir=parent))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def engine_process(
    data_dir: Path, settings: EmbeddedSettings, user: str | None = None
) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.store.embedded.engine_process"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    if user is not None:
        program[0] = reachable_python(user)
    return subprocess.Popen(
        [*program, str(data_dir), str(settings.bin_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        user=user,
        extra_groups=[] if user else None,
    )


def python_path() -> str:
    """What makes the tests importable in a process of its own, wherever it runs."""
    return os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])


def reachable_python(user: str) -> str:
    """An interpreter of this version that the user may run; ours may lie in a closed home."""
    version = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with suppress(OSError):
            subprocess.run([candidate, "-c", ""], check=True, cwd="/", user=user, extra_groups=[])
            return candidate
    raise AssertionError(f"no {version} that {user} may run")


def initialised_data_dir(path: Path, binaries: Binaries) -> Path:
    path.mkdir(mode=0o755)
    subprocess.run(
        ["cp", "-a", str(initialised_cluster(binaries)), str(path / "cluster")], check=True
    )
    return path


def ask(conninfo: str, statement: str) -> object:
    """Run one statement and commit; the first column of the first row, where it has any."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


async def eventually(holds: Callable[[], bool], within_s: float = 20) -> None:
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110 - the change comes from another process
            await trio.sleep(0.01)


async def gone(pid: int) -> None:
    """Return when the process has ended, reaped or not."""
    await eventually(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def user_of(pid: int) -> str:
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


def files_of(path: Path) -> set[str]:
    """The names in a directory, none where there is no directory."""
    return {entry.name for entry in path.iterdir()} if path.exists() else set()


def socket_dir_of(conninfo: str) -> Path:
    return Path(str(conninfo_to_dict(conninfo)["host"]))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
