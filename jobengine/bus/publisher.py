"""The event feed on its way to a bus: every tenant's events, in order, at least once.

I1  Events of a tenant are published by one task at a time, from what is confirmed on.
I2  A stored cursor names what the bus has confirmed, never more. It is written soon after, and when
    the publisher ends; what was confirmed and not yet written is published again after a crash.
I3  `_READERS` tenants are read at once, each for a turn of about `_TURN_EVENTS` where others wait.

Not here: whose turn it is (`turns`), the form on the bus (`jetstream`, `valkey_streams`).
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, TypeVar

import attrs
import structlog
import trio

from jobengine.actors.gateway import Gateway
from jobengine.bus.link import Link
from jobengine.bus.turns import Turns
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.messages.broadcaster import Moved
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.feeds import FeedBehind, FeedCursor

__all__ = ["Publisher"]

T = TypeVar("T")

_READERS: Final = 4
_AT_ONCE: Final = 128
_AT_ONCE_BYTES: Final = 1 << 20
_TURN_EVENTS: Final = 1_024
_PAGE: Final = 500
_AGAIN_S: Final = 60.0
_CURSORS_S: Final = 0.25
_STORE_PAUSE_S: Final = 1.0
_LAST_WRITE_S: Final = 3.0

_log = structlog.get_logger("jobengine.bus")


@attrs.define(eq=False, kw_only=True)
class Publisher:
    """One for the life of the node; it runs once for each link. `wanted` says whose events."""

    gateway: Gateway
    feed: str
    wanted: Callable[[str], bool]
    turns: Turns = attrs.field(init=False, factory=Turns)
    published_total: int = attrs.field(init=False, default=0)
    gaps_total: int = attrs.field(init=False, default=0)
    _unwritten: dict[str, int] = attrs.field(init=False, factory=dict)
    _stirred: trio.Event = attrs.field(init=False, factory=trio.Event)

    def moved(self, moved: Sequence[Moved]) -> None:
        """As a `Watcher` of the broadcaster."""
        for each in moved:
            if self.wanted(each.tenant_id):
                self.turns.moved(each.tenant_id, each.last_seq)
        self._stir()

    async def follow(self) -> None:
        """Learn who is behind, for ever, and keep the cursors written, the last ones at the end."""
        watching = self.gateway.streams.watch(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_for_tenants)
                nursery.start_soon(self._keep_cursors)
        finally:
            watching.leave()
            with (
                trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WRITE_S),
                suppress(StoreUnavailableError),
            ):
                await self._write_cursors()

    async def run(self, link: Link) -> None:
        """Publish through a link, until it ends."""
        async with trio.open_nursery() as nursery:
            for _ in range(_READERS):
                nursery.start_soon(self._take_turns, link)

    async def _look_for_tenants(self) -> None:
        """All that are behind in the store, in pages as they are worked off; from time to time
        again, so that no tenant hangs on one lost notice."""
        while True:
            after, page_full = "", True
            while page_full:
                await self._until(lambda: self.turns.waiting < _PAGE)
                page = await _patiently(partial(self._page, after))
                self.turns.found([row for row in page if self.wanted(row.tenant_id)])
                self._stir()
                page_full = len(page) == _PAGE
                after = page[-1].tenant_id if page else ""
            await trio.sleep(_AGAIN_S)

    async def _page(self, after: str) -> Sequence[FeedBehind]:
        return await self.gateway.store.feeds_behind(self.feed, after, _PAGE)

    async def _take_turns(self, link: Link) -> None:
        while True:
            tenant_id = self.turns.take()
            if tenant_id is None:
                await self._until(lambda: self.turns.waiting > 0)
                continue
            try:
                await self._turn(link, tenant_id)
            finally:
                self.turns.give_back(tenant_id)
                self._stir()

    async def _turn(self, link: Link, tenant_id: str) -> None:
        published = 0
        after_seq = await self._cursor(tenant_id)
        if not self._confirm(tenant_id, after_seq):
            return
        async with aclosing(self.gateway.events(tenant_id, after_seq)) as batches:
            async for batch in batches:
                await self._publish(link, batch)
                published += len(batch.events)
                behind = self._confirm(tenant_id, batch.through_seq)
                if not behind or (published >= _TURN_EVENTS and self.turns.waiting):
                    return

    async def _cursor(self, tenant_id: str) -> int:
        known = self.turns.confirmed(tenant_id)
        if known is not None:
            return known
        read = partial(self.gateway.store.feed_cursors, tenant_id, [self.feed])
        cursors = await _patiently(read)
        return cursors[0].seq if cursors else 0

    async def _publish(self, link: Link, batch: Batch) -> None:
        if batch.gap is not None:
            self.gaps_total += 1
            first, last = batch.gap
            _log.warning("bus_gap", tenant=batch.tenant_id, first_seq=first, last_seq=last)
        at = 0
        while at < len(batch.events):
            events = batch.events[at : at + _fitting(batch.events, at)]
            count = await link.publish(batch.tenant_id, events)
            self.published_total += count
            at += count
            self._confirm(batch.tenant_id, events[count - 1].seq)

    def _confirm(self, tenant_id: str, seq: int) -> bool:
        if seq > (self.turns.confirmed(tenant_id) or 0):
            self._unwritten[tenant_id] = seq
        return self.turns.confirm(tenant_id, seq)

    async def _keep_cursors(self) -> None:
        while True:
            await trio.sleep(_CURSORS_S)
            if self._unwritten:
                await _patiently(self._write_cursors)

    async def _write_cursors(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        at = self.gateway.clock.moment().at
        cursors = [
            FeedCursor(tenant_id=tenant_id, feed=self.feed, seq=seq, at=at)
            for tenant_id, seq in unwritten.items()
        ]
        written = not cursors
        try:
            if cursors:
                await self.gateway.store.move_feed_cursors(cursors)
            written = True
        finally:
            if not written:
                self._unwritten = unwritten | self._unwritten

    async def _until(self, happens: Callable[[], bool]) -> None:
        while not happens():
            await self._stirred.wait()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()


def _fitting(events: Sequence[Event], at: int) -> int:
    """How many events from here on are published at once: bounded in number and bytes."""
    size = 0
    for count, event in enumerate(events[at : at + _AT_ONCE]):
        size += len(event.body)
        if count and size > _AT_ONCE_BYTES:
            return count
    return min(_AT_ONCE, len(events) - at)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What the store answers, once it does."""
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            await trio.sleep(_STORE_PAUSE_S)
