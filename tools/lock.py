"""The two lock files: every package with its exact version and hashes, for all platforms at once.

    python -m tools.lock              write them, keeping the pins that still satisfy pyproject.toml
    python -m tools.lock --upgrade    write them with the newest versions allowed
    python -m tools.lock --check      exit 1 if they were made from other inputs; asks no network

`requirements.lock` holds all extras. `requirements-run.lock` holds what running the engine and its
demo takes, at the same versions: what an installation wants and what `make demo` installs.

The first line of each file carries a digest of the inputs. A check that solved again would fail
offline and whenever somebody publishes a release; the digest fails exactly when the declared
dependencies have changed and the locks have not.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALL_LOCK = "requirements.lock"
RUN_LOCK = "requirements-run.lock"
RUN_EXTRAS = ("build", "demo", "embedded")


def inputs_digest(pyproject: Path) -> str:
    """Changes with whatever the solver reads from `pyproject`, not with the rest of the file."""
    project = tomllib.loads(pyproject.read_text())["project"]
    inputs = {
        "requires-python": project["requires-python"],
        "dependencies": project["dependencies"],
        "optional-dependencies": project["optional-dependencies"],
        "run-extras": RUN_EXTRAS,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def first_line(digest: str) -> str:
    return f"# Made by `make lock`; inputs sha256:{digest}\n"


def compile_lock(root: Path, name: str, options: Sequence[str]) -> None:
    """Solve into `name`; the packages already in the file are what the solver prefers."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += [*options, "pyproject.toml", "-o", name]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    path = root / name
    path.write_text(first_line(inputs_digest(root / "pyproject.toml")) + path.read_text())


def stale_locks(root: Path) -> list[str]:
    """The lock files that are absent or were made from other inputs."""
    expected = first_line(inputs_digest(root / "pyproject.toml"))
    return [
        name
        for name in (ALL_LOCK, RUN_LOCK)
        if not (root / name).is_file() or not (root / name).read_text().startswith(expected)
    ]


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Exit code: 0 when both files are (now) made from pyproject.toml, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    action.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_locks(root)
        for name in stale:
            print(f"{name} was not made from this pyproject.toml; run: make lock", file=sys.stderr)
        return 1 if stale else 0
    try:
        compile_lock(root, ALL_LOCK, ["--all-extras", *(["--upgrade"] if options.upgrade else [])])
        run_extras = [part for extra in RUN_EXTRAS for part in ("--extra", extra)]
        compile_lock(root, RUN_LOCK, [*run_extras, "--constraint", ALL_LOCK])
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
