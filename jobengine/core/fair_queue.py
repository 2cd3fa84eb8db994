"""Fair queueing within a tenant: sources share, and within a source its job types share, by cost.

Decides whose head is granted next, where several flows have jobs that may start. Two levels of
weighted deficit round robin (``deficit_ring``), and two tiers of it: *normal* work, and
*background* work that is served only while no normal flow is offered.

Definitions. A *flow* is (source id, job type). Its *head* is the job that is granted next of it, by
rank; a flow's tier is that of its head.

I1  If any flow is offered, one is selected: a background one only if no normal one is offered.
I2  In every interval, for any two sources of a tier that stay offered, and for any two flows of one
    source that stay offered, |S_i / w_i − S_j / w_j| ≤ quantum + C / w_i + C / w_j: S the cost
    served, w the weight, C the largest cost (Shreedhar and Varghese 1996; see ``deficit_ring`` I4).
    So no flow starves that stays offered.
I3  An idle flow keeps nothing, so nobody saves up. A gated one neither gains nor loses.
I4  Equal histories of calls give equal selections.
I5  What is remembered of flows that are not offered is bounded by ``flows_max``.

The default quantum is 1: jobs mostly cost 1, so flows of equal weight alternate job by job, and a
weight of n is n jobs at a turn. Larger costs are met by arithmetic, not by turning round.

Not here: tenants (the ledger), the order within a flow (``window``), gates (admission).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from jobengine.core.deficit_ring import DeficitRing

__all__ = ["BACKGROUND", "COST_MAX", "NORMAL", "WEIGHT_MAX", "FairRounds", "Flow", "Head"]

NORMAL: Final = 0
BACKGROUND: Final = 1
COST_MAX: Final = 1_000_000
WEIGHT_MAX: Final = 1_000
_WITHHELD: Final = 0

Flow = tuple[str, str]
"""Source id and job type."""


class Head(NamedTuple):
    """What serving a flow's next job costs, and its tier."""

    cost: int
    tier: int = NORMAL


class FairRounds:
    """Tell it of each flow whether it is offered, withheld or idle, and ``select``.

    A step that serves one session names what the session may take with ``begin``; a loop of
    selections then tells only what changed, which is mostly the flow just selected.
    """

    def __init__(self, *, quantum: int = 1, flows_max: int = 4_096) -> None:
        self._weights: dict[str | Flow, int] = {}
        self._tiers = (_Tier(quantum, self._weights), _Tier(quantum, self._weights))
        self._told: dict[Flow, tuple[int, int]] = {}
        self._flows_max = flows_max
        self._sweep_at = flows_max

    def __len__(self) -> int:
        """Flows that are known, offered or withheld."""
        return len(self._told)

    def set_weight(self, of: str | Flow, weight: int) -> None:
        """Give a source its share of the tenant, or a flow its share of its source; 1 unless set.

        Remembered until it is set to 1 again. Raises ``ValueError`` outside 1..``WEIGHT_MAX``.
        """
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"a weight is 1 to {WEIGHT_MAX}, not {weight}")
        if weight == 1:
            self._weights.pop(of, None)
        else:
            self._weights[of] = weight
        for tier in self._tiers:
            tier.set_weight(of, weight)

    def begin(self, heads: Mapping[Flow, Head]) -> None:
        """Offer these flows; all others that are known are withheld."""
        told = self._told
        for flow in [flow for flow in told if flow not in heads]:
            self.withhold(flow)
        for flow, head in heads.items():
            if told.get(flow) != head:
                self.offer(flow, *head)

    def offer(self, flow: Flow, cost: int, tier: int = NORMAL) -> None:
        """A flow's head may be served now. Raises ``ValueError`` outside 1..``COST_MAX``."""
        known = self._told.get(flow)
        if known == (cost, tier):
            return
        if not 1 <= cost <= COST_MAX:
            raise ValueError(f"a cost is 1 to {COST_MAX}, not {cost}")
        if known is None:
            if len(self._told) >= self._sweep_at:
                self._forget_withheld()
        elif known[1] != tier:
            self._tiers[known[1]].drop(flow)
        self._told[flow] = (cost, tier)
        self._tiers[tier].offer(flow, cost)

    def withhold(self, flow: Flow) -> None:
        """A flow has jobs, and a gate is closed or nobody asks for them."""
        known = self._told.get(flow)
        if known is not None and known[0] != _WITHHELD:
            self._told[flow] = (_WITHHELD, known[1])
            self._tiers[known[1]].withhold(flow)

    def idle(self, flow: Flow) -> None:
        """A flow has no jobs."""
        known = self._told.pop(flow, None)
        if known is not None:
            self._tiers[known[1]].drop(flow)

    def select(self) -> Flow | None:
        """The flow to serve, which is charged for its head; None when none is offered.

        Tell then what its next head is. Unless told, that is taken to be offered at the same cost.
        """
        normal, background = self._tiers
        flow = normal.select()
        return background.select() if flow is None else flow

    def give_back(self, flow: Flow) -> None:
        """The flow that was just selected is not served: it is not charged. Tell what it offers."""
        self._tiers[self._told[flow][1]].refund(flow)

    def _forget_withheld(self) -> None:
        """Let go of those that are not offered: their places and what is left of their turns."""
        for flow in [flow for flow, (cost, _) in self._told.items() if cost == _WITHHELD]:
            self.idle(flow)
        self._sweep_at = max(self._flows_max, 2 * len(self._told))


class _Tier:
    """One two-level round. A source is *stale* when what it offers to the upper level may have
    changed; it is looked at again before the next selection, so that a flow's turn depends on all
    that is offered by then and not on the order of the telling."""

    __slots__ = ("_flows", "_quantum", "_sources", "_stale", "_weights")

    def __init__(self, quantum: int, weights: Mapping[str | Flow, int]) -> None:
        self._quantum = quantum
        self._weights = weights
        self._sources: DeficitRing[str] = DeficitRing(quantum)
        self._flows: dict[str, DeficitRing[Flow]] = {}
        self._stale: dict[str, None] = {}

    def set_weight(self, of: str | Flow, weight: int) -> None:
        if isinstance(of, str):
            self._sources.set_weight(of, weight)
        elif (ring := self._flows.get(of[0])) is not None:
            ring.set_weight(of, weight)

    def offer(self, flow: Flow, cost: int) -> None:
        source = flow[0]
        ring = self._flows.get(source)
        if ring is None:
            ring = self._flows[source] = DeficitRing(self._quantum)
        ring.offer(flow, cost, self._weights.get(flow, 1))
        self._stale[source] = None

    def withhold(self, flow: Flow) -> None:
        self._flows[flow[0]].withhold(flow)
        self._stale[flow[0]] = None

    def drop(self, flow: Flow) -> None:
        self._flows[flow[0]].drop(flow)
        self._stale[flow[0]] = None

    def select(self) -> Flow | None:
        if self._stale:
            self._look_again()
        source = self._sources.peek()
        if source is None:
            return None
        ring = self._flows[source.key]
        flow = ring.peek()
        assert flow is not None
        ring.charge(flow)
        self._sources.charge(source)
        self._stale[source.key] = None
        return flow.key

    def refund(self, flow: Flow) -> None:
        """What ``select`` charged last is charged no more."""
        self._flows[flow[0]].refund(flow)
        self._sources.refund(flow[0])

    def _look_again(self) -> None:
        for source in self._stale:
            ring = self._flows[source]
            head = ring.peek()
            if head is not None:
                self._sources.offer(source, head.cost, self._weights.get(source, 1))
            elif len(ring):
                self._sources.withhold(source)
            else:
                del self._flows[source]
                self._sources.drop(source)
        self._stale.clear()
