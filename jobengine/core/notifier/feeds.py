"""The notifier's reads of its tenants' events: one feed for each webhook that is active.

Not here: which webhook needs one (`machine`), what a course makes of a batch (`course`).
"""

from jobengine.core.notifier.course import Course
from jobengine.core.notifier.state import NotifierState
from jobengine.messages.notifier import CloseFeed, Fed, FeedOn, FeedRefused, OpenFeed

__all__ = ["Feeds"]


class Feeds:
    """``fed`` and ``refused`` return the course that may go on, None for a feed of the past."""

    def __init__(self, state: NotifierState) -> None:
        self._state = state
        self._feeds: dict[int, Course] = {}
        self.missed_total = 0

    def open(self, course: Course) -> None:
        """Open one, or wait with it after a refusal."""
        state = self._state
        if course.again_mono > state.now.mono:
            state.wake(course, course.again_mono)
            return
        course.stop_reading()
        course.feed_id = state.stamp()
        self._feeds[course.feed_id] = course
        state.commands.append(
            OpenFeed(
                feed_id=course.feed_id,
                tenant_id=course.key[0],
                after_seq=course.delivered_seq,
                types=course.webhook.types,
            )
        )

    def close(self, course: Course) -> None:
        if course.feed_id is not None:
            del self._feeds[course.feed_id]
            self._state.commands.append(CloseFeed(feed_id=course.feed_id))
            course.stop_reading()

    def fed(self, message: Fed) -> Course | None:
        course = self._feeds.get(message.feed_id)
        if course is None:
            return None
        missed, before = course.missed_total, course.delivered_seq
        course.read(message.batch, self._state.now)
        self.missed_total += course.missed_total - missed
        if course.delivered_seq > before:
            self._state.moved(course)
        self.read_on(course)
        return course

    def read_on(self, course: Course) -> None:
        """Take the next batch when all of the last one is confirmed (I5 of `machine`)."""
        if course.feed_id is not None and not course.waiting:
            self._state.commands.append(FeedOn(feed_id=course.feed_id))

    def refused(self, message: FeedRefused) -> Course | None:
        course = self._feeds.pop(message.feed_id, None)
        if course is not None:
            course.stop_reading()
            course.again_mono = self._state.now.mono + self._state.limits.again_s
        return course
