"""Starts of the last hour, counted by minute: at most so many in any 3,600 seconds.

A minute's starts are taken to lie at its end, so a start counts for 60 to 61 minutes and never for
less than 3,600 seconds. Minutes are of steady time.

I1  Fewer than 62 minutes are held.
I2  A start that is given back leaves the oldest minute: what stays counted ends no earlier than
    what really started.
"""

from collections import deque
from typing import Final

from jobengine.domain.instant import MINUTE

__all__ = ["HourCount"]

_MINUTES: Final = 61


class HourCount:
    __slots__ = ("_minutes", "_oldest_ends_at", "_total")

    def __init__(self) -> None:
        self._minutes: deque[list[int]] = deque()
        self._oldest_ends_at = 0
        self._total = 0

    def count(self, at: int) -> int:
        """Starts that count at ``at``, which never goes back."""
        if at >= self._oldest_ends_at:
            minutes = self._minutes
            while minutes and at >= _end(minutes[0][0]):
                self._total -= minutes.popleft()[1]
            self._oldest_ends_at = _end(minutes[0][0]) if minutes else at
        return self._total

    def add(self, minute: int, starts: int) -> None:
        """Count starts of a minute; one that is before the newest counts with that."""
        minutes = self._minutes
        if minutes and minutes[-1][0] >= minute:
            minutes[-1][1] += starts
        else:
            minutes.append([minute, starts])
            self._oldest_ends_at = _end(minutes[0][0])
        self._total += starts

    def take(self, at: int, starts: int = 1) -> None:
        self.add(at // MINUTE, starts)

    def untake(self) -> None:
        """Undo the last ``take`` of one start."""
        self._drop(-1)

    def give_back(self) -> None:
        if self._total:
            self._drop(0)

    def opens_at(self, at: int, starts_max: int, ahead: int) -> int | None:
        """When a start is possible that ``ahead`` others precede, each as soon as it may."""
        if starts_max < 1:
            return None
        rounds, place = divmod(ahead, starts_max)
        left = self.count(at) + place + 1 - starts_max
        opens_at = at
        for minute, starts in self._minutes:
            if left <= 0:
                break
            left -= starts
            opens_at = _end(minute)
        return (opens_at // MINUTE + rounds * _MINUTES) * MINUTE if rounds else opens_at

    def stored(self, drift: int) -> tuple[tuple[int, int], ...]:
        """By minute of the wall clock that is ``drift`` off; never a minute too early."""
        shift = -(-drift // MINUTE)
        return tuple((minute + shift, starts) for minute, starts in self._minutes)

    def _drop(self, index: int) -> None:
        counted = self._minutes[index]
        counted[1] -= 1
        self._total -= 1
        if not counted[1]:
            del self._minutes[index]


def _end(minute: int) -> int:
    """When the starts of a minute count no longer."""
    return (minute + _MINUTES) * MINUTE
