"""Streams of events: every one of a tenant, in order, once, however and from wherever they come."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.address import Address
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EventFilter
from jobengine.engine import Engine
from jobengine.messages.broadcaster import Moved
from jobengine.messages.worker_reports import Logged
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import TENANT, BareWorker, new_job, submit
from tests.actors.faulty_store import Fault, FaultyStore, fail_call


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class Reader:
    """Follows a tenant; ``pause_s`` makes it slow. A gap or a repeat fails it at once."""

    def __init__(self, engine: Engine, after_seq: int = 0, *, tenant: str = TENANT) -> None:
        self.engine, self.tenant = engine, tenant
        self.last = after_seq
        self.events: list[Event] = []
        self.pause_s = 0.0
        self._moved = trio.Event()

    async def run(self) -> None:
        async with aclosing(self.engine.gateway.events(self.tenant, self.last)) as stream:
            async for batch in stream:
                assert batch.gap is None
                for event in batch.events:
                    assert event.seq == self.last + 1
                    self.last = event.seq
                    self.events.append(event)
                self._moved.set()
                self._moved = trio.Event()
                await trio.sleep(self.pause_s)

    async def reach(self, seq: int) -> None:
        with trio.fail_after(600):
            while self.last < seq:
                await self._moved.wait()


async def head(engine: Engine, tenant: str = TENANT) -> int:
    heads = await engine.store.heads([tenant])
    return heads[tenant].next_seq - 1


async def submit_many(engine: Engine, count: int, *, tenant: str = TENANT) -> None:
    for _ in range(count):
        await submit(engine, new_job(engine), tenant_id=tenant)


async def test_a_reader_from_the_start_sees_the_past_and_then_what_comes(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        await submit_many(engine, 200)
        reader = Reader(engine)
        nursery.start_soon(reader.run)
        await reader.reach(400)
        await submit_many(engine, 50)
        await reader.reach(500)
        assert await head(engine) == 500
        assert [event.event_type for event in reader.events[-2:]] == [
            "job.created",
            "job.scheduled",
        ]
        nursery.cancel_scope.cancel()


async def test_a_reader_from_the_middle_of_a_block_sees_the_rest_of_it(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        await submit(engine, *(new_job(engine) for _ in range(10)))
        reader = Reader(engine, after_seq=13)
        nursery.start_soon(reader.run)
        await reader.reach(20)
        assert [event.seq for event in reader.events] == list(range(14, 21))
        nursery.cancel_scope.cancel()


async def test_events_come_as_they_happen_without_reading_the_store(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        reader = Reader(engine)
        nursery.start_soon(reader.run)
        await wait_all_tasks_blocked()
        reads = store.calls["blocks"]
        await submit_many(engine, 20)
        with trio.fail_after(0.1):
            await reader.reach(40)
        await trio.sleep(3600)
        assert store.calls["blocks"] == reads
        nursery.cancel_scope.cancel()


async def test_a_reader_slower_than_the_ring_catches_up_from_the_ledger(
    autojump_clock: MockClock,
) -> None:
    settings = Settings(shards=2, ring_events_max=16)
    async with memory_engine(settings=settings) as engine, trio.open_nursery() as nursery:
        slow, quick = Reader(engine), Reader(engine)
        slow.pause_s = 5.0
        for reader in (slow, quick):
            nursery.start_soon(reader.run)
        for _ in range(100):
            await submit_many(engine, 1)
            await trio.sleep(0.2)
        await quick.reach(200)
        assert slow.last < 200
        await slow.reach(200)
        nursery.cancel_scope.cancel()


async def test_readers_go_on_over_a_restart_of_the_broadcaster(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        waiting, slow = Reader(engine), Reader(engine)
        slow.pause_s = 2.0
        for reader in (waiting, slow):
            nursery.start_soon(reader.run)
        [box] = [box for box in engine.mailboxes if box.name == "broadcaster"]
        for lives in range(1, 4):
            await submit_many(engine, 10)
            box.deliver(object())
            await submit_many(engine, 10)
            await trio.sleep(1)
            await submit_many(engine, 10)
            for reader in (waiting, slow):
                await reader.reach(60 * lives)
        await trio.sleep(10)
        reads = store.calls["blocks"]
        await trio.sleep(3600)
        assert store.calls["blocks"] == reads
        nursery.cancel_scope.cancel()


async def test_events_that_were_never_published_are_read_from_the_ledger(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        reader = Reader(engine)
        nursery.start_soon(reader.run)
        await submit_many(engine, 3)
        await reader.reach(6)
        broadcaster = engine.ledger.broadcaster
        engine.ledger.broadcaster = Address(Mailbox("nobody", 16), engine.asks)
        await submit_many(engine, 3)
        engine.ledger.broadcaster = broadcaster
        await submit_many(engine, 3)
        await reader.reach(18)
        nursery.cancel_scope.cancel()


async def test_readers_see_their_own_tenant_alone_and_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        async with trio.open_nursery() as nursery:
            readers = [Reader(engine, tenant=f"t{n % 4}") for n in range(20)]
            for reader in readers:
                nursery.start_soon(reader.run)
            for number in range(4):
                await submit_many(engine, number + 1, tenant=f"t{number}")
            await trio.sleep(1)
            assert [reader.last for reader in readers[:4]] == [2, 4, 6, 8]
            assert all(
                f'"tenantId":"t{number}"'.encode() in event.body
                for number, reader in enumerate(readers[:4])
                for event in reader.events
            )
            nursery.cancel_scope.cancel()
        await trio.sleep(1)
        assert engine.broadcaster.census().readers == 0


class Kept:
    """A sink that keeps what it is given, and is full with `room` batches."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.batches: list[Batch] = []
        self.logged_total = 0
        self.held = 0
        self._moved = trio.Event()

    def take(self, batch: Batch) -> bool:
        self.batches.append(batch)
        self.held += 1
        self._moved.set()
        self._moved = trio.Event()
        return self.held < self.room

    def logged(self) -> None:
        self.logged_total += 1

    @property
    def seqs(self) -> list[int]:
        return [event.seq for batch in self.batches for event in batch.events]

    async def reach(self, seq: int, within_s: float = 60.0) -> None:
        with trio.fail_after(within_s):
            while not self.batches or self.batches[-1].through_seq < seq:
                await self._moved.wait()


class Failing(Kept):
    def take(self, batch: Batch) -> bool:
        raise ValueError("a sink must not raise")

    def logged(self) -> None:
        raise ValueError("a sink must not raise")


class Watching:
    def __init__(self) -> None:
        self.heard: list[Sequence[Moved]] = []

    def moved(self, moved: Sequence[Moved]) -> None:
        self.heard.append(moved)


async def fail_actor(engine: Engine, name: str) -> None:
    """End one life of an actor by a message that it does not understand."""
    [box] = [box for box in engine.mailboxes if box.name == name]
    box.deliver(object())
    await trio.sleep(1)


async def test_sinks_notice_nothing_of_a_restart_of_the_broadcaster(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        streams = engine.gateway.streams
        quick, slow, jobs = Kept(), Kept(room=1), Kept()
        held = [
            streams.follow(TENANT, 0, quick),
            streams.follow(TENANT, 0, slow),
            streams.follow(TENANT, 0, jobs, EventFilter.of(["job.created"])),
        ]
        for _ in range(3):
            await submit_many(engine, 5)
            await fail_actor(engine, "broadcaster")
        await quick.reach(30)
        assert quick.seqs == list(range(1, 31))
        assert jobs.seqs == list(range(1, 31, 2))
        assert len(slow.batches) <= 1 + 3
        slow.room = 1_000_000
        held[1].roomy()
        await slow.reach(30)
        assert slow.seqs == quick.seqs
        for each in held:
            each.leave()
            each.leave()
        await submit_many(engine, 1)
        await trio.sleep(1)
        assert quick.seqs == list(range(1, 31))
        assert engine.broadcaster.census().readers == 0


async def test_a_sink_that_raises_is_dropped_and_nobody_else(autojump_clock: MockClock) -> None:
    async with memory_engine() as engine:
        streams = engine.gateway.streams
        with structlog.testing.capture_logs() as logs:
            good = Kept()
            streams.follow(TENANT, 0, Failing())
            streams.follow(TENANT, 0, good)
            await submit_many(engine, 5)
            await good.reach(10)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["sink_failed"]
        assert good.seqs == list(range(1, 11))
        assert engine.broadcaster.census().readers == 1
        assert engine.broadcaster.batches_total > 1
        assert engine.broadcaster.events_total >= 10


async def test_a_node_takes_only_so_many_readers(autojump_clock: MockClock) -> None:
    settings = Settings(shards=2, stream_readers_max=2)
    async with memory_engine(settings=settings) as engine, trio.open_nursery() as nursery:
        streams = engine.gateway.streams
        first = streams.follow(TENANT, 0, Kept())
        streams.follow("another", 0, Kept())
        with pytest.raises(RefusedError) as refused:
            streams.follow("third", 0, Kept())
        assert refused.value.refusal.code is ErrorCode.OVERLOADED
        assert refused.value.refusal.details["retryAfterSeconds"] > 0
        own = Reader(engine)
        nursery.start_soon(own.run)
        await submit_many(engine, 1)
        await own.reach(2)
        first.leave()
        streams.follow(TENANT, 0, Kept())
        nursery.cancel_scope.cancel()


async def test_readers_of_one_tenant_leave_half_of_the_node_to_others(
    autojump_clock: MockClock,
) -> None:
    settings = Settings(shards=2, stream_readers_max=6)
    async with memory_engine(settings=settings) as engine:
        streams = engine.gateway.streams
        first, *_ = [streams.follow(TENANT, 0, Kept()) for _ in range(3)]
        with pytest.raises(RefusedError, match="the tenant's share"):
            streams.follow(TENANT, 0, Kept())
        for _ in range(3):
            streams.follow("another", 0, Kept())
        first.leave()
        first.leave()
        streams.follow(TENANT, 0, Kept())
        with pytest.raises(RefusedError, match="this node serves 6"):
            streams.follow("third", 0, Kept())


async def test_no_moment_is_to_spare_while_a_change_waits_for_the_database(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        actor = engine.broadcaster
        assert await actor._await_spare() is not None
        actor.ledger.waiting_since_mono = trio.current_time()
        assert await actor._await_spare() is None
        actor.ledger.waiting_since_mono = None
        assert await actor._await_spare() is not None


async def test_watchers_hear_of_all_tenants_and_when_they_may_have_missed_something(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        watcher = Watching()
        watching = engine.gateway.streams.watch(watcher)
        await submit_many(engine, 2, tenant="t1")
        await submit_many(engine, 1, tenant="t2")
        await trio.sleep(1)
        assert {each.tenant_id: each.last_seq for heard in watcher.heard for each in heard} == {
            "t1": 4,
            "t2": 2,
        }
        watcher.heard.clear()
        await fail_actor(engine, "broadcaster")
        assert watcher.heard == [()]
        await submit_many(engine, 1, tenant="t2")
        await trio.sleep(1)
        assert watcher.heard[-1] == (Moved("t2", 4),)
        watching.leave()
        watching.leave()
        await submit_many(engine, 1, tenant="t2")
        await trio.sleep(1)
        assert watcher.heard[-1] == (Moved("t2", 4),)


async def test_stored_log_lines_are_told_though_they_are_no_events(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        [submitted] = await submit(engine, new_job(engine))
        worker = BareWorker(engine)
        await worker.attach()
        [grant] = await worker.leases(1)
        one, other = Kept(), Kept()
        streams = engine.gateway.streams
        streams.follow(TENANT, 0, one, logs_of=submitted.job_id)
        streams.follow(TENANT, 0, other, logs_of="another")
        await trio.sleep(1)
        before = await head(engine)
        lines = canonical_of([{"at": 1, "level": "info", "text": "hello"}])
        await worker.report(
            Logged(ref="l", lease_id=grant.lease_id, token=grant.token, lines=lines)
        )
        await trio.sleep(1)
        assert (one.logged_total, other.logged_total) == (1, 0)
        assert await head(engine) == before


async def test_readers_wait_while_the_database_is_away(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        await submit_many(engine, 20)
        store.plan = fail_call("blocks", Fault(away=True), last=1_000_000)
        reader = Reader(engine)
        nursery.start_soon(reader.run)
        await trio.sleep(60)
        assert reader.last == 0
        assert store.calls["blocks"] < 60
        store.plan = None
        await reader.reach(40)
        nursery.cancel_scope.cancel()


async def test_events_of_a_ledger_that_failed_before_it_published_come_without_another_commit(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        sink = Kept()
        engine.gateway.streams.follow(TENANT, 0, sink)
        await submit_many(engine, 3)
        await sink.reach(6)
        broadcaster = engine.ledger.broadcaster
        engine.ledger.broadcaster = Address(Mailbox("nobody", 16), engine.asks)
        await submit_many(engine, 3)
        engine.ledger.broadcaster = broadcaster
        await trio.sleep(10)
        assert sink.seqs == list(range(1, 7))
        await fail_actor(engine, "ledger")
        await sink.reach(12)
        assert sink.seqs == list(range(1, 13))


async def test_a_reader_that_is_left_behind_gets_what_retention_kept_and_a_gap(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with memory_engine(store=store) as engine:
        await submit_many(engine, 10)
        del store._tables.blocks[TENANT][:4]
        batches = []
        async with aclosing(engine.gateway.events(TENANT, 2)) as stream:
            async for batch in stream:
                batches.append(batch)
                if batch.through_seq == 20:
                    break
        gaps = [batch.gap for batch in batches if batch.gap]
        assert len(gaps) == 1
        assert gaps[0][0] == 3
        assert [event.seq for batch in batches for event in batch.events] == list(
            range(gaps[0][1] + 1, 21)
        )
