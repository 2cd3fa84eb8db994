"""What happened in a simulated run, line by line, and the digest of it.

I1  Two runs are the same when their digests are: every line counts, in order, with its virtual
    instant.
I2  Without `keep` no more than the last lines are held, so a run costs memory only where it is
    wanted to be read.
"""

import hashlib
from collections import deque
from typing import Any, Final

import trio

__all__ = ["Trace"]

_LAST: Final = 200


class Trace:
    def __init__(self, *, keep: bool = False) -> None:
        self.lines: deque[str] = deque(maxlen=None if keep else _LAST)
        self.notes = 0
        self._sha = hashlib.sha256()

    def note(self, who: str, what: str, **facts: Any) -> None:
        """Add a line; facts are of types whose `repr` says it all (no sets)."""
        told = " ".join(f"{name}={value!r}" for name, value in facts.items())
        line = f"{trio.current_time():12.6f} {who:<14} {what:<22} {told}".rstrip()
        self.lines.append(line)
        self.notes += 1
        self._sha.update(f"{line}\n".encode())

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()
