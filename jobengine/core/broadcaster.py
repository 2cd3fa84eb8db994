"""The broadcaster: recent events of the tenants that somebody follows.

Decides which events a reader gets from memory, and when it has to go back to the ledger.

A reader holds a cursor and asks for what comes after it. What memory still holds is answered at
once, a reader that is up to date waits here, one that has fallen behind the ring reads the ledger
itself until it has caught up. So a slow reader costs nothing but its own cursor.

I1  An answer holds events in order, without a gap, right after the cursor; or says ``behind``.
    A ring has no gap: blocks that do not continue it, as after a ledger that died between commit
    and publication, begin it anew.
I2  Events are made and encoded once per tenant, and only while somebody follows it.
I3  Memory is bounded: each tenant's ring by count and bytes, readers by their number.
I4  A reader that is not known, as after a restart, is refused: it has to follow anew.

Not here: filters, the wire (``http``), what is behind the ring (``store``).
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import attrs

from jobengine.core.machine import Answer, Refuse
from jobengine.domain.event import Event, events_of
from jobengine.domain.instant import Moment
from jobengine.messages.broadcaster import Follow, Leave, Published, Read, ReadAnswer
from jobengine.messages.wake import Wake

__all__ = ["BroadcasterCore", "BroadcasterLimits", "NotFollowingError"]


class NotFollowingError(Exception):
    """Whoever reads has not said what it follows, at least not to this life of the broadcaster."""


@attrs.frozen(kw_only=True)
class BroadcasterLimits:
    """Bounds of one tenant's ring, and of one answer."""

    answer_events_max: int = 512
    ring_bytes_max: int = 8 << 20
    ring_events_max: int = 8_192


@attrs.define(eq=False)
class _Ring:
    events: deque[Event] = attrs.field(factory=deque)
    size: int = 0
    last_seq: int = 0
    readers: set[int] = attrs.field(factory=set)
    waiting: dict[int, Read] = attrs.field(factory=dict)


class BroadcasterCore:
    """``handle`` is the only verb; see ``core/machine.py``."""

    wakeup_at: float | None = None

    def __init__(self, limits: BroadcasterLimits) -> None:
        self._limits = limits
        self._rings: dict[str, _Ring] = {}
        self._tenants: dict[int, str] = {}

    @property
    def readers(self) -> int:
        return len(self._tenants)

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        match message:
            case Published():
                return self._published(message)
            case Read():
                return self._read(message)
            case Follow():
                self._tenants[message.reader_id] = message.tenant_id
                ring = self._rings.setdefault(message.tenant_id, _Ring())
                ring.readers.add(message.reader_id)
                return ()
            case Leave():
                self._leave(message)
                return ()
            case Wake():
                return ()
            case _:
                raise TypeError(f"the broadcaster does not understand {type(message).__name__}")

    def _published(self, message: Published) -> list[Any]:
        commands: list[Any] = []
        for block in message.blocks:
            ring = self._rings.get(block.tenant_id)
            if ring is None:
                continue
            if block.first_seq != ring.last_seq + 1:
                ring.events.clear()
                ring.size = 0
            ring.last_seq = block.last_seq
            for event in events_of(block):
                ring.events.append(event)
                ring.size += len(event.body)
            self._trim(ring)
            for read in list(ring.waiting.values()):
                answer = self._answer(ring, read)
                if answer is not None:
                    del ring.waiting[read.reader_id]
                    commands.append(Answer(read.ask_id, answer))
        return commands

    def _read(self, message: Read) -> list[Any]:
        tenant_id = self._tenants.get(message.reader_id)
        if tenant_id is None:
            return [Refuse(message.ask_id, NotFollowingError())]
        ring = self._rings[tenant_id]
        answer = self._answer(ring, message)
        if answer is not None:
            return [Answer(message.ask_id, answer)]
        ring.waiting[message.reader_id] = message
        return []

    def _answer(self, ring: _Ring, read: Read) -> ReadAnswer | None:
        """What the ring has for a reader; None when the reader is up to date."""
        if ring.last_seq <= read.after_seq:
            return None
        if not ring.events:
            return ReadAnswer(behind=True)
        skipped = read.after_seq + 1 - ring.events[0].seq
        if skipped < 0:
            return ReadAnswer(behind=True)
        count = min(len(ring.events) - skipped, self._limits.answer_events_max)
        return ReadAnswer(events=list(islice(ring.events, skipped, skipped + count)))

    def _leave(self, message: Leave) -> None:
        tenant_id = self._tenants.pop(message.reader_id, None)
        if tenant_id is None:
            return
        ring = self._rings[tenant_id]
        ring.readers.discard(message.reader_id)
        ring.waiting.pop(message.reader_id, None)
        if not ring.readers:
            del self._rings[tenant_id]

    def _trim(self, ring: _Ring) -> None:
        limits = self._limits
        while ring.size > limits.ring_bytes_max or len(ring.events) > limits.ring_events_max:
            ring.size -= len(ring.events.popleft().body)
