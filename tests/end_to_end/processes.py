"""Engines and workers as an operator runs them: `python -m jobengine …` in processes of their own.

Whatever a test does, the processes started here have ended when its block is left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobengine.sdk import Client
from tests.postgres_server import fast_directory

REPOSITORY = Path(__file__).parents[2]
START_S = 120.0
STOP_S = 60.0
PATIENCE_S = 60.0
"""How long anything else may take before it is held for lost, on the slowest of machines."""
LOOPBACK = ("--http", "127.0.0.1:0", "--worker", "127.0.0.1:0")


@attrs.frozen
class Running:
    """A child process and the files with what it says on stdout and stderr."""

    popen: subprocess.Popen[bytes]
    stdout: Path
    log: Path

    def announcement(self) -> dict[str, str]:
        """The line of JSON that an engine prints when it serves, once it has."""
        said = wait_for(self._first_line, START_S, "the engine's first line")
        document: dict[str, str] = json.loads(said)
        return document

    def _first_line(self) -> str:
        line, ended, _ = self.stdout.read_text().partition("\n")
        if not ended and self.popen.poll() is not None:
            raise AssertionError(f"{self.popen.args!r} ended: {self.log.read_text()[-2000:]}")
        return line if ended else ""

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self.popen.kill()
        self.popen.wait(STOP_S)

    def terminate(self) -> int:
        """SIGTERM; answers the exit code, and fails when it takes longer than is promised."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(STOP_S)


@attrs.frozen
class RunningEngine(Running):
    """`jobengine up`, serving; the fields are those that it announced."""

    http: str
    worker: str
    console: str
    token: str
    tenant: str

    @property
    def environ(self) -> dict[str, str]:
        """What a shell next to it would export."""
        return {
            "JOBENGINE_URL": self.http,
            "JOBENGINE_WORKER_URL": self.worker,
            "JOBENGINE_TOKEN": self.token,
            "JOBENGINE_TENANT": self.tenant,
        }

    def client(self) -> Client:
        return Client(self.http, token=self.token, tenant=self.tenant)


@attrs.define
class Stage:
    """Where one test runs its processes; `directory` can be entered by the database's account."""

    directory: Path
    stack: ExitStack
    _started: int = 0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def engine(self, *flags: str, data: Path | None = None) -> RunningEngine:
        """An engine that serves; on free ports of loopback unless `flags` name others."""
        arguments = ["up", "--output", "json", "--data", str(data or self.data)]
        running = self.start(*arguments, *(flags or LOOPBACK))
        announced = running.announcement()
        return RunningEngine(
            popen=running.popen, log=running.log, stdout=running.stdout, **announced
        )

    def worker(self, engine: RunningEngine, target: str, **environ: str) -> Running:
        """A worker of `tests.end_to_end.tasks`."""
        return self.start("worker", "run", target, environ={**engine.environ, **environ})

    def run(
        self, *arguments: str, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "jobengine", *arguments],
            env=_environ(environ or {}),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> Running:
        """One command, in the background."""
        self._started += 1
        out = self.directory / f"{self._started}.out"
        log = self.directory / f"{self._started}.log"
        with out.open("wb") as stdout, log.open("wb") as stderr:
            popen = subprocess.Popen(
                [sys.executable, "-m", "jobengine", *arguments],
                env=_environ(environ or {}),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                # Of a suite that a shell runs in the background, Ctrl-C would be ignored.
                preexec_fn=_hear_interrupts,  # noqa: PLW1509 - a single system call
            )
        self.stack.callback(_end, popen)
        return Running(popen=popen, stdout=out, log=log)


@contextmanager
def open_stage() -> Iterator[Stage]:
    """A stage for the block, in a directory that goes with it."""
    with ExitStack() as stack:
        yield Stage(stack.enter_context(_open_directory()), stack)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage() as opened:
        yield opened


@contextmanager
def _open_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="jobengine-e2e-", dir=fast_directory()))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_for(look: Callable[[], Any], within_s: float, what: str) -> Any:
    """What `look` finds, once it finds something; processes of their own cannot be waited on."""
    until = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come within {within_s} s")
        time.sleep(0.02)
    return found


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environ(more: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("JOBENGINE_")}
    return {**own, **more}


def _end(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
