"""Pauses of webhooks by the notifier, and the incidents that they open and close.

A pause is decided where a POST lands; what follows is here: the incident is noted with the cursor,
then webhook and incident change in one commit; it is closed when the webhook goes on or is dropped.

Not here: what is written (`records`), when nothing arrives any more (`course`).
"""

from collections.abc import Collection

from jobengine.core.notifier.course import Course
from jobengine.core.notifier.records import closing, key_of_pause, pausing
from jobengine.core.notifier.state import NotifierState
from jobengine.messages.notifier import Cursor, Recorded, Unrecorded

__all__ = ["Incidents"]


class Incidents:
    """What returns a course says that it may go on. I3 and I4 are those of `machine`."""

    def __init__(self, state: NotifierState) -> None:
        self._state = state
        self._records: dict[int, Course] = {}

    def begin(self, course: Course) -> None:
        """Note that the webhook is to be paused (I3)."""
        course.pausing, course.asked = True, False
        course.incident, course.opened = course.webhook.revision + 1, False
        self._state.book.move(course.key, self._state.now.mono, at_once=True)

    def resolve(self, course: Course, pauses: Collection[str]) -> None:
        """Whether an incident that an earlier life noted was opened, by the keys of the pauses that
        were recorded."""
        assert course.incident is not None
        if key_of_pause(course.key[1], course.incident) in pauses:
            course.opened = True
            self._state.moved(course)
        else:
            self.forget(course)

    def noted(self, cursor: Cursor) -> Course | None:
        """A cursor is stored, and with it perhaps the note of an incident."""
        course = self._state.courses.get((cursor.tenant_id, cursor.webhook_id))
        if course is None or not course.pausing or cursor.note != course.note():
            return None
        course.asked = True
        return course

    def settle(self, course: Course) -> None:
        """Open the incident of a course that is to be paused; close one that is over (I3, I4)."""
        state = self._state
        if course.pausing and not course.asked:
            if course.active and course.failures:
                return
            self.forget(course)
        elif course.pausing or course.active or course.dropped:
            if course.again_mono > state.now.mono:
                state.wake(course, course.again_mono)
                return
            make = pausing if course.pausing else closing
            course.recording = True
            stamp = state.stamp()
            self._records[stamp] = course
            state.commands.append(make(course, stamp, state.now))

    def recorded(self, message: Recorded) -> Course | None:
        course = self._records.pop(message.stamp, None)
        if course is None:
            return None
        course.recording = False
        if course.pausing:
            course.pausing, course.opened = False, True
        else:
            self.forget(course)
        if message.webhook is None:
            course.dropped = True
        elif message.webhook.revision > course.webhook.revision:
            course.adopt(message.webhook)
        self._state.moved(course)
        return course

    def unrecorded(self, message: Unrecorded) -> Course | None:
        course = self._records.pop(message.stamp, None)
        if course is not None:
            course.recording = False
            course.again_mono = self._state.now.mono + self._state.limits.again_s
        return course

    def forget(self, course: Course) -> None:
        course.pausing, course.incident, course.opened = False, None, False
        self._state.moved(course)
