"""Files of the repository that are made from code, and their verify twin.

    python -m tools.generate            write the files that differ
    python -m tools.generate --check    write nothing; exit 1 and name the files that differ

A generator is a function without arguments that returns the whole file as text. It draws on code
and constants only (no clock, no environment), so that the same commit always gives the same bytes.
To add one, add a line to `GENERATORS`: `make generate` and `make check` take it from there.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobengine.http.published import published_text
from jobengine.wire import asyncapi, event_schema
from tools import events, lifecycle, reference

ROOT = Path(__file__).resolve().parent.parent

GENERATORS: Mapping[str, Callable[[], str]] = {
    "docs/events.md": events.page,
    "docs/lifecycle.md": lifecycle.page,
    "docs/openapi.json": published_text,
    "docs/reference.html": reference.page,
    "jobengine/wire/asyncapi.json": asyncapi.generate,
    f"jobengine/wire/{event_schema.SCHEMA_NAME}": event_schema.generate,
}


def differing(generators: Mapping[str, Callable[[], str]], root: Path) -> dict[Path, str]:
    """The files below `root` whose bytes are not what their generator returns, with that text."""
    found = {}
    for name, generator in generators.items():
        path, text = root / name, generator()
        if not path.is_file() or path.read_bytes() != text.encode():
            found[path] = text
    return found


def main(
    arguments: Sequence[str] | None = None,
    *,
    generators: Mapping[str, Callable[[], str]] = GENERATORS,
    root: Path = ROOT,
) -> int:
    """Exit code: 0 when every file is (now) as generated, 1 when a check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate")
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    check = parser.parse_args(arguments).check
    stale = differing(generators, root)
    for path, text in stale.items():
        name = path.relative_to(root)
        if check:
            print(f"{name} differs from its generator; run: make generate", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
