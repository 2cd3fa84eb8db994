"""Fair lanes: whose turn it is among the lanes that one session takes work from.

Lanes of one source and job type are one *flow*: of them the head with the lowest rank goes first.
Flows share by weighted rounds (``fair_queue``); background work, of the lowest priority and not yet
aged, goes when no other flow may.

I1  Rounds are kept of tenants that have lanes, and of no more others than of those or ``_SLACK``. A
    tenant without a lane has only idle flows, which keep nothing, so nobody's turn is lost with
    them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from jobengine.core.fair_queue import BACKGROUND, NORMAL, FairRounds, Flow, Head
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.job import Job
from jobengine.domain.records import Lane

__all__ = ["FairLanes"]

_BACKGROUND_PRIORITY = 0
_BACKGROUND_AGES_AFTER = 9
"""Steps of ageing after which background work counts as normal: as many as there are priorities."""

_SLACK: Final = 256


@attrs.define
class _Offers:
    """What each flow offers now: its first lane, and what that lane's head costs."""

    first: dict[Flow, Lane] = attrs.field(factory=dict)
    heads: dict[Flow, Head] = attrs.field(factory=dict)


class FairLanes:
    def __init__(self, state: ShardState, ready: ReadyLanes) -> None:
        self._state = state
        self._ready = ready
        self._rounds: dict[str, FairRounds] = {}
        self._weights: dict[str, tuple[tuple[str | Flow, int], ...]] = {}
        self._sweep_at = _SLACK

    def set_weights(self, tenant_id: str, weights: Iterable[tuple[str | Flow, int]]) -> None:
        """Replace the weights of a tenant's flows."""
        given = tuple(weights)
        if given:
            self._weights[tenant_id] = given
        else:
            self._weights.pop(tenant_id, None)
        self._rounds.pop(tenant_id, None)

    def turns(self, tenant_id: str, lanes: Sequence[Lane]) -> Iterator[Lane]:
        """The lane to take the next job from, again and again while any has one that may start.

        The caller takes the head of each lane it is given before it asks for the next.
        """
        rounds = self._rounds.get(tenant_id)
        if rounds is None:
            rounds = self._begin(tenant_id)
        flows: dict[Flow, list[Lane]] = {}
        for lane in lanes:
            flows.setdefault((lane.source_id, lane.job_type), []).append(lane)
        offers = _Offers()
        for flow, members in flows.items():
            self._offer(flow, members, offers)
        rounds.begin(offers.heads)
        while (served := rounds.select()) is not None:
            yield offers.first[served]
            self._offer(served, flows[served], offers)
            head = offers.heads.get(served)
            if head is not None:
                rounds.offer(served, *head)
            elif any(len(self._state.lanes[member]) for member in flows[served]):
                rounds.withhold(served)
            else:
                rounds.idle(served)

    def _begin(self, tenant_id: str) -> FairRounds:
        if len(self._rounds) >= self._sweep_at:
            by_topic = self._state.lanes_by_topic
            self._rounds = {
                of: rounds for of, rounds in self._rounds.items() if (of, "any", "") in by_topic
            }
            self._sweep_at = 2 * len(self._rounds) + _SLACK
        rounds = self._rounds[tenant_id] = FairRounds()
        for of, weight in self._weights.get(tenant_id, ()):
            rounds.set_weight(of, weight)
        return rounds

    def _offer(self, flow: Flow, members: Iterable[Lane], offers: _Offers) -> None:
        """Find the lane of a flow that is next, and what its head costs."""
        state = self._state
        best: tuple[Lane, Job] | None = None
        for lane in members:
            head = self._ready.head(lane, state.lanes[lane]) if self._ready.is_open(lane) else None
            if head is not None and (best is None or state.key_of(head[0]) < state.key_of(best[1])):
                best = (lane, head[0])
        if best is None:
            offers.heads.pop(flow, None)
            return
        offers.first[flow] = best[0]
        offers.heads[flow] = Head(max(1, best[1].definition.cost), self._tier(best[1]))

    def _tier(self, job: Job) -> int:
        if job.definition.priority > _BACKGROUND_PRIORITY:
            return NORMAL
        state = self._state
        aged_us = _BACKGROUND_AGES_AFTER * state.limits.ageing_us
        return NORMAL if state.now.at - job.due_at >= aged_us else BACKGROUND
