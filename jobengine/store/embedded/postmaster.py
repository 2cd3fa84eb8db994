"""One life of a postmaster, from launch to exit, under a guard that outlives the engine.

The guard (`guard.py`) is the postmaster's parent. The engine holds the pipe that keeps both
alive: closing it is how a postmaster is stopped, and a killed engine closes it too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import trio

from jobengine.store.embedded import guard
from jobengine.store.embedded.account import Account
from jobengine.store.embedded.binaries import Binaries
from jobengine.store.embedded.data_directory import SERVER_ENVIRONMENT
from jobengine.store.embedded.errors import EmbeddedServerError

_READY_POLL_S = 0.005
_STOP_GRACE_S = 15.0


@attrs.frozen(kw_only=True)
class Launch:
    """All a guard needs to know. `scratch_dir` is removed once the engine lets go."""

    binaries: Binaries
    account: Account
    cluster: Path
    configuration_path: Path
    log_path: Path
    scratch_dir: Path
    stop_fast_s: float
    stop_immediate_s: float

    def plan(self) -> bytes:
        """The guard's first line: a JSON object."""
        command = [str(self.binaries.postgres), "-D", str(self.cluster)]
        plan = {
            "command": [*command, "-c", f"config_file={self.configuration_path}"],
            "environment": SERVER_ENVIRONMENT,
            "credentials": self.account.credentials,
            "log_path": str(self.log_path),
            "scratch_dir": str(self.scratch_dir),
            "stop_fast_s": self.stop_fast_s,
            "stop_immediate_s": self.stop_immediate_s,
        }
        return json.dumps(plan).encode() + b"\n"


def launch_guard(launch: Launch) -> subprocess.Popen[bytes]:
    """Start a guard; closing its standard input is the order to stop. Blocks for about 2 ms.

    The guard has a session of its own, so a Ctrl-C at the terminal does not reach it.
    """
    program = str(Path(guard.__file__).absolute())
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", program, str(launch.cluster)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise EmbeddedServerError(
            f"the guard of the embedded server cannot be run with {sys.executable!r} "
            f"({error.strerror}): start the engine with an interpreter this user may run"
        ) from error
    assert process.stdin is not None
    try:
        process.stdin.write(launch.plan())
    except BrokenPipeError:
        process.stdin.close()
    return process


def is_ready(cluster: Path, pid: int) -> bool:
    """Whether that postmaster accepts connections, by line 8 of `postmaster.pid`.

    A connection attempt would not tell: it is accepted, then refused, during recovery. Source:
    PostgreSQL, `src/include/utils/pidfile.h`.
    """
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


class Postmaster:
    """A guard and its postmaster. One task at a time may wait on it; `stop` comes last."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._guard = launch_guard(launch)
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._lifeline = self._guard.stdin
        with self._guard.stdout as reports:
            self._reports = trio.lowlevel.FdStream(os.dup(reports.fileno()))
        self._said = b""

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, once the guard has reported it."""
        for line in self._said.split(b"\n")[:-1]:
            if line.startswith(b"started "):
                return int(line.split()[1])
        return None

    @property
    def last_report(self) -> str:
        """The last thing the guard said: `exited <code>`, or why there was no postmaster."""
        return self._said.decode(errors="replace").strip().rpartition("\n")[2]

    async def wait_ready(self) -> bool:
        """Whether it accepts connections; false when it, or its guard, ended before that."""
        while not self._said.endswith(b"\n"):
            if not await self._read():
                break
        while self._guard.poll() is None:
            if self.pid is not None and is_ready(self._launch.cluster, self.pid):
                return True
            await trio.sleep(_READY_POLL_S)
        await self.wait_gone()
        return False

    async def wait_gone(self) -> None:
        """Return once the guard has ended. May be cancelled and called again."""
        while await self._read():
            pass
        await trio.to_thread.run_sync(self._guard.wait)

    async def stop(self) -> None:
        """Fast shutdown, then immediate, then SIGKILL, each bounded. Cancellation is held off."""
        bound_s = self._launch.stop_fast_s + self._launch.stop_immediate_s + _STOP_GRACE_S
        with trio.CancelScope(shield=True):
            self._lifeline.close()
            with trio.move_on_after(bound_s) as patience:
                await self.wait_gone()
            if patience.cancelled_caught:
                self._guard.kill()
                await self.wait_gone()
            await self._reports.aclose()

    async def _read(self) -> bool:
        chunk = await self._reports.receive_some()
        self._said += chunk
        return bool(chunk)
