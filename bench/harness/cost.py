"""What processes cost, read from /proc: CPU seconds and resident memory.

A PostgreSQL server is its postmaster, the processes that it has now, and those that it has reaped.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

__all__ = ["Meter", "cpu_s_of", "cpu_s_of_server", "rss_mib_of"]

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_PARENT, _USER, _SYSTEM, _USER_REAPED, _SYSTEM_REAPED = 1, 11, 12, 13, 14


def cpu_s_of(pid: int) -> float:
    """CPU seconds of one process since its start, all of its threads."""
    return _cpu_s_in(_stat(pid))


def cpu_s_of_server(postmaster: int) -> float:
    """CPU seconds of a PostgreSQL server: what lives and what it has reaped."""
    alive = sum(_cpu_s_in(fields) for fields in _children_of(postmaster))
    fields = _stat(postmaster)
    reaped = int(fields[_USER_REAPED]) + int(fields[_SYSTEM_REAPED])
    return alive + _cpu_s_in(fields) + reaped / _TICKS_PER_S


def rss_mib_of(pid: int, *, peak: bool = False) -> float:
    """Resident memory of one process, or the most that it has ever had."""
    field = "VmHWM:" if peak else "VmRSS:"
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def _cpu_s_in(fields: list[str]) -> float:
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_S


def _children_of(parent: int) -> Iterator[list[str]]:
    """The `_stat` of each child; one that ends meanwhile is passed over."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[_PARENT]) == parent:
                yield fields


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may hold anything: `state` is the first."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


@attrs.define
class Meter:
    """CPU seconds that parts of a run spend between `start` and `spent`.

    `parts` are the processes of each part by name; `postmasters` stand for their servers.
    """

    parts: Mapping[str, tuple[int, ...]]
    postmasters: tuple[int, ...] = ()
    _before: dict[str, float] = attrs.field(init=False, factory=dict)

    def start(self) -> None:
        self._before = self._read()

    def spent(self) -> dict[str, float]:
        """CPU seconds of each part since `start`."""
        return {name: now - self._before[name] for name, now in self._read().items()}

    def spent_per(self, jobs: int) -> dict[str, float]:
        """CPU microseconds of each part and job since `start`."""
        return {name: round(spent / jobs * 1e6, 1) for name, spent in self.spent().items()}

    def _read(self) -> dict[str, float]:
        read = {name: sum(cpu_s_of(pid) for pid in pids) for name, pids in self.parts.items()}
        if self.postmasters:
            read["postgresql"] = sum(cpu_s_of_server(pid) for pid in self.postmasters)
        return read
