"""Finding a cycle among integers, and naming it by a short path.

What has no cycle is peeled off, source by source (Kahn, 1962), in O(nodes + edges) of what can be
reached. Only when something is left is more work done: a node of a cycle is found by walking
backwards, and the shortest cycle through that node by one breadth-first search.

I1  The answer depends on the edges and the keys, not on the order in which edges came.

Not here: what is said of a cycle (``graph``).
"""

from collections import deque
from collections.abc import Sequence

__all__ = ["find_cycle"]


def find_cycle(
    children: Sequence[Sequence[int]], keys: Sequence[str], starts: Sequence[int]
) -> list[int] | None:
    """A cycle that can be reached from ``starts``, each node once, the one with the smallest key
    first; None when there is none."""
    rest = _unpeeled(children, starts) if starts else None
    if not rest:
        return None
    parents: dict[int, int] = {}
    for source in sorted(rest, key=keys.__getitem__, reverse=True):
        for target in children[source]:
            if target in rest:
                parents[target] = source
    number, walked = min(rest, key=keys.__getitem__), set[int]()
    while number not in walked:
        walked.add(number)
        number = parents[number]
    members = [number]
    while (before := parents[members[-1]]) != number:
        members.append(before)
    return _shortest(children, keys, rest, min(members, key=keys.__getitem__))


def _unpeeled(children: Sequence[Sequence[int]], starts: Sequence[int]) -> frozenset[int]:
    """What can be reached and lies on a cycle or behind one."""
    waiting, marks = [0] * len(children), bytearray(len(children))
    reached = list(dict.fromkeys(starts))
    for start in reached:
        marks[start] = 1
    for source in reached:
        for target in children[source]:
            waiting[target] += 1
            if not marks[target]:
                marks[target] = 1
                reached.append(target)
    free = [number for number in reached if not waiting[number]]
    for source in free:
        for target in children[source]:
            left = waiting[target] - 1
            waiting[target] = left
            if not left:
                free.append(target)
    return frozenset(reached).difference(free) if len(free) < len(reached) else frozenset()


def _shortest(
    children: Sequence[Sequence[int]], keys: Sequence[str], rest: frozenset[int], first: int
) -> list[int]:
    """The shortest cycle through ``first``, turned to begin with its smallest key."""
    came_from: dict[int, int] = {}
    queue = deque([first])
    while first not in came_from:
        source = queue.popleft()
        for target in sorted(children[source], key=keys.__getitem__):
            if target in rest and target not in came_from:
                came_from[target] = source
                queue.append(target)
    path = [first]
    while (before := came_from[path[-1]]) != first:
        path.append(before)
    path = [path[0], *reversed(path[1:])]
    turn = path.index(min(path, key=keys.__getitem__))
    return path[turn:] + path[:turn]
