"""The embedded server as the engine sees it: up for as long as the block, whatever happens.

I1  Inside the block `conninfo` never changes; a restarted server answers at the same socket.
I2  A dead postmaster is restarted with backoff. `restarts_max` within `restart_window_s` is the
    intensity limit; past it the block is cancelled and `EmbeddedServerError` raised.
I3  No postmaster is started while a process of an earlier one lives on the cluster.
I4  After the block, and after a SIGKILL of this process, no server process is left (`guard.py`).

Deliberately not here: connections, roles, schema. Clients reconnect by themselves.
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
import trio
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.binaries import Binaries, find_binaries
from jobengine.store.embedded.configuration import DATABASE, ROLE, socket_port
from jobengine.store.embedded.data_directory import DataDirectory, locked_data_directory
from jobengine.store.embedded.errors import (
    Diagnosis,
    EmbeddedServerError,
    diagnose,
    last_progress,
)
from jobengine.store.embedded.leftovers import end_leftovers, remove_stale_pid_file
from jobengine.store.embedded.postmaster import Launch, Postmaster
from jobengine.store.embedded.settings import EmbeddedSettings
from jobengine.store.embedded.socket_directory import private_socket_directory

_RETRY_S = (0.05, 2.0)
_RESTART_S = (0.1, 10.0)
_LOG_CHECK_S = 600.0


class EmbeddedServer:
    """`async with EmbeddedServer(data_dir) as server:` gives a server that accepts connections.

    Entering raises `EmbeddedServerError` alone; what is raised inside the block, or by the
    supervision, leaves it in an exception group, as from any nursery. Entering takes 50 ms,
    1 s for a new cluster, after a crash as long as recovery, and may be cancelled; leaving is
    bounded by the stop times and holds cancellation off. An instance serves one block.
    """

    def __init__(self, data_dir: Path, settings: EmbeddedSettings | None = None) -> None:
        self._data_dir = data_dir
        self._settings = settings or EmbeddedSettings()
        self._stack = AsyncExitStack()
        self._socket_dir: Path | None = None
        self._postmaster: Postmaster | None = None
        self._restarts = 0
        self._log = structlog.get_logger(__name__).bind(data_dir=str(data_dir))

    @property
    def conninfo(self) -> str:
        """How libpq reaches the server, by its socket, as its superuser; holds no secret."""
        if self._socket_dir is None:
            raise RuntimeError("the embedded server has not been started")
        port = socket_port(self._settings)
        return make_conninfo(host=str(self._socket_dir), port=port, user=ROLE, dbname=DATABASE)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; `None` while there is none."""
        return self._postmaster.pid if self._postmaster is not None else None

    @property
    def restarts(self) -> int:
        """How often a dead postmaster has been replaced in this block."""
        return self._restarts

    async def __aenter__(self) -> Self:
        with _faults_told(self._data_dir):
            await self._stack.enter_async_context(self._running())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        settings = self._settings
        binaries = await trio.to_thread.run_sync(find_binaries, settings.bin_dir)
        with locked_data_directory(self._data_dir, settings) as directory:
            await trio.to_thread.run_sync(directory.prepare, binaries, settings)
            with private_socket_directory(settings.runtime_dir, directory.account) as socket_dir:
                self._socket_dir = socket_dir
                try:
                    self._postmaster = await self._start(directory, binaries, socket_dir)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._supervise, directory, binaries, socket_dir)
                        yield
                        nursery.cancel_scope.cancel()
                finally:
                    await self._stop(directory)

    async def _supervise(
        self, directory: DataDirectory, binaries: Binaries, socket_dir: Path
    ) -> None:
        failures: deque[float] = deque()
        cause: EmbeddedServerError | None = None
        while True:
            if self._postmaster is not None:
                await self._wait_gone(self._postmaster, directory)
                await self._postmaster.stop()
                self._log.warning("embedded_server_died", report=self._postmaster.last_report)
                self._postmaster = None
            failures.append(trio.current_time())
            while failures[0] <= failures[-1] - self._settings.restart_window_s:
                failures.popleft()
            if len(failures) > self._settings.restarts_max:
                raise self._intensity_error(len(failures), directory) from cause
            await trio.sleep(_backoff_s(_RESTART_S, len(failures)))
            try:
                with _faults_told(directory.path):
                    self._postmaster = await self._start(directory, binaries, socket_dir)
            except EmbeddedServerError as error:
                cause = error
                self._log.warning("embedded_server_start_failed", reason=str(error))
            else:
                self._restarts += 1
                self._log.info("embedded_server_restarted", pid=self.pid)

    async def _wait_gone(self, postmaster: Postmaster, directory: DataDirectory) -> None:
        while True:
            with trio.move_on_after(_LOG_CHECK_S):
                await postmaster.wait_gone()
                return
            try:
                directory.open_log(self._settings.log_bytes_max)
            except EmbeddedServerError as error:
                self._log.warning("embedded_server_log_not_shortened", reason=str(error))

    async def _start(
        self, directory: DataDirectory, binaries: Binaries, socket_dir: Path
    ) -> Postmaster:
        deadline = trio.current_time() + self._settings.start_s_max
        launch = self._launch(directory, binaries, socket_dir)
        attempts = 0
        while True:
            await self._end_leftovers(directory)
            remove_stale_pid_file(directory.cluster)
            directory.write_configuration(self._settings, socket_dir)
            log_offset = directory.open_log(self._settings.log_bytes_max)
            postmaster = Postmaster(launch)
            ready: bool | None = False
            try:
                ready = await self._wait_ready(postmaster, directory, deadline)
            finally:
                if not ready:
                    await postmaster.stop()
            if ready:
                return postmaster
            attempts += 1
            log = directory.log_since(log_offset)
            pause_s = _backoff_s(_RETRY_S, attempts)
            diagnosis = self._diagnosis(log, postmaster, directory, late=ready is None)
            if not diagnosis.transient or trio.current_time() + pause_s > deadline:
                raise diagnosis.error(log)
            await trio.sleep(pause_s)

    async def _wait_ready(
        self, postmaster: Postmaster, directory: DataDirectory, deadline: float
    ) -> bool | None:
        """As `Postmaster.wait_ready`; `None` when the time is up and recovery makes no progress."""
        while True:
            seen = directory.log_size()
            with trio.move_on_at(deadline):
                return await postmaster.wait_ready()
            progress = last_progress(directory.log_since(seen))
            if progress is None:
                return None
            self._log.info("embedded_server_recovers", progress=progress)
            deadline = trio.current_time() + self._settings.start_s_max

    def _launch(self, directory: DataDirectory, binaries: Binaries, socket_dir: Path) -> Launch:
        return Launch(
            binaries=binaries,
            account=directory.account,
            cluster=directory.cluster,
            configuration_path=directory.configuration_path,
            log_path=directory.log_path,
            scratch_dir=socket_dir,
            stop_fast_s=self._settings.stop_fast_s,
            stop_immediate_s=self._settings.stop_immediate_s,
        )

    def _diagnosis(
        self, log: list[str], postmaster: Postmaster, directory: DataDirectory, *, late: bool
    ) -> Diagnosis:
        if late:
            return Diagnosis(
                f"the embedded server of {directory.path} accepted no connection within "
                f"{self._settings.start_s_max:g} s, nor told of progress: look for what holds its "
                "disk up, or raise embedded_start_s_max",
                transient=False,
            )
        return diagnose(log or [postmaster.last_report], directory.path)

    def _intensity_error(self, failures: int, directory: DataDirectory) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded server of {directory.path} failed {failures} times within "
            f"{self._settings.restart_window_s:g} s and is given up: see {directory.log_path}"
        )

    async def _end_leftovers(self, directory: DataDirectory) -> None:
        ended = await end_leftovers(
            directory.cluster,
            stop_fast_s=self._settings.stop_fast_s,
            stop_immediate_s=self._settings.stop_immediate_s,
        )
        if ended:
            self._log.warning("embedded_server_leftovers_ended", processes=ended)

    async def _stop(self, directory: DataDirectory) -> None:
        with trio.CancelScope(shield=True):
            if self._postmaster is not None:
                await self._postmaster.stop()
                self._postmaster = None
            await self._end_leftovers(directory)


@contextmanager
def _faults_told(data_dir: Path) -> Iterator[None]:
    """What the system refuses, and no narrower place has explained, is told as our one error."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(
            f"the embedded server of {data_dir} cannot be run here ({error}): let the engine's "
            "user do that, or use --database-url"
        ) from error


def _backoff_s(bounds: tuple[float, float], attempt: int) -> float:
    shortest, longest = bounds
    return min(shortest * 2.0 ** (attempt - 1), longest)
