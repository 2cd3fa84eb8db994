"""Graphs that runs are measured with: for each node the numbers of those that it depends on.

I1  A node depends only on nodes before it, so the list itself is an order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

__all__ = ["SHAPES", "Graph"]

Graph = Sequence[Sequence[int]]

_EDGES_A_NODE: Final = 3


def _layered(nodes: int, width: int) -> Graph:
    """Levels of ``width`` nodes; each depends on three of the level above, and as many on it."""
    first = range(min(width, nodes))
    graph: list[Sequence[int]] = [() for _ in first]
    for number in range(len(first), nodes):
        level, place = divmod(number, width)
        above = (level - 1) * width
        parents = {above + (place + step) % width for step in range(_EDGES_A_NODE)}
        graph.append(sorted(parents))
    return graph


def _chain(nodes: int, _: int) -> Graph:
    """Each node depends on the one before."""
    return [(), *((number,) for number in range(nodes - 1))]


def _fan(nodes: int, _: int) -> Graph:
    """One node, then all others, then one that depends on all of them."""
    inner = range(1, max(1, nodes - 1))
    return [(), *((0,) for _ in inner), tuple(inner)][:nodes]


def _montage(nodes: int, _: int) -> Graph:
    """The mosaic workflow of astronomy: images are projected, overlapping pairs of them compared,
    and after two nodes that wait for all of it each image is corrected; four nodes end it."""
    images = max(2, (nodes - 6) // 4)
    graph: list[Sequence[int]] = [() for _ in range(images)]
    pairs = [(image, (image + step) % images) for image in range(images) for step in (1, 2)]
    pairs = pairs[: nodes - 6 - 2 * images]
    graph += pairs
    fitted = len(graph)
    graph += [tuple(range(images, fitted)), (fitted,)]
    graph += [(image, fitted + 1) for image in range(images)]
    corrected = range(fitted + 2, len(graph))
    graph.append(tuple(corrected))
    for _ in range(3):
        graph.append((len(graph) - 1,))
    return graph


SHAPES: Final[Mapping[str, Callable[[int, int], Graph]]] = {
    "layered": _layered,
    "fan": _fan,
    "montage": _montage,
    "chain": _chain,
}
"""By name; of a number of nodes and, where levels are alike, their width."""
