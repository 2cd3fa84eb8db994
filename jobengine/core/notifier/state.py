"""What the parts of the notifier share: its courses, the instant, what is commanded, when it wakes;
and what there is to measure of it.

Not here: any decision (`machine`, `feeds`, `incidents`).
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Final

import attrs

from jobengine.core.notifier.course import Course
from jobengine.core.notifier.cursors import CursorBook
from jobengine.core.notifier.limits import NotifierLimits
from jobengine.domain.instant import Moment

__all__ = ["Key", "NotifierCounts", "NotifierState"]

_INCARNATION_SHIFT: Final = 40
Key = tuple[str, str]
"""A tenant's id and a webhook's."""


@attrs.define(kw_only=True)
class NotifierCounts:
    """``waiting_since_at``: since when the event that waits longest does, None when none does."""

    active: int = 0
    paused: int = 0
    in_flight: int = 0
    delivered_total: int = 0
    failed_total: int = 0
    missed_total: int = 0
    waiting_since_at: int | None = None


class NotifierState:
    """`now` and `commands` are those of the message that is handled."""

    def __init__(self, limits: NotifierLimits, incarnation: int) -> None:
        self.limits = limits
        self.courses: dict[Key, Course] = {}
        self.book = CursorBook(limits.cursors_max, limits.cursors_pause_s)
        self.now = Moment(0.0, 0)
        self.commands: list[Any] = []
        self._alarms: list[tuple[float, Key]] = []
        self._stamp = incarnation << _INCARNATION_SHIFT

    @property
    def wakeup_at(self) -> float | None:
        times = [self._alarms[0][0]] if self._alarms else []
        book = self.book.wakeup_at
        return min(times if book is None else [*times, book], default=None)

    def stamp(self) -> int:
        self._stamp += 1
        return self._stamp

    def wake(self, course: Course, mono: float) -> None:
        """Go on with the course at that time."""
        heappush(self._alarms, (mono, course.key))

    def due(self) -> Iterator[Course]:
        """The courses whose time has come, those left out that are no more; may grow meanwhile."""
        while self._alarms and self._alarms[0][0] <= self.now.mono:
            course = self.courses.get(heappop(self._alarms)[1])
            if course is not None:
                yield course

    def moved(self, course: Course) -> None:
        """The cursor of the course is another one."""
        if not course.dropped:
            self.book.move(course.key, self.now.mono)
