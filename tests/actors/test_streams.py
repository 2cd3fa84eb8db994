"""Streams of events: every one of a tenant, in order, once, however and from wherever they come."""

from collections.abc import Iterator
from contextlib import aclosing

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.address import Address
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.domain.event import Event
from jobengine.engine import Engine
from jobengine.settings import Settings
from jobengine.testing import memory_engine
from tests.actors.bare_worker import TENANT, new_job, submit
from tests.actors.faulty_store import FaultyStore


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
            async for events in stream:
                for event in events:
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
        before = trio.current_time()
        await submit_many(engine, 20)
        await wait_all_tasks_blocked()
        assert (reader.last, trio.current_time()) == (40, before)
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
        engine.ledger.broadcaster = Address(Mailbox("nobody", 16), engine.asks)
        await submit_many(engine, 3)
        engine.ledger.broadcaster = engine.gateway.broadcaster
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
        assert engine.broadcaster.core is not None
        assert engine.broadcaster.core.readers == 0
