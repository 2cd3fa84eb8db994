"""The composition root: the only package that knows every concrete part of the engine.

``open_database`` finds or starts a PostgreSQL and brings its schema up to date; ``open_engine``
builds the actors over a store and supervises them (``parts``, ``tree``). Doors are put in front by
their own layer.

Order of starting, and reverse order of stopping: store, custodian, load meter, broadcaster,
governor, ledger, lease shards, planners, redriver, notifier, sessions, doors. A ledger that fails
takes its shards and their planners with it, since what they believe to be under way is gone.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import trio

from jobengine.actors.notifier import PostEvent, no_way_out
from jobengine.actors.runtime.clock import Clock, SystemClock
from jobengine.actors.runtime.dice import Dice, SystemDice
from jobengine.actors.runtime.supervisor import Supervised, Supervisor
from jobengine.domain.run_sheet import SignCallback
from jobengine.engine.database import (
    BroughtUp,
    DatabaseFactMismatchError,
    DatabaseInUseError,
    EmbeddedServerError,
    Finding,
    MigrationFailedError,
    MigrationState,
    RolesRefusedError,
    SchemaMismatchError,
    dump_embedded,
    embedded_address,
    examine_database,
    migrate_database,
    migrations_of,
    open_database,
    restore_embedded,
)
from jobengine.engine.parts import Engine, build_engine
from jobengine.engine.tree import log_change, tree_of
from jobengine.settings import Settings
from jobengine.store.port import Store

__all__ = [
    "BroughtUp",
    "DatabaseFactMismatchError",
    "DatabaseInUseError",
    "EmbeddedServerError",
    "Engine",
    "Finding",
    "MigrationFailedError",
    "MigrationState",
    "RolesRefusedError",
    "SchemaMismatchError",
    "dump_embedded",
    "embedded_address",
    "examine_database",
    "migrate_database",
    "migrations_of",
    "open_database",
    "open_engine",
    "restore_embedded",
]


@asynccontextmanager
async def open_engine(
    store: Store,
    settings: Settings,
    *,
    clock: Clock | None = None,
    dice: Dice | None = None,
    observe: Callable[[Supervised], None] | None = None,
    sign_callback: SignCallback | None = None,
    post_event: PostEvent = no_way_out,
) -> AsyncIterator[Engine]:
    """The engine over a store; entered when every actor has rebuilt its state, but for webhooks,
    which are read beside it. ``sign_callback`` makes the addresses at which ``callback`` nodes are
    ended, ``post_event`` sends to webhooks.

    Leaving stops the actors in reverse order. A failure that restarts cannot mend cancels the body
    and is raised as ``SupervisionFailedError`` in an exception group.
    """
    clock = clock or SystemClock()
    dice = dice or SystemDice()
    await store.prepare(clock.moment().at)
    engine = build_engine(store, settings, clock, dice, sign_callback, post_event)
    supervisor = Supervisor(
        tree_of(engine), dice=dice, incarnations=count(1), observe=observe or log_change
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await nursery.start(engine.registry.run)
        yield engine
        nursery.cancel_scope.cancel()
