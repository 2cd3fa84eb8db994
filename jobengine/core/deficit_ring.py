"""Deficit round robin: who is served next, so that in the long run each gets its share by cost.

Decides which of several flows is served next; what a flow is, and what its service does, is the
caller's. A flow's *deficit* is the service it may still take. When its turn comes it gets a
*quantum*, and is served for as long as its deficit covers the cost of its head.

Definitions. A flow is *offered* when its head may be served, *withheld* when it may not for now,
and unknown when it has no head. An offered flow has a cost; a withheld one has none.

I1  If any flow is offered, one is chosen (work-conserving).
I2  A deficit is below the cost of the head when a turn ends, and below that cost plus one quantum
    within a turn; so nothing is saved up. A flow that is dropped loses it.
I3  A withheld flow neither gains nor loses: its deficit, its place in the order and a turn that had
    begun stay as they are, whoever is served meanwhile.
    What it is promised is that place, not service: gates that open and close in step with the
    turns of others can keep it waiting.
I4  For any two flows i, j that stay offered, in every interval
    |S_i / w_i − S_j / w_j| ≤ quantum + C / w_i + C / w_j, where S is the cost served, w the weight
    and C the largest cost: turns of the two alternate, so their quanta differ by one, and what is
    left between them are the deficits of I2.

A turn is O(1) where a quantum covers the head. Where it does not, the rounds that must pass are
computed and granted at once, so that a choice never takes more than O(flows), however small the
quantum is to the costs.

Not here: two levels, classes and limits of memory (``fair_queue``).

Source: M. Shreedhar and G. Varghese, Efficient Fair Queuing Using Deficit Round-Robin, IEEE/ACM
Transactions on Networking 4(3), 1996: Lemma 2 and Theorem 2 (I2, I4).
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["DeficitRing", "Turn"]

K = TypeVar("K", bound=Hashable)


class Turn(Generic[K]):
    """A flow as its ring keeps it, for others to read; ``cost`` is that of its head, 0 while it is
    withheld."""

    __slots__ = ("begun", "cost", "deficit", "key", "quantum")

    def __init__(self, key: K, quantum: int) -> None:
        self.key = key
        self.cost = 0
        self.quantum = quantum
        self.deficit = 0
        self.begun = False


class DeficitRing(Generic[K]):
    """``quantum`` is what a flow of weight 1 gets at its turn, in units of cost.

    A small one interleaves finely; one that covers the usual cost makes each choice O(1).
    """

    __slots__ = ("_flows", "_offered", "_quantum", "_serving")

    def __init__(self, quantum: int) -> None:
        if quantum < 1:
            raise ValueError(f"a quantum is at least 1, not {quantum}")
        self._quantum = quantum
        # In the order in which their turns come: whose turn ends goes to the end.
        self._flows: OrderedDict[K, Turn[K]] = OrderedDict()
        self._offered = 0
        self._serving: Turn[K] | None = None

    def __len__(self) -> int:
        """Flows that are known, offered or withheld."""
        return len(self._flows)

    def offer(self, key: K, cost: int, weight: int = 1) -> None:
        """The head of a flow may be served, for ``cost``. A new flow comes last in the order;
        ``weight`` counts for new flows, later ones go to ``set_weight``."""
        if cost < 1:
            raise ValueError(f"a cost is at least 1, not {cost}")
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Turn(key, self._quantum * weight)
        if not flow.cost:
            self._offered += 1
        flow.cost = cost

    def withhold(self, key: K) -> None:
        """The flow has work that may not be served for now."""
        flow = self._flows.get(key)
        if flow is not None and flow.cost:
            flow.cost = 0
            self._offered -= 1

    def drop(self, key: K) -> None:
        """The flow has no work."""
        flow = self._flows.pop(key, None)
        if flow is None:
            return
        if flow.cost:
            self._offered -= 1
        if flow is self._serving:
            self._serving = None

    def set_weight(self, key: K, weight: int) -> None:
        """Change a known flow's share from its next turn on."""
        flow = self._flows.get(key)
        if flow is not None:
            flow.quantum = self._quantum * weight

    def peek(self) -> Turn[K] | None:
        """Whose head is served next; the same until it is charged, or offers change."""
        flow = self._serving
        if flow is not None and 0 < flow.cost <= flow.deficit:
            return flow
        if not self._offered:
            return None
        if flow is not None and flow.cost:
            flow.begun = False
        return self._next_turn()

    def charge(self, flow: Turn[K]) -> None:
        """The flow that ``peek`` gave was served. Until it is told otherwise, the ring takes the
        next head to cost the same."""
        flow.deficit -= flow.cost

    def refund(self, key: K) -> None:
        """The flow that was charged last is not served after all; its turn has begun."""
        flow = self._flows[key]
        flow.deficit += flow.cost

    def _next_turn(self) -> Turn[K]:
        """Pass on from flow to flow until one can be served; it is the one that is served now."""
        first = next(iter(self._flows.values()))
        if first.cost and not first.begun and first.cost - first.deficit <= first.quantum:
            first.deficit += first.quantum
            return self._begin_turn(first)
        chosen: Turn[K] | None = None
        rounds = 0
        passed: list[Turn[K]] = []
        for flow in self._flows.values():
            if not flow.cost:
                continue
            needed = self._rounds_needed(flow)
            if chosen is None or needed < rounds:
                chosen, rounds = flow, needed
            if needed <= 1:
                break
            passed.append(flow)
        assert chosen is not None, "I1"
        move_to_end = self._flows.move_to_end
        if rounds > 1:
            for flow in passed:
                flow.deficit += (rounds - 1) * flow.quantum
        for flow in passed:
            if flow is chosen:
                break
            flow.deficit += flow.quantum
            move_to_end(flow.key)
        if rounds:
            chosen.deficit += chosen.quantum
        return self._begin_turn(chosen)

    def _begin_turn(self, flow: Turn[K]) -> Turn[K]:
        flow.begun = True
        self._flows.move_to_end(flow.key)
        self._serving = flow
        return flow

    def _rounds_needed(self, flow: Turn[K]) -> int:
        """How many quanta a flow needs for its head; 0 only where a turn goes on that was broken
        off by its being withheld."""
        short = flow.cost - flow.deficit
        if flow.begun:
            if short <= 0:
                return 0
            flow.begun = False
        return -(-short // flow.quantum) if short > 0 else 1
