"""One tenant whose events somebody follows: its ring, its topics, and what each group needs next.

A group is *settled* whenever what it can get may have changed: it goes in line for a round when the
ring or the page has something for it, waits for the ledger to be read when neither reaches back to
its cursor, and else waits for the ring to move.

I1  A batch begins right behind the cursor of its group, and ends at the seq up to which everything
    has been looked at; so readers get each event that matches once, in order.
I2  A reader rejoins the ring when that holds what follows its cursor. Before the ring has begun it
    waits, once a read that began after the ring listened has found nothing behind its cursor.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from jobengine.core.broadcaster.batches import make_batch, make_live_batch
from jobengine.core.broadcaster.index import TopicIndex
from jobengine.core.broadcaster.limits import BroadcasterLimits
from jobengine.core.broadcaster.page import Page
from jobengine.core.broadcaster.ring import Ring
from jobengine.core.broadcaster.topic import Group, Reader, Topic
from jobengine.domain.entry import Block
from jobengine.domain.event_filter import EventFilter

__all__ = ["FollowedTenant"]

_SEARCHED_A_UNIT: Final = 1_024


class FollowedTenant:
    """``line`` is where groups of all tenants wait for their turn in a round, ``hungry`` where
    tenants wait for a read of the ledger."""

    def __init__(
        self,
        tenant_id: str,
        limits: BroadcasterLimits,
        line: "deque[tuple[FollowedTenant, Group]]",
        hungry: "dict[FollowedTenant, None]",
    ) -> None:
        self.tenant_id = tenant_id
        self.ring = Ring()
        self.page: Page | None = None
        self.paged = 0
        """Groups in line for what the page has; it is not replaced while there are any."""
        self.behind: dict[Group, None] = {}
        """Groups that wait for the ledger to be read, those first that have waited longest."""
        self.topics: dict[EventFilter, Topic] = {}
        self.log_readers: dict[str, dict[int, Reader]] = {}
        self.doubts = 0
        self._limits = limits
        self._line = line
        self._hungry = hungry
        self._index = TopicIndex()
        self._parked: dict[Group, None] = {}
        self._ended_seq: int | None = None
        self._quiet_seq = 0
        self._live_readers = 0

    # ---- readers

    def follow(self, reader_id: int, wanted: EventFilter, cursor: int, logs: str | None) -> Reader:
        topic = self.topics.get(wanted)
        if topic is None:
            topic = self.topics[wanted] = Topic(wanted)
            self._index.add(topic)
        topic.readers += 1
        reader = Reader(reader_id, topic, cursor, logs)
        if logs is not None:
            self.log_readers.setdefault(logs, {})[reader_id] = reader
        self.join(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        self.part(reader)
        topic = reader.topic
        topic.readers -= 1
        if not topic.readers:
            self._index.drop(topic)
            del self.topics[topic.wanted]
        if reader.logs_of is not None:
            told = self.log_readers[reader.logs_of]
            del told[reader.reader_id]
            if not told:
                del self.log_readers[reader.logs_of]

    def join(self, reader: Reader) -> None:
        """Put a reader that has room where its cursor is."""
        topic = reader.topic
        if self.ring.begun and topic.is_live(reader.cursor, self.ring.front):
            self._enter_live(reader)
            return
        group = topic.group_at(reader.cursor)
        group.readers[reader.reader_id] = reader
        reader.group = group
        self.settle(group)

    def part(self, reader: Reader) -> None:
        """Take a reader out of its group, if it is in one; its cursor says how far it has come."""
        group = reader.group
        if group is None:
            return
        reader.group = None
        del group.readers[reader.reader_id]
        if group.live:
            self._live_readers -= 1
            reader.cursor = reader.topic.position(self.ring.front)
            if not group.readers:
                group.pending.clear()
        else:
            reader.cursor = group.after_seq
            if not group.readers:
                self.forget(group)

    def position(self, reader: Reader) -> int:
        group = reader.group
        if group is None:
            return reader.cursor
        return reader.topic.position(self.ring.front) if group.live else group.after_seq

    def _enter_live(self, reader: Reader) -> None:
        live = reader.topic.live
        if not live.readers:
            live.after_seq = self.ring.front
        live.readers[reader.reader_id] = reader
        reader.group = live
        self._live_readers += 1

    # ---- what a group needs next

    def settle(self, group: Group) -> None:
        """See to it that a group which is not live gets what comes after its cursor."""
        if group.queued:
            return
        ring, seq = self.ring, group.after_seq
        self._parked.pop(group, None)
        if group.batch is not None:
            self._unlist(group)
            self.enqueue(group)
        elif ring.begun and seq >= ring.floor:
            self._rejoin(group)
        elif self.page is not None and self.page.covers(seq):
            self._unlist(group)
            group.paged = True
            self.paged += 1
            self.enqueue(group)
        elif self._ended_seq is not None and seq >= self._ended_seq:
            self._unlist(group)
            self._parked[group] = None
        elif not group.behind:
            group.behind = True
            self.behind[group] = None
            self._hungry[self] = None

    def _rejoin(self, group: Group) -> None:
        self._unlist(group)
        topic, front = group.topic, self.ring.front
        if topic.is_live(group.after_seq, front):
            readers = list(group.readers.values())
            group.readers.clear()
            self.forget(group)
            for reader in readers:
                self._enter_live(reader)
        elif group.after_seq < front:
            self.enqueue(group)
        else:
            self._parked[group] = None

    def enqueue(self, group: Group) -> None:
        if not group.queued:
            group.queued = True
            self._line.append((self, group))

    def dequeued(self, group: Group) -> None:
        """It is its turn."""
        group.queued = False
        if group.paged:
            group.paged = False
            self.paged -= 1

    def forget(self, group: Group) -> None:
        """A group without readers is no more; in line it is passed over."""
        self._unlist(group)
        self._parked.pop(group, None)
        if group.topic.groups.get(group.after_seq) is group:
            del group.topic.groups[group.after_seq]

    def _unlist(self, group: Group) -> None:
        if group.behind:
            group.behind = False
            del self.behind[group]

    # ---- the ring

    def publish(self, block: Block, bytes_max: int) -> None:
        ring = self.ring
        begun, front = ring.begun, ring.front
        ring.push(block, self._limits.ring_events_max, bytes_max)
        if not begun:
            self._ended_seq = None
            self._begin()
        elif ring.front != front:
            self._demote(front)
            self._begin()
        else:
            self._demote_trimmed()

    def _begin(self) -> None:
        self._quiet_seq = self.ring.front
        self._settle_parked()
        for group in list(self.behind):
            self.settle(group)

    def doubt(self) -> None:
        """Blocks may have become durable that were not published: see what the ledger has."""
        front, begun = self.ring.front, self.ring.begun
        self.doubts += 1
        self.ring.clear()
        self._ended_seq = None
        if begun:
            self._demote(front)
        self._settle_parked()

    @property
    def unmade(self) -> bool:
        """Whether somebody waits for events that have not been made yet."""
        return self.ring.front < self.ring.tip and bool(self._live_readers or self._parked)

    def make(self) -> int:
        """Make the next events of the ring and say who wants them; what that costs, in units."""
        body = self.ring.next_body()
        if body is not None and self._index.passes_by(body) and not self._holds_pending():
            self.ring.pass_by()
            self._tell_quiet()
            self._settle_parked()
            return 1 + len(body) // _SEARCHED_A_UNIT
        made = self.ring.make(self._limits.piece_bytes)
        if self._live_readers:
            matching = self._index.matching
            for event in made:
                for topic in matching(event):
                    live = topic.live
                    if live.readers:
                        live.pending.append(event)
                        if not live.queued:
                            self.enqueue(live)
            self._tell_quiet()
        self._settle_parked()
        return len(made)

    def _holds_pending(self) -> bool:
        return any(topic.live.pending for topic in self.topics.values())

    def _tell_quiet(self) -> None:
        """Let those for whom nothing matches hear now and then how far they have come."""
        front, quiet_max = self.ring.front, self._limits.quiet_events_max
        if front - self._quiet_seq < quiet_max:
            return
        self._quiet_seq = front
        for topic in self.topics.values():
            live = topic.live
            if live.readers and self._is_quiet(live):
                self.enqueue(live)

    def _settle_parked(self) -> None:
        for group in list(self._parked):
            self.settle(group)

    def _demote(self, front: int) -> None:
        """The ring has left the live groups behind, which had seen it up to ``front``."""
        for topic in self.topics.values():
            if topic.live.readers:
                self._demote_live(topic, front)

    def _demote_trimmed(self) -> None:
        """The same for those whose first pending event the ring no longer holds."""
        floor = self.ring.floor
        for topic in self.topics.values():
            pending = topic.live.pending
            if pending and pending[0].seq <= floor:
                self._demote_live(topic, self.ring.front)

    def _demote_live(self, topic: Topic, front: int) -> None:
        readers = list(topic.live.readers.values())
        seq = topic.position(front)
        topic.live.readers.clear()
        topic.live.pending.clear()
        self._live_readers -= len(readers)
        group = topic.group_at(seq)
        for reader in readers:
            reader.group = group
            group.readers[reader.reader_id] = reader
        self.settle(group)

    # ---- what has been handed out

    def served_live(self, live: Group, count: int) -> None:
        """The first of the live group have its batch; the others get the same one in their turn."""
        batch, live.batch = live.batch, None
        assert batch is not None
        rest = list(live.readers.values())[count:]
        if live.pending:
            self.enqueue(live)
        if not rest:
            return
        group = live.topic.group_at(batch.after_seq)
        if group.batch is None:
            group.batch = batch
        for reader in rest:
            del live.readers[reader.reader_id]
            group.readers[reader.reader_id] = reader
            reader.group = group
        self._live_readers -= len(rest)
        self.settle(group)

    def served(self, group: Group, readers: Sequence[Reader]) -> None:
        """These of a group that is not live have its batch."""
        batch = group.batch
        assert batch is not None
        for reader in readers:
            del group.readers[reader.reader_id]
        if group.readers:
            self.settle(group)
        else:
            group.batch = None
            self.forget(group)
        for reader in readers:
            reader.cursor = batch.through_seq
            self.join(reader)

    # ---- the ledger

    def read(self, page: Page | None, after_seq: int) -> None:
        """The ledger was read from this cursor on. None: it ended there, so whoever has come as far
        waits for the ring to begin (I2)."""
        if page is not None:
            self.page = page
        elif not self.ring.begun:
            self._ended_seq = after_seq
        for group in list(self.behind):
            self.settle(group)

    # ---- batches

    def build(self, group: Group) -> int:
        """Make the batch of a group, if there is one; what that cost, in units."""
        if group.live:
            if group.pending or self._is_quiet(group):
                return make_live_batch(self.tenant_id, group, self.ring.front, self._limits)
            return 0
        ring, page, seq = self.ring, self.page, group.after_seq
        if ring.begun and seq >= ring.floor:
            if seq < ring.front:
                return make_batch(self.tenant_id, group, ring.events, ring.floor, self._limits)
        elif page is not None and page.covers(seq):
            units = 0
            if page.front <= max(seq, page.gone_seq) and page.front < page.last_seq:
                units = page.make(self._limits.piece_bytes)
            if page.front > seq:
                units += make_batch(self.tenant_id, group, page.events, page.gone_seq, self._limits)
            return units
        return 0

    def _is_quiet(self, live: Group) -> bool:
        return self.ring.front - live.after_seq >= self._limits.quiet_events_max
