"""Fair lanes: whose turn it is among the lanes that one session takes work from.

Lanes of one source and job type are one *flow* (``offers``). Flows share by weighted rounds
(``fair_queue``); background work, of the lowest priority and not yet aged, goes when no other flow
may.

I1  Rounds are kept of tenants that have lanes, and of no more others than of those or ``_SLACK``. A
    tenant without a lane has only idle flows, which keep nothing, so nobody's turn is lost with
    them.
I2  A flow that is selected and turns out to offer something else, or nothing, is not charged.
I3  Offers are kept for the sessions served last: of ``offered_lanes_max`` lanes together, or of one
    kind of session.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from jobengine.core.fair_queue import FairRounds, Flow
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.offers import Offers
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.window import Window
from jobengine.domain.job import Job
from jobengine.domain.records import Lane

__all__ = ["FairLanes"]

_SLACK: Final = 256


@attrs.frozen(eq=False)
class _LanesOf:
    """The lanes that a session takes work from, and what may start of them."""

    state: ShardState
    ready: ReadyLanes
    session: Session

    def takes(self, lane: Lane) -> bool:
        return self.session.takes(lane)

    def all_lanes(self) -> Iterable[Lane]:
        return self.ready.of_session(self.session)

    def head_of(self, lane: Lane, window: Window[Job]) -> Job | None:
        self.ready.refill_if_low(lane, window)
        head = self.ready.head(lane, window) if self.ready.is_open(lane) else None
        return None if head is None else head[0]


_Takes = tuple[str, frozenset[str], frozenset[str]]
"""What sessions that take the same lanes have in common: tenant, queues and job types."""


class FairLanes:
    def __init__(self, state: ShardState, ready: ReadyLanes) -> None:
        self._state = state
        self._ready = ready
        self._rounds: dict[str, FairRounds] = {}
        self._weights: dict[str, tuple[tuple[str | Flow, int], ...]] = {}
        self._sweep_at = _SLACK
        self._offers: OrderedDict[_Takes, Offers] = OrderedDict()
        self._offered = 0
        self._told: dict[str, Offers] = {}

    def set_weights(self, tenant_id: str, weights: Iterable[tuple[str | Flow, int]]) -> None:
        """Replace the weights of a tenant's flows."""
        given = tuple(weights)
        if given:
            self._weights[tenant_id] = given
        else:
            self._weights.pop(tenant_id, None)
        self._rounds.pop(tenant_id, None)
        self._told.pop(tenant_id, None)

    def new_rounds(self, tenant_id: str) -> FairRounds:
        """Rounds with the weights of a tenant."""
        rounds = FairRounds()
        for of, weight in self._weights.get(tenant_id, ()):
            rounds.set_weight(of, weight)
        return rounds

    def serve(self, session: Session, take: Callable[[Lane, Job, Kind], bool]) -> None:
        """Hand heads to ``take``, which takes them out of their lanes, in the order of their turns:
        until it wants no more, or none may start. Lanes that are drained then are closed."""
        offers = self._offers_for(session)
        rounds = self._tell_rounds(session.tenant_id, offers)
        while (flow := rounds.select()) is not None:
            lane = offers.first(flow)
            head = self._confirm(offers, lane)
            if head is None:
                rounds.give_back(flow)
            elif not take(lane, *head):
                offers.look_at(lane)
                break
            offers.look_at(lane)
            offers.changed.clear()
            offers.tell(rounds, flow)
            if flow not in offers.heads and not offers.has_jobs(flow):
                rounds.idle(flow)
        for lane in offers.seen:
            self._state.close_lane_if_drained(lane)
        offers.seen.clear()

    def _confirm(self, offers: Offers, lane: Lane) -> tuple[Job, Kind] | None:
        """The head of an offered lane, if it is still what the lane offers."""
        window = self._state.lanes.get(lane)
        if window is None or not self._ready.is_open(lane):
            return None
        head = self._ready.head(lane, window)
        return head if head is not None and offers.holds(lane, head[0]) else None

    def _tell_rounds(self, tenant_id: str, offers: Offers) -> FairRounds:
        """Let these offers be what the rounds of a tenant select from."""
        rounds = self._rounds_of(tenant_id)
        if self._told.get(tenant_id) is not offers:
            self._told[tenant_id] = offers
            rounds.begin(offers.heads)
        else:
            for flow in offers.changed:
                offers.tell(rounds, flow)
        offers.changed.clear()
        return rounds

    def _offers_for(self, session: Session) -> Offers:
        """What a session could be given now."""
        tenant_id = session.tenant_id
        takes = (tenant_id, session.queues, session.job_types)
        offers = self._offers.get(takes)
        if offers is None:
            lanes = _LanesOf(self._state, self._ready, session)
            offers = self._offers[takes] = Offers(self._state, tenant_id, lanes)
        else:
            self._offers.move_to_end(takes)
            self._offered -= 1 + offers.lanes
        offers.update()
        self._offered += 1 + offers.lanes
        while self._offered > self._state.limits.offered_lanes_max and len(self._offers) > 1:
            self._forget(next(iter(self._offers)))
        return offers

    def _forget(self, takes: _Takes) -> None:
        offers, tenant_id = self._offers.pop(takes), takes[0]
        self._offered -= 1 + offers.lanes
        if self._told.get(tenant_id) is offers:
            del self._told[tenant_id]
        offers.close()

    def _rounds_of(self, tenant_id: str) -> FairRounds:
        rounds = self._rounds.get(tenant_id)
        if rounds is not None:
            return rounds
        if len(self._rounds) >= self._sweep_at:
            self._sweep()
        rounds = self._rounds[tenant_id] = self.new_rounds(tenant_id)
        return rounds

    def _sweep(self) -> None:
        """Let go of the rounds of tenants without lanes (I1), and of what they were told."""
        by_topic = self._state.lanes_by_topic
        for tenant_id in [of for of in self._rounds if (of, "any", "") not in by_topic]:
            del self._rounds[tenant_id]
            self._told.pop(tenant_id, None)
        self._sweep_at = 2 * len(self._rounds) + _SLACK
