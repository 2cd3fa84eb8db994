"""Ends server processes that an earlier engine left behind on a cluster, and no others.

I1  A process is proven ours when its working directory is the cluster, its program is a
    `postgres`, and its command line is that of a postmaster of this cluster or of a backend.
    A name alone, or a number found in a file, proves nothing.
I2  The proof is taken while a pidfd is held and the signal goes through the pidfd, so a process
    id that was given to somebody else in between is never signalled.
I3  Postmasters end before backends: a postmaster that is asked takes its backends along.

Linux only, by `/proc`; elsewhere nothing is ever proven, and PostgreSQL's own interlock on the
directory decides.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import attrs
import trio

from jobengine.store.embedded.errors import EmbeddedServerError

_PROC = Path("/proc")
_BACKEND_TITLE = "postgres:"
_KILL_S = 5.0


@attrs.frozen
class ServerProcess:
    pid: int
    postmaster: bool


def server_processes(cluster: Path) -> list[ServerProcess]:
    """The live processes proven to serve the cluster, postmasters first. Blocks about 1 ms."""
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    found = [process for pid in sorted(pids) if (process := _proven(pid, cluster)) is not None]
    return sorted(found, key=lambda process: (not process.postmaster, process.pid))


async def end_leftovers(cluster: Path, *, stop_fast_s: float, stop_immediate_s: float) -> int:
    """End every process of the cluster and return how many there were.

    Bounded by both times and 10 s more. Cancellation leaves the rest for the next call. Raises
    `EmbeddedServerError` when one survives SIGKILL, which only a stuck disk can cause.
    """
    leftovers = server_processes(cluster)
    for process in leftovers:
        fast = signal.SIGINT if process.postmaster else signal.SIGTERM
        await _end(
            process.pid,
            cluster,
            ((fast, stop_fast_s), (signal.SIGQUIT, stop_immediate_s), (signal.SIGKILL, _KILL_S)),
        )
    survivors = server_processes(cluster) if leftovers else []
    if survivors:
        raise EmbeddedServerError(
            f"process {survivors[0].pid} still serves {cluster} after SIGKILL: the disk hangs, "
            "bring it back or restart the machine"
        )
    return len(leftovers)


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove a `postmaster.pid` whose number now belongs to a process that is no PostgreSQL, or
    one that works in another directory, as no server of this cluster does.

    PostgreSQL takes any live process of its account for its predecessor, so after a restart of
    a container, where numbers repeat, it would refuse to start for ever. A number that nobody
    has is left to PostgreSQL, which then also looks for a predecessor's shared memory.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        program = str((_PROC / str(pid) / "exe").readlink())
    except (OSError, ValueError):
        return
    if not _is_postgres(program) or _works_elsewhere(pid, cluster):
        pid_file.unlink(missing_ok=True)


async def _end(pid: int, cluster: Path, steps: tuple[tuple[signal.Signals, float], ...]) -> None:
    with _held(pid) as pidfd:
        if pidfd is None or _proven(pid, cluster) is None:
            return
        for number, seconds in steps:
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                return
            with trio.move_on_after(seconds):
                await trio.lowlevel.wait_readable(pidfd)
                return


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _proven(pid: int, cluster: Path) -> ServerProcess | None:
    entry = _PROC / str(pid)
    try:
        if not (entry / "cwd").samefile(cluster):
            return None
        program = str((entry / "exe").readlink())
        arguments = os.fsdecode((entry / "cmdline").read_bytes()).rstrip("\0").split("\0")
    except OSError:
        return None
    if not _is_postgres(program):
        return None
    if arguments[0].startswith(_BACKEND_TITLE):
        return ServerProcess(pid, postmaster=False)
    if _is_postgres(arguments[0]) and _serves(arguments, cluster):
        return ServerProcess(pid, postmaster=True)
    return None


def _is_postgres(program: str) -> bool:
    return Path(program.removesuffix(" (deleted)")).name in ("postgres", "postmaster")


def _works_elsewhere(pid: int, cluster: Path) -> bool:
    try:
        return not (_PROC / str(pid) / "cwd").samefile(cluster)
    except OSError:
        return False


def _serves(arguments: list[str], cluster: Path) -> bool:
    directories = [value for option, value in pairwise(arguments) if option == "-D"]
    return any(Path(value).resolve() == cluster.resolve() for value in directories)
