"""A ledger, readers and a store around the broadcaster's core, without a shell.

Each reader checks what it is given against the whole history, which forgets nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from jobengine.core.broadcaster import BroadcasterCore, BroadcasterLimits
from jobengine.domain.entry import GENESIS, About, Block, Entry, encode_entries
from jobengine.domain.event import Event, events_of
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EVERYTHING, EventFilter
from jobengine.domain.instant import Moment
from jobengine.messages.broadcaster import (
    Deliver,
    Doubted,
    Follow,
    Full,
    Leave,
    LedgerRead,
    LedgerUnread,
    Message,
    Published,
    ReadLedger,
    Roomy,
    Rounded,
    Spare,
    TellLogged,
    TellMoved,
    TimeRound,
)
from jobengine.messages.wake import Wake

__all__ = ["Reader", "World", "block", "job_entry"]


def job_entry(seq: int, job: str, kind: str = "job.progressed", run: str | None = None) -> Entry:
    return Entry(
        about=About(job_type=f"type-{job}", payload_digest="d", queue="q", run_id=run),
        actor="a",
        at=seq,
        job=job,
        kind=kind,
        seq=seq,
    )


def block(entries: Sequence[Entry], tenant_id: str = "acme") -> Block:
    return Block(
        tenant_id=tenant_id,
        first_seq=entries[0].seq,
        last_seq=entries[-1].seq,
        at=0,
        previous=GENESIS,
        link=GENESIS,
        body=encode_entries(entries),
    )


@attrs.define(eq=False)
class Reader:
    """``room`` is how many batches it takes until it is full."""

    world: "World"
    reader_id: int
    tenant_id: str
    wanted: EventFilter
    told: int
    room: int = 1_000_000
    full: bool = False
    gone: bool = False
    held: int = 0
    batches: list[Batch] = attrs.field(factory=list)
    logged: int = 0

    @property
    def seqs(self) -> list[int]:
        return [event.seq for batch in self.batches for event in batch.events]

    def topic_pending(self) -> int:
        """Events that are held for it and its like."""
        _, reader = self.world.core._readers[self.reader_id]
        return len(reader.topic.live.pending)

    def take(self, batch: Batch) -> bool:
        world = self.world
        assert batch.tenant_id == self.tenant_id
        assert batch.after_seq <= batch.through_seq
        assert batch.through_seq > self.told
        gone_seq = 0
        if batch.gap is not None:
            first, gone_seq = batch.gap
            assert self.told < first <= gone_seq
            assert gone_seq <= world.gone.get(self.tenant_id, 0)
        wanted = world.matching(self, self.told, batch.through_seq)
        if batch.gap is not None:
            assert not any(event.seq < batch.gap[0] for event in wanted)
        expected = [event.seq for event in wanted if event.seq > gone_seq]
        assert [event.seq for event in batch.events] == expected
        self.told = batch.through_seq
        self.batches.append(batch)
        self.held += 1
        return self.held < self.room


class World:
    def __init__(self, **limits: Any) -> None:
        self.limits = BroadcasterLimits(**limits)
        self.mono = 100.0
        self.took_s = 0.0
        self.sent_bytes = 0
        self.rounds = 0
        self.lives = 1
        self.core = BroadcasterCore(self.limits, 1)
        self.history: dict[str, list[Event]] = {}
        self.blocks: dict[str, list[Block]] = {}
        self.gone: dict[str, int] = {}
        self.readers: dict[int, Reader] = {}
        self.reads: list[ReadLedger] = []
        self.reads_total = 0
        self.moved: list[TellMoved] = []
        self.commands: list[Any] = []
        self._last_id = 0

    # ---- the ledger

    def last_seq(self, tenant_id: str = "acme") -> int:
        history = self.history.get(tenant_id)
        return history[-1].seq if history else 0

    def commit(
        self,
        count: int = 1,
        tenant_id: str = "acme",
        *,
        publish: bool = True,
        make: Callable[[int], Entry] = lambda seq: job_entry(seq, f"j{seq % 3}"),
    ) -> Block:
        first = self.last_seq(tenant_id) + 1
        made = block([make(seq) for seq in range(first, first + count)], tenant_id)
        self.history.setdefault(tenant_id, []).extend(events_of(made))
        self.blocks.setdefault(tenant_id, []).append(made)
        if publish:
            self.tell(Published(blocks=(made,)))
        return made

    def forget(self, tenant_id: str, blocks: int) -> None:
        """Retention takes the oldest blocks."""
        taken = self.blocks.get(tenant_id, [])[:blocks]
        if taken:
            del self.blocks[tenant_id][:blocks]
            self.gone[tenant_id] = taken[-1].last_seq

    def matching(self, reader: Reader, after_seq: int, through_seq: int) -> list[Event]:
        history = self.history.get(reader.tenant_id, [])
        return [event for event in history[after_seq:through_seq] if reader.wanted.matches(event)]

    # ---- readers

    def follow(
        self,
        tenant_id: str = "acme",
        after_seq: int = 0,
        wanted: EventFilter = EVERYTHING,
        *,
        room: int = 1_000_000,
        logs_of: str | None = None,
    ) -> Reader:
        self._last_id += 1
        reader = Reader(self, self._last_id, tenant_id, wanted, after_seq, room)
        self.readers[reader.reader_id] = reader
        self.tell(
            Follow(
                reader_id=reader.reader_id,
                tenant_id=tenant_id,
                after_seq=after_seq,
                wanted=wanted,
                logs_of=logs_of,
            )
        )
        return reader

    def leave(self, reader: Reader) -> None:
        reader.gone = True
        self.readers.pop(reader.reader_id, None)
        self.tell(Leave(reader_id=reader.reader_id))

    def make_room(self, reader: Reader) -> None:
        reader.held = 0
        if reader.full:
            reader.full = False
            self.tell(Roomy(reader_id=reader.reader_id))

    # ---- time and the store

    def tell(self, message: Message | Wake) -> None:
        self._perform(self.core.handle(message, Moment(self.mono, 0)))

    def _perform(self, commands: Sequence[Any]) -> None:
        self.commands.extend(commands)
        full: list[int] = []
        timed = False
        for command in commands:
            match command:
                case Deliver():
                    reader = self.readers[command.reader_id]
                    if not reader.take(command.batch) and not reader.full:
                        reader.full = True
                        full.append(reader.reader_id)
                case TellLogged():
                    self.readers[command.reader_id].logged += 1
                case ReadLedger():
                    self.reads.append(command)
                    self.reads_total += 1
                case TellMoved():
                    self.moved.append(command)
                case TimeRound():
                    timed = True
                    self.rounds = command.number
        for reader_id in full:
            self.tell(Full(reader_id=reader_id))
        if timed:
            self.tell(Rounded(took_s=self.took_s, sent_bytes=self.sent_bytes))

    def spare(self, number: int) -> None:
        """Nobody else has had anything to do since the round of this number."""
        self.tell(Spare(number=number))

    def pause_s(self) -> float:
        assert self.core.wakeup_at is not None
        return self.core.wakeup_at - self.mono

    def step(self, late_s: float = 0.0) -> bool:
        """Go on to when the core wants to be woken; False when it does not."""
        at = self.core.wakeup_at
        if at is None:
            return False
        self.mono = max(self.mono, at) + late_s
        self.tell(Wake())
        return True

    def answer(self, *, fail: bool = False) -> bool:
        """What the store says to the oldest read; False when there is none."""
        if not self.reads:
            return False
        read = self.reads.pop(0)
        if fail:
            self.tell(LedgerUnread(stamp=read.stamp))
            return True
        self.tell_read(read, self.found(read))
        return True

    def tell_read(self, read: ReadLedger, blocks: Sequence[Block]) -> None:
        self.tell(LedgerRead(stamp=read.stamp, blocks=blocks))

    def found(self, read: ReadLedger) -> list[Block]:
        blocks = self.blocks.get(read.tenant_id, [])
        found = [each for each in blocks if each.last_seq > read.after_seq]
        return found[: self.limits.page_blocks_max]

    def settle(self, steps_max: int = 20_000) -> None:
        """Go on until nothing is left to do."""
        for _ in range(steps_max):
            if not self.answer() and not self.step():
                return
        raise AssertionError("it does not come to rest")

    def restart(self) -> None:
        """A new life of the broadcaster, which follows anew as its shell does."""
        self.lives += 1
        self.core = BroadcasterCore(self.limits, self.lives)
        for reader in self.readers.values():
            self.tell(
                Follow(
                    reader_id=reader.reader_id,
                    tenant_id=reader.tenant_id,
                    after_seq=reader.told,
                    wanted=reader.wanted,
                )
            )
            if reader.full:
                self.tell(Full(reader_id=reader.reader_id))

    def doubt(self) -> None:
        self.tell(Doubted())

    # ---- what must always hold

    def check(self) -> None:
        core, limits = self.core, self.limits
        tenants = core._tenants
        assert sorted(tenants) == sorted({each.tenant_id for each in self.readers.values()})
        assert core.readers == len(self.readers)
        reads = core._reads
        assert len(reads._under_way) <= limits.reads_max
        assert len(reads._under_way) + len(reads._paged) <= limits.pages_max
        assert {tenant for tenant in tenants.values() if tenant.page is not None} == set(
            reads._paged
        )
        for tenant in tenants.values():
            self._check_tenant(tenant)

    def _check_tenant(self, tenant: Any) -> None:
        ring, limits = tenant.ring, self.limits
        assert ring.tip - ring.floor <= limits.ring_events_max
        assert ring.size <= limits.ring_bytes_max
        assert [event.seq for event in ring.events] == list(range(ring.floor + 1, ring.front + 1))
        assert ring.floor <= ring.front <= ring.tip
        live = 0
        for topic in tenant.topics.values():
            assert topic.live.readers or not topic.live.pending
            assert all(event.seq > ring.floor for event in topic.live.pending)
            live += len(topic.live.readers)
            for seq, group in topic.groups.items():
                assert group.after_seq == seq
                assert group.readers
                waits = (group.queued, group.behind, group in tenant._parked)
                assert waits.count(True) == 1, waits
        assert live == tenant._live_readers
        paged = [group for each, group in self.core._line if each is tenant and group.paged]
        assert len(paged) == tenant.paged
