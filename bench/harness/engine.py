"""The engine under test, as its users start it: ``jobengine up`` in a directory of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from os import environ
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from bench.harness.children import start_child, stop_child, wait_gone
from bench.harness.errors import EngineStartFailedError

__all__ = ["EngineProcess", "start_engine"]

_START_S_MAX: Final = 120.0
_LOG_LINES_SHOWN: Final = 20
_ANY_PORT: Final = "127.0.0.1:0"


@attrs.frozen
class EngineProcess:
    """An engine that serves. `settings` are the environment it was given on top of ours."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    database_url: str | None
    settings: Mapping[str, str]
    http_url: str
    worker_url: str
    token: str
    tenant: str

    @property
    def pid(self) -> int:
        return self.process.pid

    async def stop(self) -> None:
        """Stop it in order."""
        await stop_child(self.process)

    async def kill(self) -> None:
        """End it without a warning, as a crash would."""
        with trio.CancelScope(shield=True):
            self.process.kill()
            await wait_gone(self.process)

    async def start_again(self) -> "EngineProcess":
        """The engine over the same data and at the same addresses."""
        return await start_engine(
            self.data_dir,
            database_url=self.database_url,
            settings=self.settings,
            http=urlsplit(self.http_url).netloc,
            worker=urlsplit(self.worker_url).netloc,
        )


async def start_engine(
    data_dir: Path,
    *,
    database_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    http: str = _ANY_PORT,
    worker: str = _ANY_PORT,
) -> EngineProcess:
    """Start an engine and wait until it serves. Its log is `engine.log` beside the data.

    Settings of the surrounding environment do not reach it. Raises `EngineStartFailedError`.
    """
    settings = dict(settings or {})
    log_path = data_dir.parent / "engine.log"
    command = [
        *(sys.executable, "-m", "jobengine", "up", "--output", "json", "--log-level", "warning"),
        *("--data", str(data_dir), "--http", http, "--worker", worker),
        *(() if database_url is None else ("--database-url", database_url)),
    ]
    with log_path.open("ab") as log:
        process = start_child(command, environ=_environment(settings), stderr=log)
    try:
        with trio.fail_after(_START_S_MAX):
            said = await _first_line(process)
    except BaseException:
        await stop_child(process)
        raise
    if said is None:
        await stop_child(process)
        end = log_path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise EngineStartFailedError("\n".join(["the engine did not start", *end]))
    return EngineProcess(
        process=process,
        data_dir=data_dir,
        database_url=database_url,
        settings=settings,
        http_url=said["http"],
        worker_url=said["worker"],
        token=said["token"],
        tenant=said["tenant"],
    )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in environ.items() if not name.startswith("JOBENGINE_")}
    return ours | {f"JOBENGINE_{name.upper()}": value for name, value in settings.items()}


async def _first_line(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        await trio.lowlevel.wait_readable(process.stdout)
        read = process.stdout.read1(65_536)  # type: ignore[attr-defined]
        if not read:
            return None
        line += read
    said: dict[str, Any] = json.loads(line)
    return said
