"""The custodian over a store: what was prepared follows a wall clock that is set."""

import trio
from trio.testing import MockClock

from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.domain.instant import DAY, SECOND
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine

EPOCH_AT = 1_767_225_600 * SECOND


class NotedStore(MemoryStore):
    """``prepared`` has the instants that it was prepared for, by when."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[tuple[float, int]] = []

    async def prepare(self, now_at: int) -> None:
        self.prepared.append((trio.current_time(), now_at))
        await super().prepare(now_at)


async def test_the_store_is_prepared_within_a_minute_of_a_jump_of_the_wall_clock_and_not_again(
    autojump_clock: MockClock,
) -> None:
    store, clock = NotedStore(), SimulatedClock(EPOCH_AT)
    async with memory_engine(store=store, clock=clock):
        for skew in (9 * DAY, -2 * DAY):
            await trio.sleep(700)
            store.prepared.clear()
            clock.skew += skew
            jumped_s = trio.current_time()
            await trio.sleep(3_000)
            [(prepared_s, now_at)] = store.prepared
            assert prepared_s - jumped_s <= 60
            assert abs(now_at - clock.moment().at) < DAY
