"""The processes below a benchmark that was started as one, looked at from outside."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

__all__ = ["alive", "below", "in_full_swing", "until"]

T = TypeVar("T")
_POLL_S = 0.05


def below(root: int) -> dict[int, str]:
    """Names of all processes that a process has started, or that those have, by id."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(rest.split()[1])
            names[int(entry.name)] = name.partition("(")[2]
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: names[pid] for pid in found - {root}}


def in_full_swing(root: int) -> set[int]:
    """The processes below, once a server's and four others are there, such as an engine, the guard
    of its database, worker, and producer. Nothing before."""
    processes = below(root)
    servers = {pid for pid, name in processes.items() if name.startswith("postgres")}
    everything = set(processes)
    return everything if len(servers) > 3 and len(everything - servers) > 3 else set()


def alive(processes: Iterable[int]) -> set[int]:
    """Those that are still there, one that nobody has waited for included."""
    return {pid for pid in processes if Path(f"/proc/{pid}").exists()}


def until(ready: Callable[[], T], within_s: float) -> T:
    """What `ready` returns as soon as it is anything."""
    deadline = time.monotonic() + within_s
    while not (found := ready()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(_POLL_S)
    return found
