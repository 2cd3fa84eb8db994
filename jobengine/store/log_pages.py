"""How much of the stored log lines is read at once: a row may have as many bytes as a frame of a
worker, so rows alone bound nothing.
"""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import attrs

__all__ = ["LOG_BYTES_MAX", "LogLines", "goes_on", "within_bytes"]

LOG_BYTES_MAX: Final = 256 << 10
"""Of the lines that are read at once; the last row may go beyond."""


@attrs.frozen(kw_only=True)
class LogLines:
    attempt: int
    at: int
    lines: bytes
    """A JSON array of {at, level, text}."""


class _Sized(Protocol):
    def __len__(self) -> int: ...


class _Row(Protocol):
    @property
    def lines(self) -> _Sized: ...


R = TypeVar("R", bound=_Row)


def within_bytes(rows: Sequence[tuple[int, R]], bytes_max: int) -> Sequence[tuple[int, R]]:
    """Rows up to the one whose lines reach `bytes_max`."""
    size = 0
    for count, (_, row) in enumerate(rows, 1):
        size += len(row.lines)
        if size >= bytes_max:
            return rows[:count]
    return rows


def goes_on(rows: Sequence[tuple[int, R]], rows_max: int, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Whether there may be rows behind those that were read within these bounds."""
    return len(rows) >= rows_max or sum(len(row.lines) for _, row in rows) >= bytes_max
