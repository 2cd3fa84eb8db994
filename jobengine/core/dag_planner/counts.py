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

    __slots__ = ("_graph", "_verdicts", "left", "seen")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._verdicts = [VERDICTS[rule] for rule in graph.rules]
        self.left = [len(parents) for parents in graph.parents]
        self.seen = bytearray(len(graph))

    def ended(self, number: int, state: State) -> list[int]:
        """Take in the end of a node; those of the nodes behind it that need not wait any more."""
        bit, left, seen, verdicts = SEEN[state], self.left, self.seen, self._verdicts
        decided = []
        for child in self._graph.children[number]:
            left[child] -= 1
            mask = seen[child] = seen[child] | bit
            verdict = verdicts[child][mask | LEFT if left[child] else mask]
            if verdict is not Verdict.WAIT:
                decided.append(child)
        return decided

    def verdict(self, number: int) -> Verdict:
        mask = self.seen[number] | (LEFT if self.left[number] else 0)
        return self._verdicts[number][mask]

    def decided(self) -> list[int]:
        """The nodes that need not wait for what is left of their dependencies."""
        counted = enumerate(zip(self.left, self.seen, strict=True))
        return [
            number
            for number, (left, seen) in counted
            if not left or (seen and self.verdict(number) is not Verdict.WAIT)
        ]

    def make_room(self) -> None:
        """The graph has grown; its new nodes are to be counted."""
        before = len(self.left)
        added = len(self._graph) - before
        self._verdicts.extend(VERDICTS[rule] for rule in self._graph.rules[before:])
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
