"""What an upstream was offered of late, which bounds its limit when it refuses for long.

Definitions. *Offered* is what came into the bucket while starts were allowed: with enough work,
what the upstream was asked for. A *block* is a time in which an upstream refuses at every rate, as
one does whose window is used up. A *mark* is how much had been offered by an instant.

A window that is used up has served its limit, however long it is and however unevenly the starts
lay in it. So what was offered since the last block ended, over the time until this one ends, is the
limit; and what was offered in the last minute is, if windows are no longer than that. While a block
lasts, and with less work, both can only be too high. The larger one is the bound.

Not here: what is made of it (``learning``).
"""

from collections import deque
from typing import Final

from jobengine.domain.instant import MINUTE, SECOND

__all__ = ["Offered"]

_MARK_EVERY_US: Final = 2 * SECOND


class Offered:
    """Instants are steady microseconds that never go back."""

    __slots__ = ("_mark_at", "_marks", "_resumed", "_resuming", "_units")

    def __init__(self, at: int, units: int) -> None:
        """``units`` were offered at ``at``, and nothing before."""
        self._units = units
        self._marks = deque([(at, 0)])
        self._resumed = self._resuming = at, 0
        self._mark_at = at

    def add(self, units: int, until: int) -> None:
        """So many units came until an instant."""
        self._units += units
        if until >= self._mark_at:
            self._marks.append((until, self._units))
            self._mark_at = until + _MARK_EVERY_US
            self._forget(until)

    def begin_block(self) -> None:
        self._resumed = self._resuming

    def end_block(self, at: int) -> None:
        """Until ``at`` nothing more is offered, and with luck the block is over then."""
        self._resuming = at, self._units

    def bound(self, at: int) -> int:
        """A rate in millionths of a token a minute, for a block that lasts until ``at``."""
        self._forget(at)
        (resumed_at, resumed), (marked_at, marked) = self._resumed, self._marks[0]
        lately = (self._units - marked) // min(max(at - marked_at, 1), MINUTE)
        return max(lately, (self._units - resumed) // max(at - resumed_at, 1))

    def _forget(self, at: int) -> None:
        """Keep one mark that is a minute old, and what is younger."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= at - MINUTE:
            marks.popleft()
