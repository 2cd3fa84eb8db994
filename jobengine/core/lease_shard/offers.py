"""Offers: which of several lanes of a tenant could go next, kept from step to step.

Lanes of one source and job type are one *flow*: of them the head with the lowest rank is the flow's
own. Only lanes that have changed are looked at again, and those that something was taken from.

I1  Of each lane that offers anything the head is known as it was when the lane was last looked at.
    A lane that could offer an earlier one since has been noted (``lane_changes``); that a head may
    start no more is seen when its turn comes.
I2  A heap holds at most about twice as many entries as there are lanes.

Not here: whose turn it is, and of which lanes (``fair_lanes``, ``freed_places``).
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

import attrs

from jobengine.core.fair_queue import BACKGROUND, NORMAL, FairRounds, Flow, Head
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.window import Key, Window
from jobengine.domain.job import Job
from jobengine.domain.records import Lane

__all__ = ["Offers", "Taking"]

_BACKGROUND_PRIORITY: Final = 0
_BACKGROUND_AGES_AFTER: Final = 9
"""Steps of ageing after which background work counts as normal: as many as there are priorities."""

_HEAP_SLACK: Final = 64


@attrs.define(eq=False)
class _Members:
    """The lanes of a flow, and the heads of the open ones among those of some that have changed."""

    lanes: dict[Lane, None] = attrs.field(factory=dict)
    heap: list[tuple[Key, Lane]] = attrs.field(factory=list)


class Taking(Protocol):
    """Which lanes offers are of, and what of each may be offered."""

    def takes(self, lane: Lane) -> bool: ...
    def all_lanes(self) -> Iterable[Lane]: ...
    def head_of(self, lane: Lane, window: Window[Job]) -> Job | None: ...


class Offers:
    """``heads`` by flow. ``changed`` are flows, and ``seen`` lanes, that were looked at anew:
    whoever has dealt with them clears it."""

    def __init__(self, state: ShardState, tenant_id: str, taking: Taking) -> None:
        self._state = state
        self._tenant_id = tenant_id
        self._taking = taking
        self._flows: dict[Flow, _Members] = {}
        self._open: dict[Lane, tuple[Key, Head]] = {}
        self._ages: dict[Lane, int] = {}
        self._ageing: list[tuple[int, Lane]] = []
        self._number: int | None = None
        self.lanes = 0
        self.heads: dict[Flow, Head] = {}
        self.changed: dict[Flow, None] = {}
        self.seen: dict[Lane, None] = {}
        state.lane_changes.follow(tenant_id)

    def close(self) -> None:
        """Nobody asks for these offers any more."""
        self._state.lane_changes.leave(self._tenant_id)

    def update(self) -> None:
        """Look at what has changed; at everything the first time."""
        changes = self._state.lane_changes
        number, lanes = changes.number, None
        if self._number is not None:
            lanes = changes.since(self._tenant_id, self._number)
        if lanes is None:
            known = [lane for members in self._flows.values() for lane in members.lanes]
            lanes = list(dict.fromkeys((*known, *self._taking.all_lanes())))
        self._number = number
        for lane in lanes:
            self.look_at(lane)
        while self._ageing and self._ageing[0][0] <= self._state.now.at:
            self.look_at(heappop(self._ageing)[1])

    def first(self, flow: Flow) -> Lane:
        """The lane of an offered flow that is next."""
        return self._flows[flow].heap[0][1]

    def holds(self, lane: Lane, job: Job) -> bool:
        """Whether this head of an offered lane is what the lane is known to offer."""
        return self._open.get(lane) == self._offer_of(job)

    def look_at(self, lane: Lane) -> None:
        """Learn what a lane offers now."""
        flow = (lane.source_id, lane.job_type)
        members = self._flows.get(flow)
        window = self._state.lanes.get(lane) if self._taking.takes(lane) else None
        if window is None:
            if members is None or lane not in members.lanes:
                return
            del members.lanes[lane]
            self.lanes -= 1
            head = None
        else:
            if members is None:
                members = self._flows[flow] = _Members()
            if lane not in members.lanes:
                members.lanes[lane] = None
                self.lanes += 1
            self.seen[lane] = None
            head = self._taking.head_of(lane, window)
        if head is None:
            self._open.pop(lane, None)
            self._ages.pop(lane, None)
        else:
            self._keep(members, lane, head)
        self._refresh(flow, members)

    def tell(self, rounds: FairRounds, flow: Flow) -> None:
        """Let rounds know what a flow offers."""
        head = self.heads.get(flow)
        if head is None:
            rounds.withhold(flow)
        else:
            rounds.offer(flow, *head)

    def has_jobs(self, flow: Flow) -> bool:
        """Whether any lane of a flow holds jobs."""
        members, lanes = self._flows.get(flow), self._state.lanes
        return members is not None and any(lanes.get(lane) for lane in members.lanes)

    def _keep(self, members: _Members, lane: Lane, job: Job) -> None:
        """What an open lane offers."""
        known, offered = self._open.get(lane), self._offer_of(job)
        self._open[lane] = offered
        if offered[1].tier == BACKGROUND:
            self._ages[lane] = self._ages_at(job)
            heappush(self._ageing, (self._ages[lane], lane))
            if len(self._ageing) > 2 * len(self._ages) + _HEAP_SLACK:
                self._ageing = [(at, each) for each, at in self._ages.items()]
                heapify(self._ageing)
        else:
            self._ages.pop(lane, None)
        if known is None or known[0] != offered[0]:
            heappush(members.heap, (offered[0], lane))
            if len(members.heap) > 2 * len(members.lanes) + _HEAP_SLACK:
                members.heap = [
                    (self._open[each][0], each) for each in members.lanes if each in self._open
                ]
                heapify(members.heap)

    def _refresh(self, flow: Flow, members: _Members) -> None:
        """The first of a flow's lanes makes its offer."""
        self.changed[flow] = None
        heap = members.heap
        while heap:
            key, lane = heap[0]
            known = self._open.get(lane)
            if known is not None and known[0] == key:
                self.heads[flow] = known[1]
                return
            heappop(heap)
        self.heads.pop(flow, None)
        if not members.lanes:
            del self._flows[flow]

    def _offer_of(self, job: Job) -> tuple[Key, Head]:
        return self._state.key_of(job), Head(max(1, job.definition.cost), self._tier(job))

    def _tier(self, job: Job) -> int:
        if job.definition.priority > _BACKGROUND_PRIORITY:
            return NORMAL
        return NORMAL if self._state.now.at >= self._ages_at(job) else BACKGROUND

    def _ages_at(self, job: Job) -> int:
        """When background work counts as normal."""
        return job.due_at + _BACKGROUND_AGES_AFTER * self._state.limits.ageing_us
