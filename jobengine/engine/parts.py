"""The actors of an engine, each with its mailbox, made and joined to each other.

Not here: when they start and what they take with them when they fail (``tree``).
"""

from typing import Any

import attrs

from jobengine.actors.activity import Activity
from jobengine.actors.broadcaster import BroadcasterActor, Streams
from jobengine.actors.dag_planner import DagPlannerActor
from jobengine.actors.gateway import Gateway
from jobengine.actors.governor import GovernorActor
from jobengine.actors.lease_shard import LeaseShardActor
from jobengine.actors.ledger import LedgerActor
from jobengine.actors.load_meter import LoadMeterActor
from jobengine.actors.memory import memory_bytes_there_are
from jobengine.actors.node_state import LedgerState, LoadState
from jobengine.actors.notifier import NotifierActor, PostEvent, no_way_out
from jobengine.actors.rate_bucket import RateBucketActor
from jobengine.actors.redriver import RedriverActor
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.session_registry import SessionRegistry
from jobengine.actors.shard_calls import ShardCalls
from jobengine.core.broadcaster import BroadcasterLimits
from jobengine.core.lease_shard import ShardLimits
from jobengine.core.ledger import LedgerLimits
from jobengine.core.load import LoadLimits
from jobengine.core.notifier import NotifierLimits
from jobengine.core.redriver import RedriverLimits
from jobengine.domain.run_sheet import SignCallback
from jobengine.settings import Settings
from jobengine.store.port import Store

__all__ = ["Engine", "build_engine"]


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
    planners: tuple[DagPlannerActor, ...]
    rates: tuple[RateBucketActor, ...]
    governor: GovernorActor
    broadcaster: BroadcasterActor
    redriver: RedriverActor
    notifier: NotifierActor
    load_meter: LoadMeterActor
    mailboxes: tuple[Mailbox[Any], ...]


def build_engine(
    store: Store,
    settings: Settings,
    clock: Clock,
    dice: Dice,
    sign_callback: SignCallback | None = None,
    post_event: PostEvent = no_way_out,
) -> Engine:
    """Every part, joined and not yet started. ``sign_callback`` makes the addresses at which
    ``callback`` nodes are ended; without it templates see none. ``post_event`` sends to
    webhooks."""
    asks = Asks()
    capacity = settings.mailbox_messages_max
    shard_boxes: list[Mailbox[Any]] = [
        Mailbox(f"lease-shard-{number}", capacity) for number in range(settings.shards)
    ]
    planner_boxes: list[Mailbox[Any]] = [
        Mailbox(f"dag-planner-{number}", capacity) for number in range(settings.shards)
    ]
    ledger_box: Mailbox[Any] = Mailbox("ledger", capacity)
    broadcaster_box: Mailbox[Any] = Mailbox("broadcaster", capacity)
    redriver_box: Mailbox[Any] = Mailbox("redriver", capacity)
    governor_box: Mailbox[Any] = Mailbox("governor", capacity)
    notifier_box: Mailbox[Any] = Mailbox("notifier", capacity)
    addresses = [Address(box, asks) for box in shard_boxes]
    governor_address: Address[Any] = Address(governor_box, asks)
    broadcaster_address: Address[Any] = Address(broadcaster_box, asks)
    registry = SessionRegistry(addresses, clock)
    state = LedgerState(activity=Activity(since_at=clock.moment().at))
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
            follow_entries=settings.commit_follow_entries,
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
    planners = tuple(
        DagPlannerActor(
            shard=number,
            mailbox=box,
            calls=ShardCalls(addresses[number]),
            ledger=Address(ledger_box, asks),
            store=store,
            clock=clock,
            dice=dice,
            asks=asks,
            sign_callback=sign_callback,
        )
        for number, box in enumerate(planner_boxes)
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
            telling=registry.step_end,
            tell_bucket=rates[number].deliver,
            tell_governor=governor_address.deliver,
            tell_planner=planners[number].hear,
            governed=lambda: governor.governed,
            restarted=registry.shard_restarted,
        )
        for number, box in enumerate(shard_boxes)
    )
    streams = Streams(broadcaster_box, settings.stream_readers_max)
    broadcaster = BroadcasterActor(
        mailbox=broadcaster_box,
        streams=streams,
        store=store,
        ledger=state,
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
        planners=[Address(box, asks) for box in planner_boxes],
        streams=streams,
        redriver=Address(redriver_box, asks),
        governor=governor_address,
        notifier=Address(notifier_box, asks),
        store=store,
        ledger=state,
        clock=clock,
        dice=dice,
        ask_timeout_s=settings.ask_timeout_s,
        load=load,
    )
    notifier = NotifierActor(
        mailbox=notifier_box,
        shards=addresses,
        ledger=Address(ledger_box, asks),
        store=store,
        clock=clock,
        asks=asks,
        limits=_notifier_limits(settings),
        events=gateway.events,
        post=post_event,
    )
    mailboxes = (
        ledger_box, broadcaster_box, redriver_box, governor_box, notifier_box, *shard_boxes,
        *planner_boxes,
    )  # fmt: skip
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
        planners=planners,
        rates=rates,
        governor=governor,
        broadcaster=broadcaster,
        redriver=redriver,
        notifier=notifier,
        load_meter=load_meter,
        mailboxes=mailboxes,
    )


def _notifier_limits(settings: Settings) -> NotifierLimits:
    return NotifierLimits(
        backoff_s_min=settings.webhook_backoff_s_min,
        backoff_s_max=settings.webhook_backoff_s_max,
        deliveries_max=settings.webhook_deliveries_max,
        failing_s=settings.webhook_failing_s,
        failures_max=settings.webhook_failures_max,
    )


def _shard_limits(settings: Settings) -> ShardLimits:
    return ShardLimits(
        ageing_us=round(settings.ageing_s * 1_000_000),
        cancel_grace_s=settings.cancel_grace_s,
        crashes_max=settings.crashes_max,
        due_jobs_max=settings.due_jobs_max,
        job_log_bytes_max=settings.job_log_bytes_max,
        lane_bytes_max=settings.lane_bytes_max,
        lane_jobs_max=settings.lane_jobs_max,
        tenant_backlog_jobs_max=settings.tenant_backlog_jobs_max,
        tenant_controls_max=settings.tenant_controls_max,
        tenant_lanes_max=settings.tenant_lanes_max,
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
