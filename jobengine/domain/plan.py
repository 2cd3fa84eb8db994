"""What can be said of a graph before anything runs: order, levels, width, critical path.

Definitions. The *order* is topological with ties by key: of all nodes whose dependencies are in it,
the one with the smallest key comes next (Kahn, 1962, with a heap). A *level* is the greatest number
of edges on a way to a node from one without dependencies. The *width* is the number of nodes on the
fullest level. The *critical path* is the way whose estimates sum up to most.

I1  Equal keys, edges and estimates give equal plans, in whatever order they came.
I2  The critical path is the run's shortest possible duration with workers without end.

Not here: where estimates come from (past durations of a job type, read by the shell).
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import attrs

from jobengine.domain.graph import Graph

__all__ = ["Plan", "plan_of", "topological_order"]


@attrs.frozen(eq=False, kw_only=True)
class Plan:
    """Nodes by number. ``levels`` has a level each; ``critical_path`` goes from a node without
    dependencies to one on which nothing depends, ``critical_us`` long."""

    order: list[int]
    levels: list[int]
    width: int
    critical_path: list[int]
    critical_us: int


def topological_order(graph: Graph) -> list[int]:
    """Every node behind its dependencies, ties by key."""
    by_key = sorted(range(len(graph)), key=graph.keys.__getitem__)
    return _order_of(graph, by_key, _places(by_key))


def plan_of(graph: Graph, estimates_us: Sequence[int] | None = None) -> Plan:
    """Plan a graph. ``estimates_us`` has a duration for each node in microseconds, at least 0;
    without them each node counts 1. Of equal critical paths the one with smaller keys is taken,
    looked at from its end."""
    by_key = sorted(range(len(graph)), key=graph.keys.__getitem__)
    places = _places(by_key)
    order = _order_of(graph, by_key, places)
    estimates = [1] * len(graph) if estimates_us is None else estimates_us
    levels, ends_us = [0] * len(order), [0] * len(order)
    before = [-1] * len(order)
    all_parents, level_of, end_of = graph.parents, levels.__getitem__, ends_us.__getitem__
    for number in order:
        parents = all_parents[number]
        if parents:
            levels[number] = max(map(level_of, parents)) + 1
            ends = list(map(end_of, parents))
            start_us = max(ends)
            last = parents[ends.index(start_us)]
            if ends.count(start_us) > 1:
                equal = (parent for parent in parents if ends_us[parent] == start_us)
                last = min(equal, key=places.__getitem__)
            before[number] = last
            ends_us[number] = start_us + estimates[number]
        else:
            ends_us[number] = estimates[number]
    filled = [0] * (max(levels, default=-1) + 1)
    for level in levels:
        filled[level] += 1
    path = _path_to_the_end(graph, by_key, ends_us, before)
    return Plan(
        order=order,
        levels=levels,
        width=max(filled, default=0),
        critical_path=path,
        critical_us=ends_us[path[-1]] if path else 0,
    )


def _places(by_key: Sequence[int]) -> list[int]:
    """Of each node, its place among the keys."""
    places = [0] * len(by_key)
    for place, number in enumerate(by_key):
        places[number] = place
    return places


def _order_of(graph: Graph, by_key: Sequence[int], places: Sequence[int]) -> list[int]:
    children = graph.children
    waiting = [len(parents) for parents in graph.parents]
    ready = [places[number] for number, count in enumerate(waiting) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        number = by_key[heappop(ready)]
        order.append(number)
        for child in children[number]:
            waiting[child] -= 1
            if not waiting[child]:
                heappush(ready, places[child])
    assert len(order) == len(by_key), "a graph has no cycle"
    return order


def _path_to_the_end(
    graph: Graph, by_key: Sequence[int], ends_us: Sequence[int], before: Sequence[int]
) -> list[int]:
    """Backwards from the sink that ends last; ``by_key`` settles ties."""
    sinks = (number for number in by_key if not graph.children[number])
    last = max(sinks, key=ends_us.__getitem__, default=-1)
    path: list[int] = []
    while last >= 0:
        path.append(last)
        last = before[last]
    return path[::-1]
