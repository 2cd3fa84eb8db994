"""The processes of the demo: the engine and the workers, real ones, started and ended here.

Invariant:
    I1  A process started here has ended when its `with` block is left: terminated, and after
        `STOP_S` seconds killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import msgspec

START_S = 60.0
STOP_S = 20.0
LOG_LINES = 15


class ProcessFailedError(RuntimeError):
    """A process ended or stayed silent when it should be serving; the text ends with its log."""


class EngineAddress(msgspec.Struct, frozen=True):
    """What `jobengine up --output json` prints when it serves."""

    http: str
    worker: str
    console: str
    token: str
    tenant: str


@attrs.frozen
class Process:
    """A running child with its log file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """False as soon as it has ended, whatever the reason."""
        return self.popen.poll() is None

    def freeze(self) -> None:
        """SIGSTOP: it does nothing more until `thaw` or `kill`."""
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def failure(self, what: str) -> ProcessFailedError:
        """An error that says what is wrong with it, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return ProcessFailedError(
            "\n".join([f"{self.name} {what}; the end of {self.log}:", *lines])
        )


@contextmanager
def engine(data_dir: Path, logs: Path) -> Iterator[tuple[Process, EngineAddress]]:
    """An engine with its embedded database on free ports. Raises `ProcessFailedError`."""
    arguments = ["up", "--output", "json", "--data", str(data_dir)]
    arguments += ["--http", "127.0.0.1:0", "--worker", "127.0.0.1:0"]
    announced = logs / "engine.json"
    with _process("engine", arguments, {}, logs, announced) as process:
        yield process, _announcement(process, announced)


@contextmanager
def worker(
    name: str, target: str, address: EngineAddress, environ: Mapping[str, str], logs: Path
) -> Iterator[Process]:
    """A worker process that runs `target` (`module:attribute`)."""
    environ = {
        "JOBENGINE_WORKER_URL": address.worker,
        "JOBENGINE_TOKEN": address.token,
        "JOBENGINE_TENANT": address.tenant,
        **environ,
    }
    with _process(name, ["worker", "run", target], environ, logs, logs / f"{name}.out") as process:
        yield process


@contextmanager
def _process(
    name: str, arguments: Sequence[str], environ: Mapping[str, str], logs: Path, output: Path
) -> Iterator[Process]:
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    with output.open("wb") as out, log.open("wb") as err:
        popen = subprocess.Popen(
            [sys.executable, "-m", "jobengine", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    try:
        yield Process(name=name, popen=popen, log=log)
    finally:
        _stop(popen)


def _stop(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _announcement(process: Process, announced: Path) -> EngineAddress:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        line, ended, _ = announced.read_text().partition("\n")
        if ended:
            return msgspec.convert(json.loads(line), EngineAddress)
        if not process.running:
            raise process.failure(f"ended with {process.popen.returncode}")
        time.sleep(0.05)
    raise process.failure(f"did not serve within {START_S:.0f} s")
