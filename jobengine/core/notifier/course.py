"""One webhook, as the notifier goes through its events.

I1  Events are posted in order, one at a time; the next only after the last was confirmed.
I2  ``delivered_seq`` is where the cursor may stand: all before it are confirmed, or not wanted.
I3  What decides about a pause (failures in a row, and since when), which incident there is and
    whether it is known to be in the ledger go with the cursor, so that a restart forgets none of
    it.

Not here: turns, reading, recording (``machine``).
"""

import hashlib
from collections import deque
from typing import Final

import msgspec

from jobengine.core.notifier.limits import NotifierLimits
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.domain.instant import SECOND, Moment
from jobengine.domain.webhook import Webhook, WebhookState
from jobengine.messages.notifier import Attempt, Cursor, Delivery, Outcome

__all__ = ["Course", "attempt_of", "incident_in_doubt"]

_RETENTION: Final = "retention"


class _Note(msgspec.Struct, omit_defaults=True):
    """What goes with a cursor; ``incident`` is the revision that was, or is to be, paused, and
    ``opened`` says that it was."""

    failures: int = 0
    since_at: int | None = None
    incident: int | None = None
    opened: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Note).decode


class Course:
    def __init__(self, webhook: Webhook, cursor: Cursor | None, limits: NotifierLimits) -> None:
        note = _note_of(cursor)
        self._limits = limits
        self.webhook = webhook
        self.key = (webhook.tenant_id, webhook.webhook_id)
        self.dropped = False
        # where it stands
        stored_seq = 0 if cursor is None else cursor.seq
        self.delivered_seq = max(stored_seq, webhook.begins_after_seq)
        self.delivered_at: int | None = None
        self.delivered_total = 0
        self.missed_total = 0
        self.recent: deque[Attempt] = deque(maxlen=limits.recent_max)
        # what it reads
        self.feed_id: int | None = None
        self.feed_stale = False
        self.waiting: deque[Event] = deque()
        self.through_seq = self.delivered_seq
        # what it posts
        self.in_turn = False
        self.flight: Event | None = None
        self.number = note.failures
        self.failures = note.failures
        self.failing_since_at = note.since_at
        self.due: Moment | None = None
        self.head_since_at = 0
        self.lags = note.failures > 0
        # pauses
        self.error = ""
        self.incident = note.incident
        self.opened = note.opened
        self.pausing = False
        self.asked = False
        self.recording = False
        self.again_mono = 0.0

    @property
    def active(self) -> bool:
        return not self.dropped and self.webhook.state is WebhookState.ACTIVE

    def may_post(self, now: Moment) -> bool:
        due = self.due is None or self.due.mono <= now.mono
        return self.active and due and not self._busy and bool(self.waiting)

    @property
    def held(self) -> bool:
        """Whether it waits for the ledger: an incident is to be noted, opened or closed."""
        return self.recording or self.pausing or self.incident is not None

    @property
    def _busy(self) -> bool:
        return self.flight is not None or self.held or self.feed_stale

    # ---- reading

    def read(self, batch: Batch, now: Moment) -> None:
        """Take what comes next; nothing of an earlier batch is left by then."""
        if batch.gap is not None:
            first, last = batch.gap
            self.missed_total += last - first + 1
            error = f"the events {first} to {last} are past retention"
            self.recent.append(
                Attempt(
                    at=now.at, seq=last, event_type=_RETENTION, number=0, status=0, took_us=0,
                    error=error,
                )
            )  # fmt: skip
        self.waiting.extend(event for event in batch.events if event.seq > self.delivered_seq)
        self.through_seq = batch.through_seq
        self.head_since_at = now.at
        self._advance()

    def stop_reading(self) -> None:
        self.feed_id, self.feed_stale = None, False
        self.waiting.clear()
        self.through_seq = self.delivered_seq

    def _advance(self) -> None:
        if not self.waiting:
            self.delivered_seq = max(self.delivered_seq, self.through_seq)

    # ---- posting

    def landed(self, outcome: Outcome, now: Moment) -> bool:
        """What became of the event that was under way; whether the webhook is to be paused now."""
        event, self.flight = self.flight, None
        assert event is not None
        self.recent.append(attempt_of(event, self.number, outcome, now))
        self.lags = outcome.error is not None or outcome.took_us > self._limits.slow_s * SECOND
        if outcome.error is None:
            self._confirmed(event, now)
            return False
        return self._failed(event, outcome, now)

    def _confirmed(self, event: Event, now: Moment) -> None:
        self.forgive()
        self.number = 0
        self.delivered_at = now.at
        self.delivered_total += 1
        self.delivered_seq = max(self.delivered_seq, event.seq)
        self.head_since_at = now.at
        if self.waiting and self.waiting[0].seq == event.seq:
            self.waiting.popleft()
            self._advance()

    def _failed(self, event: Event, outcome: Outcome, now: Moment) -> bool:
        limits = self._limits
        self.failures += 1
        self.error = outcome.error or ""
        if self.failing_since_at is None:
            self.failing_since_at = now.at
        pause_s = max(
            _backoff_s(limits, self.failures, f"{self.key}/{event.seq}"),
            min(outcome.retry_after_s or 0.0, limits.retry_after_s_max),
        )
        self.due = Moment(now.mono + pause_s, now.at + round(pause_s * SECOND))
        failing_us = now.at - self.failing_since_at
        too_often = self.failures >= limits.failures_max
        return outcome.gone or (too_often and failing_us >= limits.failing_s * SECOND)

    def forgive(self) -> None:
        """Forget what has failed."""
        self.failures, self.failing_since_at, self.due, self.error = 0, None, None, ""

    # ---- the webhook itself

    def adopt(self, webhook: Webhook) -> None:
        """Go on with a later version."""
        before, self.webhook = self.webhook, webhook
        resumed = before.state is not webhook.state and webhook.state is WebhookState.ACTIVE
        if resumed or (before.url, before.secret) != (webhook.url, webhook.secret):
            self.forgive()
            self.lags = False
        if before.types != webhook.types:
            self.feed_stale = True
        if webhook.begins_after_seq > self.delivered_seq:
            self.delivered_seq = webhook.begins_after_seq
            self.feed_stale = True

    # ---- telling

    def cursor(self, now_at: int) -> Cursor:
        return Cursor(
            tenant_id=self.key[0],
            webhook_id=self.key[1],
            seq=self.delivered_seq,
            note=self.note(),
            at=now_at,
        )

    def note(self) -> bytes:
        """I3"""
        return _encode(
            _Note(
                failures=self.failures,
                since_at=self.failing_since_at,
                incident=self.incident,
                opened=self.opened,
            )
        )

    def delivery(self) -> Delivery:
        waits = self.active and self.due is not None and bool(self.waiting)
        return Delivery(
            webhook_id=self.key[1],
            delivered_seq=self.delivered_seq,
            delivered_at=self.delivered_at,
            delivered_total=self.delivered_total,
            failures=self.failures,
            failing_since_at=self.failing_since_at,
            next_at=self.due.at if waits and self.due is not None else None,
            recent=tuple(self.recent),
        )

    def waiting_since_at(self) -> int | None:
        """Since when the event that is next waits to be confirmed, as far as is known."""
        if not self.active or not self.waiting:
            return None
        return min(self.head_since_at, self.failing_since_at or self.head_since_at)


def attempt_of(event: Event, number: int, outcome: Outcome, now: Moment) -> Attempt:
    return Attempt(
        at=now.at,
        seq=event.seq,
        event_type=event.event_type,
        number=number,
        status=outcome.status,
        took_us=outcome.took_us,
        error=outcome.error,
    )


def incident_in_doubt(cursor: Cursor) -> int | None:
    """The incident that is noted with a cursor and not known to be in the ledger."""
    note = _note_of(cursor)
    return None if note.opened else note.incident


def _note_of(cursor: Cursor | None) -> _Note:
    """A note that cannot be read says nothing: the webhook begins without a past."""
    try:
        return _Note() if cursor is None else _decode(cursor.note)
    except msgspec.DecodeError:
        return _Note()


def _backoff_s(limits: NotifierLimits, failures: int, name: str) -> float:
    """Doubled with each failure, then shortened by up to half: by a hash, so that webhooks that
    failed together do not come back together."""
    doublings = min(failures - 1, 30)
    whole_s = min(limits.backoff_s_min * 2.0**doublings, limits.backoff_s_max)
    octets = hashlib.blake2b(f"{name}/{failures}".encode(), digest_size=4).digest()
    return whole_s * (1.0 - int.from_bytes(octets) / 2**33)
