"""The composition root: the only file that knows every concrete part of the engine.

``open_database`` finds or starts a PostgreSQL and brings its schema up to date; ``open_engine``
builds the actors over a store and supervises them. Doors are put in front by their own layer.

Order of starting, and reverse order of stopping: store, custodian, load meter, broadcaster,
governor, ledger, lease shards, redriver, sessions, doors. A ledger that fails takes its shards with
it, since what they believe to be under way is gone.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from jobengine.actors.broadcaster import BroadcasterActor
from jobengine.actors.custodian import CustodianActor
from jobengine.actors.gateway import Gateway
from jobengine.actors.governor import GovernorActor
from jobengine.actors.lease_shard import LeaseShardActor
from jobengine.actors.ledger import LedgerActor
from jobengine.actors.load_meter import LoadMeterActor
from jobengine.actors.memory import memory_bytes_there_are
from jobengine.actors.node_state import LedgerState, LoadState
from jobengine.actors.rate_bucket import RateBucketActor
from jobengine.actors.redriver import RedriverActor
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock, SystemClock
from jobengine.actors.runtime.dice import Dice, SystemDice
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.supervisor import (
    ActorSpec,
    GroupSpec,
    RestartPolicy,
    Supervised,
    Supervisor,
)
from jobengine.actors.session_registry import SessionRegistry
from jobengine.core.broadcaster import BroadcasterLimits
from jobengine.core.lease_shard import ShardLimits
from jobengine.core.ledger import LedgerLimits
from jobengine.core.load import LoadLimits
from jobengine.core.redriver import RedriverLimits
from jobengine.settings import Settings
from jobengine.store.embedded import EmbeddedServer, EmbeddedServerError
from jobengine.store.port import Store
from jobengine.store.postgres.doctor import Finding, examine
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.isolation import require_isolation, require_modest_login
from jobengine.store.postgres.migrate import (
    MigrationFailed,
    MigrationState,
    SchemaMismatch,
    status,
)
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.ownership import (
    DatabaseFactMismatch,
    DatabaseInUse,
    own_database,
)
from jobengine.store.postgres.roles import (
    LEDGER,
    OWNER,
    Access,
    BroughtUp,
    RolesRefused,
    become_a_reader,
    bring_up_to_date,
    login_of,
    require_up_to_date,
)

__all__ = [
    "BroughtUp",
    "DatabaseFactMismatch",
    "DatabaseInUse",
    "EmbeddedServerError",
    "Engine",
    "Finding",
    "MigrationFailed",
    "MigrationState",
    "RolesRefused",
    "SchemaMismatch",
    "examine_database",
    "migrate_database",
    "migrations_of",
    "open_database",
    "open_engine",
]

_log = structlog.get_logger("jobengine.engine")


@attrs.frozen(kw_only=True)
class Engine:
    """A running engine, as doors and telemetry see it."""

    settings: Settings
    gateway: Gateway
    registry: SessionRegistry
    store: Store
    clock: Clock
    dice: Dice
    asks: Asks
    ledger: LedgerActor
    shards: tuple[LeaseShardActor, ...]
    rates: tuple[RateBucketActor, ...]
    governor: GovernorActor
    broadcaster: BroadcasterActor
    redriver: RedriverActor
    load_meter: LoadMeterActor
    mailboxes: tuple[Mailbox[Any], ...]


@asynccontextmanager
async def open_database(
    settings: Settings,
    *,
    conninfo: str | None = None,
    dice: Dice | None = None,
    any_login: bool = True,
) -> AsyncIterator[Store]:
    """A store over ``conninfo``, or over an embedded PostgreSQL in ``settings.data_dir``.

    Brings roles and schema up to date first, makes sure that the database keeps tenants apart and
    that no other engine serves it. Without ``any_login``, a login that no policy binds (a
    superuser, an owner) is refused before anything is done; the embedded server has none. Raises
    what the embedded server, the driver, the migrations, the roles and ``own_database`` raise.
    """
    async with AsyncExitStack() as stack:
        access = Access(conninfo or "")
        if conninfo is None:
            server = await stack.enter_async_context(EmbeddedServer(_database_dir(settings)))
            access, any_login = Access(server.conninfo, direct=True), True
        await _make_ready(access, settings, any_login=any_login)
        yield await stack.enter_async_context(_open_store(access, settings, dice or SystemDice()))


async def _make_ready(access: Access, settings: Settings, *, any_login: bool) -> None:
    async with _session(access.conninfo, settings) as connection:
        if not any_login:
            await require_modest_login(connection)
        login = await login_of(connection)
        if OWNER in login.attainable or OWNER not in login.existing:
            await bring_up_to_date(connection, SystemClock().moment().at, direct=access.direct)
        else:
            await require_up_to_date(connection)
        await require_isolation(connection)


@asynccontextmanager
async def _open_store(access: Access, settings: Settings, dice: Dice) -> AsyncIterator[Store]:
    async def connect() -> Connection:
        return await access.connect(
            LEDGER,
            timeout_s=settings.connect_timeout_s,
            application_name=f"jobengine {settings.node_id}",
        )

    seed = int.from_bytes(dice.randbytes(8), "big")
    async with (
        own_database(connect, {"shards": str(settings.shards)}),
        open_postgres_store(
            access,
            dice=random.Random(seed),
            pool_size_max=settings.pool_size_max,
            commit_connections=settings.commits_in_flight_max,
            connect_timeout_s=settings.connect_timeout_s,
        ) as store,
    ):
        yield store


async def migrate_database(conninfo: str, settings: Settings) -> BroughtUp:
    """Bring a database's roles and schema up to date; what was made and applied, in order.

    Raises `RolesRefused`, `SchemaMismatch`, `MigrationFailed`, and what the driver raises.
    """
    async with _session(conninfo, settings) as connection:
        return await bring_up_to_date(connection, SystemClock().moment().at)


async def migrations_of(conninfo: str, settings: Settings) -> tuple[MigrationState, ...]:
    """Every migration that this code knows or the database has, by number; changes nothing."""
    async with _session(conninfo, settings) as connection:
        await become_a_reader(connection)
        return await status(connection)


async def examine_database(conninfo: str, settings: Settings) -> tuple[Finding, ...]:
    """What `jobengine db doctor` finds, in the order it looks; changes nothing."""
    moment = SystemClock().moment
    async with _session(conninfo, settings) as connection, _session(conninfo, settings) as other:
        return await examine(connection, other, lambda: moment().at)


@asynccontextmanager
async def _session(conninfo: str, settings: Settings) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo, timeout_s=settings.connect_timeout_s)
    try:
        yield connection
    finally:
        await connection.aclose()


@asynccontextmanager
async def open_engine(
    store: Store,
    settings: Settings,
    *,
    clock: Clock | None = None,
    dice: Dice | None = None,
    observe: Callable[[Supervised], None] | None = None,
) -> AsyncIterator[Engine]:
    """The engine over a store; entered when every actor has rebuilt its state.

    Leaving stops the actors in reverse order. A failure that restarts cannot mend cancels the body
    and is raised as ``SupervisionFailed`` in an exception group.
    """
    clock = clock or SystemClock()
    dice = dice or SystemDice()
    await store.prepare(clock.moment().at)
    engine = _build(store, settings, clock, dice)
    supervisor = Supervisor(
        _tree(engine), dice=dice, incarnations=count(1), observe=observe or _log_change
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await nursery.start(engine.registry.run)
        yield engine
        nursery.cancel_scope.cancel()


def _build(store: Store, settings: Settings, clock: Clock, dice: Dice) -> Engine:
    asks = Asks()
    capacity = settings.mailbox_messages_max
    shard_boxes: list[Mailbox[Any]] = [
        Mailbox(f"lease-shard-{number}", capacity) for number in range(settings.shards)
    ]
    ledger_box: Mailbox[Any] = Mailbox("ledger", capacity)
    broadcaster_box: Mailbox[Any] = Mailbox("broadcaster", capacity)
    redriver_box: Mailbox[Any] = Mailbox("redriver", capacity)
    governor_box: Mailbox[Any] = Mailbox("governor", capacity)
    addresses = [Address(box, asks) for box in shard_boxes]
    governor_address: Address[Any] = Address(governor_box, asks)
    broadcaster_address: Address[Any] = Address(broadcaster_box, asks)
    registry = SessionRegistry(addresses, clock)
    state = LedgerState()
    load = LoadState()
    ledger = LedgerActor(
        mailbox=ledger_box,
        shards=addresses,
        broadcaster=broadcaster_address,
        store=store,
        state=state,
        clock=clock,
        asks=asks,
        limits=LedgerLimits(
            backoff_s_max=settings.backoff_s_max,
            batch_entries_max=settings.batch_entries_max,
            commit_target_s=settings.commit_target_s,
            commits_in_flight_max=settings.commits_in_flight_max,
        ),
    )
    limits = _shard_limits(settings)
    rates = tuple(
        RateBucketActor(shard=number, owner=owner, clock=clock, asks=asks)
        for number, owner in enumerate(addresses)
    )
    governor = GovernorActor(
        mailbox=governor_box, shards=addresses, store=store, clock=clock, asks=asks
    )
    shards = tuple(
        LeaseShardActor(
            shard=number,
            mailbox=box,
            ledger=Address(ledger_box, asks),
            load=load,
            store=store,
            clock=clock,
            asks=asks,
            limits=limits,
            tell=registry.deliver,
            tell_bucket=rates[number].deliver,
            tell_governor=governor_address.deliver,
            governed=lambda: governor.governed,
            restarted=registry.shard_restarted,
        )
        for number, box in enumerate(shard_boxes)
    )
    broadcaster = BroadcasterActor(
        mailbox=broadcaster_box,
        clock=clock,
        asks=asks,
        limits=BroadcasterLimits(
            ring_events_max=settings.ring_events_max, ring_bytes_max=settings.ring_bytes_max
        ),
    )
    redriver = RedriverActor(
        mailbox=redriver_box,
        shards=addresses,
        ledger=Address(ledger_box, asks),
        store=store,
        clock=clock,
        dice=dice,
        asks=asks,
        limits=RedriverLimits(),
    )
    gateway = Gateway(
        shards=addresses,
        broadcaster=broadcaster_address,
        redriver=Address(redriver_box, asks),
        governor=governor_address,
        store=store,
        ledger=state,
        clock=clock,
        dice=dice,
        ask_timeout_s=settings.ask_timeout_s,
        load=load,
    )
    mailboxes = (ledger_box, broadcaster_box, redriver_box, governor_box, *shard_boxes)
    load_meter = LoadMeterActor(
        node_id=settings.node_id,
        mailboxes=mailboxes,
        shards=addresses,
        ledger=state,
        load=load,
        clock=clock,
        asks=asks,
        limits=_load_limits(settings),
    )
    return Engine(
        settings=settings,
        gateway=gateway,
        registry=registry,
        store=store,
        clock=clock,
        dice=dice,
        asks=asks,
        ledger=ledger,
        shards=shards,
        rates=rates,
        governor=governor,
        broadcaster=broadcaster,
        redriver=redriver,
        load_meter=load_meter,
        mailboxes=mailboxes,
    )


def _tree(engine: Engine) -> GroupSpec:
    custodian = CustodianActor(
        store=engine.store,
        clock=engine.clock,
        asks=engine.asks,
        interval_s=engine.settings.prepare_interval_s,
        artifact_grace_s=engine.settings.artifact_grace_s,
    )
    jobs = GroupSpec(
        "jobs",
        (
            ActorSpec("ledger", engine.ledger.run, policy=RestartPolicy(restarts_max=0)),
            *(ActorSpec(f"rate-buckets-{each.shard}", each.run) for each in engine.rates),
            *(ActorSpec(f"lease-shard-{shard.shard}", shard.run) for shard in engine.shards),
        ),
    )
    return GroupSpec(
        "engine",
        (
            ActorSpec("custodian", custodian.run),
            ActorSpec("load-meter", engine.load_meter.run),
            ActorSpec("broadcaster", engine.broadcaster.run),
            ActorSpec("governor", engine.governor.run),
            jobs,
            ActorSpec("redriver", engine.redriver.run),
        ),
    )


def _shard_limits(settings: Settings) -> ShardLimits:
    return ShardLimits(
        ageing_us=round(settings.ageing_s * 1_000_000),
        cancel_grace_s=settings.cancel_grace_s,
        crashes_max=settings.crashes_max,
        due_jobs_max=settings.due_jobs_max,
        lane_bytes_max=settings.lane_bytes_max,
        lane_jobs_max=settings.lane_jobs_max,
        tenant_backlog_jobs_max=settings.tenant_backlog_jobs_max,
        tenant_controls_max=settings.tenant_controls_max,
        window_jobs_max=settings.window_jobs_max,
    )


def _load_limits(settings: Settings) -> LoadLimits:
    """A commit takes too long when it takes a good part of the time that doors wait for it, though
    never for less than what a healthy disk may need now and then."""
    return LoadLimits(
        commit_s_elevated=max(0.25, settings.ask_timeout_s / 15),
        commit_s_shedding=max(1.0, settings.ask_timeout_s / 3),
        memory_bytes_max=settings.memory_bytes_max or memory_bytes_there_are(),
    )


def _database_dir(settings: Settings) -> Path:
    if settings.data_dir is None:
        raise ValueError("data_dir: an embedded database needs a directory")
    return settings.data_dir / "postgres"


def _log_change(change: Supervised) -> None:
    if change.error is not None:
        _log.error(
            "actor_failed",
            actor=change.actor,
            change=change.change,
            incarnation=change.incarnation,
            pause_s=round(change.pause_s, 3),
            exc_info=change.error,
        )
    else:
        _log.debug("actor", actor=change.actor, change=change.change)
