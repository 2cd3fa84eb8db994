"""How the dependencies of each node of a live run stand: what is left of them, and what was seen.

I1  ``left`` is how many dependencies have not ended, ``seen`` the mask of how the others did
    (``domain/trigger_rule``).

Not here: what follows from that (``live_run``).
"""

from jobengine.core.dag_planner.phases import STATE_OF, Phase
from jobengine.domain.graph import Graph
from jobengine.domain.job import State
from jobengine.domain.trigger_rule import LEFT, SEEN, VERDICTS, Verdict

__all__ = ["Counts"]


class Counts:
    """Lists by number of the node."""

    __slots__ = ("_graph", "left", "seen")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.left = [len(parents) for parents in graph.parents]
        self.seen = bytearray(len(graph))

    def ended(self, number: int, state: State) -> None:
        bit, left, seen = SEEN[state], self.left, self.seen
        for child in self._graph.children[number]:
            left[child] -= 1
            seen[child] |= bit

    def verdict(self, number: int) -> Verdict:
        mask = self.seen[number] | (LEFT if self.left[number] else 0)
        return VERDICTS[self._graph.rules[number]][mask]

    def make_room(self) -> None:
        """The graph has grown; its new nodes are to be counted."""
        added = len(self._graph) - len(self.left)
        self.left.extend([0] * added)
        self.seen.extend(bytes(added))

    def count(self, number: int, phases: bytearray) -> None:
        """Count afresh, after an edge has come."""
        left, seen = 0, 0
        for parent in self._graph.parents[number]:
            state = STATE_OF.get(Phase(phases[parent]))
            if state is None:
                left += 1
            else:
                seen |= SEEN[state]
        self.left[number], self.seen[number] = left, seen
