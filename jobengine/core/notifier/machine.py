"""The notifier: posts a tenant's events to its webhooks.

Decides what is posted to which webhook and when, when a webhook is paused because nothing arrives,
and when cursors are written. Doors and the store tell it of webhooks; it commands feeds (reads of a
tenant's events), posts, entries in the ledger, and writes of cursors, and is told what became of
them.

Definitions. A *course* is what is remembered of one webhook (``course``). The parts share a
``NotifierState``: ``feeds`` reads, ``incidents`` pauses and closes; which of them a course needs
next is decided here, and so are posts.

I1  Of a webhook at most one POST is under way, and the next event is posted only after the last was
    confirmed. So what a receiver confirms is in order, whatever fails; after a crash it may get
    again what it has confirmed last, and nothing is left out.
I2  Of two versions of a webhook the one with the higher revision counts; one that was dropped does
    not come back.
I3  A pause by the engine and the opening of its incident are one commit. The incident is noted with
    the cursor before that, so that a later life knows what there may be to close, and is told
    whether the ledger has it; every entry is made under a key of its own, and therefore once.
I4  An incident is closed as soon as its webhook is active again or dropped; nothing is posted to it
    before that is recorded.
I5  One batch of events a webhook is held here, and the next is taken when that is confirmed.
I6  A place among those under way is taken by turns (``turns``): a receiver that is dead or slow
    delays nobody else.

Not here: requests, addresses, signatures (``http/webhook_delivery``), reading and asking (the
shell).
"""

from collections.abc import Sequence
from typing import Any, assert_never

from jobengine.core.machine import Answer
from jobengine.core.notifier.course import Course, attempt_of
from jobengine.core.notifier.feeds import Feeds
from jobengine.core.notifier.incidents import Incidents
from jobengine.core.notifier.limits import NotifierLimits
from jobengine.core.notifier.records import test_event
from jobengine.core.notifier.state import Key, NotifierCounts, NotifierState
from jobengine.core.notifier.turns import Turns
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.event import Event
from jobengine.domain.instant import Moment
from jobengine.domain.webhook import Webhook
from jobengine.messages.notifier import (
    Cursor,
    CursorsMoved,
    CursorsUnmoved,
    DeliveriesAnswer,
    Fed,
    FeedRefused,
    Message,
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

__all__ = ["Notifier"]


class Notifier:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: NotifierLimits, incarnation: int = 1) -> None:
        self._limits = limits
        self._state = NotifierState(limits, incarnation)
        self._feeds = Feeds(self._state)
        self._incidents = Incidents(self._state)
        self._turns = Turns(limits.deliveries_max)
        self._gone: dict[Key, None] = {}
        self._flights: dict[int, Key] = {}
        self._tests: dict[int, tuple[int, Event]] = {}
        self._delivered_total = 0
        self._failed_total = 0

    @property
    def wakeup_at(self) -> float | None:
        return self._state.wakeup_at

    def counts(self) -> NotifierCounts:
        """What there is to measure; goes through all webhooks."""
        counts = NotifierCounts(
            in_flight=self._turns.taken,
            delivered_total=self._delivered_total,
            failed_total=self._failed_total,
            missed_total=self._feeds.missed_total,
        )
        for course in self._state.courses.values():
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
            self._state.courses[key].cursor(now_at)
            for key in self._state.book.unwritten()
            if key in self._state.courses
        ]

    def handle(self, message: Message | Wake, now: Moment) -> Sequence[Any]:
        self._state.now, self._state.commands = now, []
        match message:
            case Wake():
                for course in self._state.due():
                    self._go_on(course)
            case Fed():
                self._go_on_with(self._feeds.fed(message))
            case FeedRefused():
                self._go_on_with(self._feeds.refused(message))
            case Posted():
                self._posted(message)
            case CursorsMoved():
                for cursor in self._state.book.landed(message.stamp, now.mono, done=True):
                    self._go_on_with(self._incidents.noted(cursor))
            case CursorsUnmoved():
                self._state.book.landed(message.stamp, now.mono, done=False)
            case WebhookChanged():
                self._changed(message.webhook)
            case WebhookDropped():
                self._dropped((message.tenant_id, message.webhook_id))
            case Recorded():
                self._go_on_with(self._incidents.recorded(message))
            case Unrecorded():
                self._go_on_with(self._incidents.unrecorded(message))
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
        return self._state.commands

    # ---- webhooks

    def _recover(self, message: Recovered) -> None:
        cursors = {(each.tenant_id, each.webhook_id): each for each in message.cursors}
        for webhook in message.webhooks:
            key = (webhook.tenant_id, webhook.webhook_id)
            course = Course(webhook, cursors.get(key), self._limits)
            self._state.courses[key] = course
            if course.incident is not None and not course.opened:
                self._incidents.resolve(course, message.pauses)
            self._go_on(course)

    def _changed(self, webhook: Webhook) -> None:
        key = (webhook.tenant_id, webhook.webhook_id)
        course = self._state.courses.get(key)
        if key in self._gone:
            return
        if course is None:
            course = self._state.courses[key] = Course(webhook, None, self._limits)
        elif webhook.revision > course.webhook.revision:
            course.adopt(webhook)
            if course.pausing and not course.asked:
                course.incident = webhook.revision + 1
            self._state.moved(course)
        self._go_on(course)

    def _dropped(self, key: Key) -> None:
        self._gone[key] = None
        while len(self._gone) > self._limits.dropped_max:
            del self._gone[next(iter(self._gone))]
        course = self._state.courses.get(key)
        if course is not None:
            course.dropped = True
            self._go_on(course)

    # ---- what a course does next

    def _go_on_with(self, course: Course | None) -> None:
        if course is not None:
            self._go_on(course)

    def _go_on(self, course: Course) -> None:
        """Command whatever is due of a course, but for a POST, which needs a place."""
        if course.flight is not None or course.recording:
            return
        if course.pausing or course.incident is not None:
            self._incidents.settle(course)
        if course.dropped and not course.held:
            self._leave(course)
            return
        if course.feed_id is not None and (course.feed_stale or not course.active):
            self._feeds.close(course)
        if not course.active or course.held:
            return
        if course.feed_id is None:
            self._feeds.open(course)
        elif course.waiting:
            self._wait_for_turn(course)

    def _wait_for_turn(self, course: Course) -> None:
        if course.due is not None and course.due.mono > self._state.now.mono:
            self._state.wake(course, course.due.mono)
        elif not course.in_turn and course.may_post(self._state.now):
            course.in_turn = True
            self._turns.wait(course.key, lags=course.lags)

    def _leave(self, course: Course) -> None:
        self._feeds.close(course)
        del self._state.courses[course.key]
        self._state.book.forget(course.key, self._state.now.mono)

    # ---- posts

    def _post(self) -> None:
        """Give every place that is free (I6)."""
        while (key := self._turns.take()) is not None:
            course = self._state.courses.get(key)
            if course is not None:
                course.in_turn = False
            if course is None or not course.may_post(self._state.now):
                self._turns.leave(key)
                if course is not None:
                    self._go_on(course)
                continue
            course.flight = event = course.waiting[0]
            course.number += 1
            course.due = None
            stamp = self._state.stamp()
            self._flights[stamp] = key
            self._state.commands.append(
                Post(stamp=stamp, webhook=course.webhook, event=event, number=course.number)
            )

    def _posted(self, message: Posted) -> None:
        if message.stamp in self._tests:
            ask_id, event = self._tests.pop(message.stamp)
            attempt = attempt_of(event, 1, message.outcome, self._state.now)
            self._state.commands.append(Answer(ask_id, attempt))
            return
        key = self._flights.pop(message.stamp, None)
        if key is None:
            return
        self._turns.leave(key)
        course = self._state.courses[key]
        must_pause = course.landed(message.outcome, self._state.now)
        if message.outcome.error is None:
            self._delivered_total += 1
            self._feeds.read_on(course)
        else:
            self._failed_total += 1
        self._state.moved(course)
        if must_pause and course.active:
            self._incidents.begin(course)
        self._go_on(course)

    # ---- cursors

    def _write(self) -> None:
        due_mono = self._state.book.wakeup_at
        if due_mono is None or due_mono > self._state.now.mono:
            return
        now_at, courses = self._state.now.at, self._state.courses
        command = self._state.book.write(
            self._state.stamp(), self._state.now.mono, lambda key: courses[key].cursor(now_at)
        )
        if command is not None:
            self._state.commands.append(command)

    # ---- questions

    def _read(self, message: ReadDeliveries) -> None:
        found = {}
        for webhook_id in message.webhook_ids:
            course = self._state.courses.get((message.tenant_id, webhook_id))
            if course is not None and not course.dropped:
                found[webhook_id] = course.delivery()
        self._state.commands.append(Answer(message.ask_id, DeliveriesAnswer(found)))

    def _test(self, message: TestWebhook) -> None:
        course = self._state.courses.get((message.tenant_id, message.webhook_id))
        if course is None or course.dropped:
            refusal = Refusal(ErrorCode.NOT_FOUND, "no such webhook", {"path": "webhookId"})
        elif len(self._tests) >= self._limits.tests_max:
            refusal = Refusal(ErrorCode.OVERLOADED, "many webhooks are being tested; retry later")
        else:
            event, stamp = test_event(course.webhook, self._state.now.at), self._state.stamp()
            self._tests[stamp] = (message.ask_id, event)
            self._state.commands.append(
                Post(stamp=stamp, webhook=course.webhook, event=event, number=1)
            )
            return
        self._state.commands.append(Answer(message.ask_id, refusal))
