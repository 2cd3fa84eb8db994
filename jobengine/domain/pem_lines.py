"""Where private keys in PEM lie among lines that are reported one by one (RFC 7468).

A block whose first or last line is in another batch is taken as far as lines look like those of a
block. Blocks within one line are left out.

I1  Blocks do not overlap and come in order.
I2  Time is linear in the lines.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["key_blocks"]

_BEGINS: Final = re.compile(r"-----BEGIN (?!CERTIFICATE|PUBLIC)[A-Z0-9 ]{1,40}-----")
_ENDS: Final = re.compile(r"-----END (?!CERTIFICATE|PUBLIC)[A-Z0-9 ]{1,40}-----")
_LINE: Final = re.compile(r"\s*(?:[A-Za-z0-9+/=]{1,76}|[A-Za-z-]{1,40}: .{0,200})?\s*")


def key_blocks(lines: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Each block over several lines: its first line and where in it, its last and where in that."""
    taken = -1
    opened: tuple[int, int] | None = None
    for n, line in enumerate(lines):
        if "-----" not in line:
            continue
        begins = [match.start() for match in _BEGINS.finditer(line)]
        end = _ENDS.search(line)
        if end is not None and not (begins and begins[0] < end.start()):
            first, start = opened or (_run(lines, n - 1, taken, -1), 0)
            if begins and _ENDS.search(line, begins[-1]) is None:
                # Another block begins in the same line: one secret with this one.
                opened = first, start
                continue
            if first < n:
                yield first, start, n, end.end()
                taken = n
            opened = None
        if begins and _ENDS.search(line, begins[-1]) is None:
            if opened is not None:
                taken = _run(lines, opened[0] + 1, n, 1)
                yield *opened, taken, len(lines[taken])
            opened = (n, begins[-1])
    if opened is not None:
        last = _run(lines, opened[0] + 1, len(lines), 1)
        yield *opened, last, len(lines[last])


def _run(lines: Sequence[str], start: int, stop: int, step: int) -> int:
    """The last of the lines from ``start`` on, one after another, that could be of a PEM block; the
    one before ``start`` when that could not."""
    n = start
    while n != stop and _LINE.fullmatch(lines[n]):
        n += step
    return n - step
