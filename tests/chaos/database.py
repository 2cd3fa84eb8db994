"""PostgreSQL servers that are harmed: killed, frozen, stopped in order, and started again.

A server of a test runs under the guard of the embedded one, so it ends when pytest is killed. Its
commits are durable against the death of its processes, which is what is tried here.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.account import server_account
from jobengine.store.embedded.configuration import DATABASE, PORT, ROLE
from jobengine.store.embedded.data_directory import DataDirectory
from jobengine.store.embedded.leftovers import server_processes
from jobengine.store.embedded.postmaster import Launch, is_ready, launch_guard
from jobengine.store.embedded.settings import EmbeddedSettings
from jobengine.store.embedded.socket_directory import private_socket_directory
from tests.end_to_end.processes import wait_for
from tests.postgres_server import fast_directory, initialised_cluster, installed_binaries

__all__ = ["Database", "conninfo_of", "frozen", "open_database", "postmaster_of"]

START_S: Final = 60.0
STOP_S: Final = 60.0
_AGAIN_S: Final = 0.05


@attrs.define(eq=False)
class Database:
    """`conninfo` is its maintenance database, as superuser, by its socket, which never moves."""

    launch: Launch
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        return make_conninfo(
            host=str(self.launch.scratch_dir), port=PORT, user=ROLE, dbname=DATABASE
        )

    @property
    def socket(self) -> Path:
        return self.launch.scratch_dir / f".s.PGSQL.{PORT}"

    def start(self) -> None:
        """Until it takes connections. What a killed server left in memory is waited for."""
        until = time.monotonic() + START_S
        while not self._started(until):
            assert time.monotonic() < until, self.launch.log_path.read_text()[-2000:]
            time.sleep(_AGAIN_S)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Signal the postmaster, in order by default, and wait until no process of it is left."""
        os.kill(postmaster_of(self.launch.cluster), number)
        self._dismiss_guard()
        cluster = self.launch.cluster
        wait_for(lambda: not server_processes(cluster), STOP_S, "the end of its processes")

    def execute(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def end(self) -> None:
        """Stop it whatever its state is; the guard does, and SIGKILL where it has to."""
        _signal_all(self.launch.cluster, signal.SIGCONT)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._dismiss_guard()

    def _started(self, until: float) -> bool:
        guard = self._guard = launch_guard(self.launch)
        assert guard.stdout is not None
        word, _, rest = guard.stdout.readline().decode().partition(" ")
        assert word == "started", rest
        while time.monotonic() < until and guard.poll() is None:
            if is_ready(self.launch.cluster, int(rest)):
                return True
            time.sleep(0.005)
        self._dismiss_guard()
        return False

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.wait(STOP_S)
            for pipe in (guard.stdin, guard.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def open_database(*, connections_max: int = 60) -> Iterator[Database]:
    """A server of the newest major that is installed, running, for the block."""
    binaries = max(installed_binaries().items())[1]
    account = server_account(Path("/nonexistent"), Path("/nonexistent"), None)
    settings = EmbeddedSettings(connections_max=connections_max, stop_fast_s=10)
    with private_socket_directory(fast_directory(), account) as scratch:
        directory = DataDirectory(scratch, account)
        template = initialised_cluster(binaries)
        subprocess.run(["cp", "-a", str(template), str(directory.cluster)], check=True)
        directory.write_configuration(settings, scratch)
        directory.open_log(settings.log_bytes_max)
        launch = Launch(
            binaries=binaries,
            account=account,
            cluster=directory.cluster,
            configuration_path=directory.configuration_path,
            log_path=directory.log_path,
            scratch_dir=directory.path,
            stop_fast_s=settings.stop_fast_s,
            stop_immediate_s=settings.stop_immediate_s,
        )
        database = Database(launch)
        try:
            database.start()
            yield database
        finally:
            database.end()


def postmaster_of(cluster: Path) -> int:
    """The process id of the server of a cluster, which has to be there."""
    return int((cluster / "postmaster.pid").read_text().splitlines()[0])


def conninfo_of(cluster: Path) -> str:
    """How to reach the server that an engine runs itself."""
    lines = (cluster / "postmaster.pid").read_text().splitlines()
    return make_conninfo(host=lines[4], port=int(lines[3]), user=ROLE, dbname=DATABASE)


@contextmanager
def frozen(cluster: Path) -> Iterator[None]:
    """No process of this cluster's server runs during the block (SIGSTOP)."""
    try:
        # The postmaster comes first, so the second look finds what it forked meanwhile.
        for _ in range(2):
            _signal_all(cluster, signal.SIGSTOP)
        yield
    finally:
        _signal_all(cluster, signal.SIGCONT)


def _signal_all(cluster: Path, number: signal.Signals) -> None:
    for process in server_processes(cluster):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
