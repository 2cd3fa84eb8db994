"""A whole engine in memory: the real actors over the memory store, no database, no sockets.

Under ``trio.testing.MockClock`` it runs in virtual time: a lease expires, a retry falls due, in no
time at all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobengine.actors.notifier import PostEvent, no_way_out
from jobengine.actors.runtime.clock import Clock, SimulatedClock
from jobengine.actors.runtime.dice import Dice, SeededDice
from jobengine.domain.run_sheet import SignCallback
from jobengine.engine import Engine, open_engine
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.store.port import Store

__all__ = ["memory_engine"]

_EPOCH_AT = 1_767_225_600_000_000


@asynccontextmanager
async def memory_engine(
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
    dice: Dice | None = None,
    sign_callback: SignCallback | None = None,
    post_event: PostEvent = no_way_out,
) -> AsyncIterator[Engine]:
    """An engine whose wall clock follows Trio's, from 2026 on, and whose chance is seeded.

    Give the same ``store`` to a second engine to see what a restart finds.
    """
    async with open_engine(
        MemoryStore() if store is None else store,
        settings or Settings(shards=2),
        clock=clock or SimulatedClock(_EPOCH_AT),
        dice=dice or SeededDice(1),
        sign_callback=sign_callback,
        post_event=post_event,
    ) as engine:
        yield engine
