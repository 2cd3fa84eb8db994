"""How much memory this process has, and how much it may have. Linux only; elsewhere nothing is
known but what the machine has.

Both read a few bytes that the kernel makes up, which takes microseconds and never a disk.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["memory_bytes_of_process", "memory_bytes_there_are"]

_PROC: Final = Path("/proc/self")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_STATM_BYTES: Final = 256
"""More than its seven numbers take."""


def memory_bytes_of_process(proc: Path = _PROC) -> int:
    """Bytes of this process that are in memory (its resident set); 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # A node looks every second, and a file object costs several times what the reading does.
        statm = os.open(f"{proc}/statm", os.O_RDONLY)
        try:
            pages = int(os.read(statm, _STATM_BYTES).split()[1])
        finally:
            os.close(statm)
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def memory_bytes_there_are(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Bytes this process may have: the least of its control groups' limits and the machine's
    memory; 0 where nothing is told."""
    limits = list(_limits_of_groups(proc, cgroups))
    with contextlib.suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit > 0), default=0)


def _limits_of_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """The limits of the process's own group and of those around it, in both versions' layouts."""
    named: list[tuple[Path, str]] = []
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                named.append((cgroups / path.strip("/"), "memory.max"))
            elif "memory" in controllers.split(","):
                named.append((cgroups / "memory" / path.strip("/"), "memory.limit_in_bytes"))
    for group, file in named:
        for directory in (group, *group.parents):
            if not directory.is_relative_to(cgroups):
                break
            # The outermost group has no such file, and "max" is no number: neither limits.
            with contextlib.suppress(OSError, ValueError):
                yield int((directory / file).read_text())
