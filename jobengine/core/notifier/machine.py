"""The notifier: posts a tenant's events to its webhooks.

Decides what is posted to which webhook and when, when a webhook is paused because nothing arrives,
and when cursors are written. Doors and the store tell it of webhooks; it commands feeds (reads of a
tenant's events), posts, entries in the ledger, and writes of cursors, and is told what became of
them.

Definitions. A *course* is what is remembered of one webhook (``course``).

I1  Of a webhook at most one POST is under way, and the next event is posted only after the last was
    confirmed. So what a receiver confirms is in order, whatever fails; after a crash it may get
    again what it has confirmed last, and nothing is left out.
I2  Of two versions of a webhook the one with the higher revision counts; one that was dropped does
    not come back.
I3  A pause by the engine and the opening of its incident are one commit. The incident is noted with
    the cursor before that, so that a later life knows what there is to close; every entry is made
    under a key of its own, and therefore once.
I4  An incident is closed as soon as its webhook is active again or dropped; nothing is posted to it
    before that is recorded.
I5  One batch of events a webhook is held here, and the next is taken when that is confirmed.
I6  A place among those under way is taken by turns (``turns``): a receiver that is dead or slow
    delays nobody else.

Not here: requests, addresses, signatures (``http/webhook_delivery``), reading and asking (the
shell).
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Final, assert_never

import attrs

from jobengine.core.machine import Answer
from jobengine.core.notifier.course import Course, attempt_of
from jobengine.core.notifier.cursors import CursorBook
from jobengine.core.notifier.limits import NotifierLimits
from jobengine.core.notifier.records import closing, pausing, test_event
from jobengine.core.notifier.turns import Turns
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.event import Event
from jobengine.domain.instant import Moment
from jobengine.domain.webhook import Webhook
from jobengine.messages.notifier import (
    CloseFeed,
    Cursor,
    CursorsMoved,
    CursorsUnmoved,
    DeliveriesAnswer,
    Fed,
    FeedOn,
    FeedRefused,
    Message,
    OpenFeed,
    Post,
    Posted,
    ReadDeliveries,
    Recorded,
    Recovered,
    TestWebhook,
    Unrecorded,
    WebhookChanged,
    WebhookDropped,
)
from jobengine.messages.wake import Wake

__all__ = ["Notifier", "NotifierCounts"]

_INCARNATION_SHIFT: Final = 40
Key = tuple[str, str]


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


class Notifier:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: NotifierLimits, incarnation: int = 1) -> None:
        self._limits = limits
        self._courses: dict[Key, Course] = {}
        self._gone: dict[Key, None] = {}
        self._feeds: dict[int, Course] = {}
        self._flights: dict[int, Key] = {}
        self._tests: dict[int, tuple[int, Event]] = {}
        self._records: dict[int, Course] = {}
        self._turns = Turns(limits.deliveries_max)
        self._book = CursorBook(limits.cursors_max, limits.cursors_pause_s)
        self._alarms: list[tuple[float, Key]] = []
        self._stamp = incarnation << _INCARNATION_SHIFT
        self._now = Moment(0.0, 0)
        self._commands: list[Any] = []
        self._delivered_total = 0
        self._failed_total = 0
        self._missed_total = 0

    @property
    def wakeup_at(self) -> float | None:
        times = [self._alarms[0][0]] if self._alarms else []
        book = self._book.wakeup_at
        return min(times if book is None else [*times, book], default=None)

    def counts(self) -> NotifierCounts:
        """What there is to measure; goes through all webhooks."""
        counts = NotifierCounts(
            in_flight=self._turns.taken,
            delivered_total=self._delivered_total,
            failed_total=self._failed_total,
            missed_total=self._missed_total,
        )
        for course in self._courses.values():
            counts.active += course.active
            counts.paused += not course.active and not course.dropped
            since_at = course.waiting_since_at()
            if since_at is not None:
                known_at = counts.waiting_since_at
                counts.waiting_since_at = since_at if known_at is None else min(since_at, known_at)
        return counts

    def unwritten(self, now_at: int) -> Sequence[Cursor]:
        """Cursors that are not known to be stored."""
        return [
            self._courses[key].cursor(now_at)
            for key in self._book.unwritten()
            if key in self._courses
        ]

    def handle(self, message: Message | Wake, now: Moment) -> Sequence[Any]:
        self._now = now
        self._commands = []
        match message:
            case Wake():
                self._ring()
            case Fed():
                self._fed(message)
            case FeedRefused():
                self._feed_refused(message)
            case Posted():
                self._posted(message)
            case CursorsMoved():
                for cursor in self._book.landed(message.stamp, now.mono, done=True):
                    self._noted(cursor)
            case CursorsUnmoved():
                self._book.landed(message.stamp, now.mono, done=False)
            case WebhookChanged():
                self._changed(message.webhook)
            case WebhookDropped():
                self._dropped((message.tenant_id, message.webhook_id))
            case Recorded():
                self._recorded(message)
            case Unrecorded():
                self._unrecorded(message)
            case ReadDeliveries():
                self._read(message)
            case TestWebhook():
                self._test(message)
            case Recovered():
                self._recover(message)
            case _:
                assert_never(message)
        self._post()
        self._write()
        return self._commands

    # ---- webhooks

    def _recover(self, message: Recovered) -> None:
        cursors = {(each.tenant_id, each.webhook_id): each for each in message.cursors}
        for webhook in message.webhooks:
            key = (webhook.tenant_id, webhook.webhook_id)
            course = Course(webhook, cursors.get(key), self._limits)
            self._courses[key] = course
            if course.active and webhook.revision < (course.incident or 0):
                # Noted (I3), but it was never paused: that would have made a later revision.
                self._forget_incident(course)
            self._go_on(course)

    def _changed(self, webhook: Webhook) -> None:
        key = (webhook.tenant_id, webhook.webhook_id)
        course = self._courses.get(key)
        if key in self._gone:
            return
        if course is None:
            course = self._courses[key] = Course(webhook, None, self._limits)
        elif webhook.revision > course.webhook.revision:
            course.adopt(webhook)
            if course.pausing and not course.asked:
                course.incident = webhook.revision + 1
            self._moved(course)
        self._go_on(course)

    def _dropped(self, key: Key) -> None:
        self._gone[key] = None
        while len(self._gone) > self._limits.dropped_max:
            del self._gone[next(iter(self._gone))]
        course = self._courses.get(key)
        if course is not None:
            course.dropped = True
            self._go_on(course)

    # ---- what a course does next

    def _go_on(self, course: Course) -> None:
        """Command whatever is due of a course, but for a POST, which needs a place."""
        if course.flight is not None or course.recording:
            return
        if course.pausing or course.incident is not None:
            self._settle_incident(course)
        if course.dropped and not course.held:
            self._leave(course)
            return
        if course.feed_id is not None and (course.feed_stale or not course.active):
            self._close_feed(course)
        if not course.active or course.held:
            return
        if course.feed_id is None:
            self._open_feed(course)
        elif course.waiting:
            self._wait_for_turn(course)

    def _wait_for_turn(self, course: Course) -> None:
        if course.due is not None and course.due.mono > self._now.mono:
            self._wake(course, course.due.mono)
        elif not course.in_turn and course.may_post(self._now):
            course.in_turn = True
            self._turns.wait(course.key, lags=course.lags)

    def _leave(self, course: Course) -> None:
        self._close_feed(course)
        del self._courses[course.key]
        self._book.forget(course.key, self._now.mono)

    def _wake(self, course: Course, mono: float) -> None:
        heappush(self._alarms, (mono, course.key))

    def _ring(self) -> None:
        while self._alarms and self._alarms[0][0] <= self._now.mono:
            course = self._courses.get(heappop(self._alarms)[1])
            if course is not None:
                self._go_on(course)

    # ---- feeds

    def _open_feed(self, course: Course) -> None:
        if course.again_mono > self._now.mono:
            self._wake(course, course.again_mono)
            return
        course.stop_reading()
        course.feed_id = self._next_stamp()
        self._feeds[course.feed_id] = course
        self._commands.append(
            OpenFeed(
                feed_id=course.feed_id,
                tenant_id=course.key[0],
                after_seq=course.delivered_seq,
                types=course.webhook.types,
            )
        )

    def _close_feed(self, course: Course) -> None:
        if course.feed_id is not None:
            del self._feeds[course.feed_id]
            self._commands.append(CloseFeed(feed_id=course.feed_id))
            course.stop_reading()

    def _fed(self, message: Fed) -> None:
        course = self._feeds.get(message.feed_id)
        if course is None:
            return
        missed, before = course.missed_total, course.delivered_seq
        course.read(message.batch, self._now)
        self._missed_total += course.missed_total - missed
        if course.delivered_seq > before:
            self._moved(course)
        self._read_on(course)
        self._go_on(course)

    def _read_on(self, course: Course) -> None:
        """I5"""
        if course.feed_id is not None and not course.waiting:
            self._commands.append(FeedOn(feed_id=course.feed_id))

    def _feed_refused(self, message: FeedRefused) -> None:
        course = self._feeds.pop(message.feed_id, None)
        if course is not None:
            course.stop_reading()
            course.again_mono = self._now.mono + self._limits.again_s
            self._go_on(course)

    # ---- posts

    def _post(self) -> None:
        """Give every place that is free (I6)."""
        while (key := self._turns.take()) is not None:
            course = self._courses.get(key)
            if course is not None:
                course.in_turn = False
            if course is None or not course.may_post(self._now):
                self._turns.leave(key)
                if course is not None:
                    self._go_on(course)
                continue
            course.flight = event = course.waiting[0]
            course.number += 1
            course.due = None
            stamp = self._next_stamp()
            self._flights[stamp] = key
            self._commands.append(
                Post(stamp=stamp, webhook=course.webhook, event=event, number=course.number)
            )

    def _posted(self, message: Posted) -> None:
        if message.stamp in self._tests:
            ask_id, event = self._tests.pop(message.stamp)
            attempt = attempt_of(event, 1, message.outcome, self._now)
            self._commands.append(Answer(ask_id, attempt))
            return
        key = self._flights.pop(message.stamp, None)
        if key is None:
            return
        self._turns.leave(key)
        course = self._courses[key]
        must_pause = course.landed(message.outcome, self._now)
        if message.outcome.error is None:
            self._delivered_total += 1
            self._read_on(course)
        else:
            self._failed_total += 1
        self._moved(course)
        if must_pause and course.active:
            self._begin_pause(course)
        self._go_on(course)

    # ---- pauses and incidents

    def _begin_pause(self, course: Course) -> None:
        course.pausing, course.asked = True, False
        course.incident = course.webhook.revision + 1
        self._book.move(course.key, self._now.mono, at_once=True)

    def _noted(self, cursor: Cursor) -> None:
        course = self._courses.get((cursor.tenant_id, cursor.webhook_id))
        if course is not None and course.pausing and cursor.note == course.note():
            course.asked = True
            self._go_on(course)

    def _settle_incident(self, course: Course) -> None:
        """Open the incident of a course that is to be paused; close one that is over (I3, I4)."""
        if course.pausing and not course.asked:
            if course.active and course.failures:
                return
            self._forget_incident(course)
        elif course.pausing or course.active or course.dropped:
            if course.again_mono > self._now.mono:
                self._wake(course, course.again_mono)
                return
            make = pausing if course.pausing else closing
            course.recording = True
            stamp = self._next_stamp()
            self._records[stamp] = course
            self._commands.append(make(course, stamp, self._now))

    def _recorded(self, message: Recorded) -> None:
        course = self._records.pop(message.stamp, None)
        if course is None:
            return
        course.recording = False
        if course.pausing:
            course.pausing = False
        else:
            self._forget_incident(course)
        if message.webhook is None:
            course.dropped = True
        elif message.webhook.revision > course.webhook.revision:
            course.adopt(message.webhook)
        self._moved(course)
        self._go_on(course)

    def _unrecorded(self, message: Unrecorded) -> None:
        course = self._records.pop(message.stamp, None)
        if course is not None:
            course.recording = False
            course.again_mono = self._now.mono + self._limits.again_s
            self._go_on(course)

    def _forget_incident(self, course: Course) -> None:
        course.pausing, course.incident = False, None
        self._moved(course)

    # ---- cursors

    def _moved(self, course: Course) -> None:
        if not course.dropped:
            self._book.move(course.key, self._now.mono)

    def _write(self) -> None:
        due_mono = self._book.wakeup_at
        if due_mono is None or due_mono > self._now.mono:
            return
        now_at, courses = self._now.at, self._courses
        command = self._book.write(
            self._next_stamp(), self._now.mono, lambda key: courses[key].cursor(now_at)
        )
        if command is not None:
            self._commands.append(command)

    # ---- questions

    def _read(self, message: ReadDeliveries) -> None:
        found = {}
        for webhook_id in message.webhook_ids:
            course = self._courses.get((message.tenant_id, webhook_id))
            if course is not None and not course.dropped:
                found[webhook_id] = course.delivery()
        self._commands.append(Answer(message.ask_id, DeliveriesAnswer(found)))

    def _test(self, message: TestWebhook) -> None:
        course = self._courses.get((message.tenant_id, message.webhook_id))
        if course is None or course.dropped:
            refusal = Refusal(ErrorCode.NOT_FOUND, "no such webhook", {"path": "webhookId"})
        elif len(self._tests) >= self._limits.tests_max:
            refusal = Refusal(ErrorCode.OVERLOADED, "many webhooks are being tested; retry later")
        else:
            event, stamp = test_event(course.webhook, self._now.at), self._next_stamp()
            self._tests[stamp] = (message.ask_id, event)
            self._commands.append(Post(stamp=stamp, webhook=course.webhook, event=event, number=1))
            return
        self._commands.append(Answer(message.ask_id, refusal))

    def _next_stamp(self) -> int:
        self._stamp += 1
        return self._stamp
