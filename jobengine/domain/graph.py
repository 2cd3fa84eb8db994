"""The graph of a run: nodes by key, edges as integers, and how it grows.

A graph is built and grown by one verb: ``extend`` an empty one, or one that is live. What it is
given is refused as a whole, or taken as a whole.

Definitions. A *key* names a node in its run; its *number* counts nodes in the order in which they
came. An *instance* is one of the nodes that a ``map`` node expands into; its *join* is the node
that waits for all of them. Whoever depends on a ``map`` node waits for its join.

I1  There is no cycle and no self-edge; keys are unique; no edge is there twice.
I2  ``children`` and ``parents`` hold the same edges. Numbers never change.
I3  The join of ``map`` node ``n`` is ``n + 1``; the keys of joins and instances cannot be given to
    other nodes (``pages[]``, ``pages[0]``, …).
I4  Building costs O(nodes + edges); growth costs what it adds, and what lies behind the nodes that
    are there already and get more dependencies.

Not here: order, levels and critical path (``plan``); which nodes may start (``trigger_rule``);
whether a run still takes growth (``core/dag_planner``).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, cast

import attrs

from jobengine.domain.cycle import find_cycle
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph_refusals import bad_source, invalid, too_many
from jobengine.domain.node import Node, NodeKind, join_key
from jobengine.domain.trigger_rule import TriggerRule

__all__ = ["EDGES_MAX", "NODES_MAX", "Edge", "Graph", "GraphLimits", "build_graph"]

NODES_MAX: Final = 100_000
EDGES_MAX: Final = 500_000
_CYCLE_KEYS_MAX: Final = 100
_is_key: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}").fullmatch


class Edge(NamedTuple):
    """``target`` depends on ``source``; both are keys."""

    source: str
    target: str


@attrs.frozen(kw_only=True)
class GraphLimits:
    nodes_max: int = NODES_MAX
    edges_max: int = EDGES_MAX


_Late = dict[int, list[int]]
"""Edges beside those that new nodes bring themselves: sources by target."""
_JOINS: Final = (TriggerRule.ALL_DONE, TriggerRule.ALL_SUCCEEDED, TriggerRule.NONE_FAILED)


@attrs.define(eq=False)
class Graph:
    """Lists by number; read them, and change them through ``extend`` alone."""

    limits: GraphLimits = GraphLimits()
    keys: list[str] = attrs.field(factory=list)
    rules: list[TriggerRule] = attrs.field(factory=list)
    kinds: list[NodeKind] = attrs.field(factory=list)
    parents: list[tuple[int, ...]] = attrs.field(factory=list)
    children: list[list[int]] = attrs.field(factory=list)
    numbers: dict[str, int] = attrs.field(factory=dict)
    edge_count: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def exit_of(self, key: str) -> int | None:
        """The number of the node whose end is the end of ``key``: of a ``map`` node, its join."""
        number = self.numbers.get(key)
        if number is not None and self.kinds[number] is NodeKind.MAP:
            return number + 1
        return number

    def edges(self) -> Iterator[tuple[int, int]]:
        """(source, target), by target and then in the order in which they came."""
        for target, sources in enumerate(self.parents):
            for source in sources:
                yield source, target

    def extend(self, nodes: Sequence[Node], edges: Sequence[Edge] = ()) -> Refusal | None:
        """Take more nodes, and edges into nodes that are here; on a refusal nothing has changed.

        Nodes may depend on each other in any order. An edge's target may be new or old.
        """
        return self._try(nodes, edges, keep=True)

    def refuse(self, nodes: Sequence[Node], edges: Sequence[Edge] = ()) -> Refusal | None:
        """What ``extend`` would answer; nothing has changed."""
        return self._try(nodes, edges, keep=False)

    def _try(self, nodes: Sequence[Node], edges: Sequence[Edge], *, keep: bool) -> Refusal | None:
        before, late = len(self.keys), _Late()
        suspects: list[int] = []
        refusal = (
            self._add_nodes(nodes)
            or self._add_dependencies(nodes, late, suspects)
            or self._add_edges(edges, late, suspects)
            or self._refuse_cycle(suspects)
        )
        if refusal is not None or not keep:
            self._undo(before, late)
        else:
            for target, sources in late.items():
                self.parents[target] += tuple(sources)
        return refusal

    def _add_nodes(self, nodes: Sequence[Node]) -> Refusal | None:
        if self._add_plain_nodes(nodes):
            return None
        for place, node in enumerate(nodes):
            refusal = self._refuse_node(node, place)
            if refusal is not None:
                return refusal
            self._add_node(node.key, node.kind, node.trigger)
            if node.kind is NodeKind.MAP:
                self._add_node(join_key(node.key), NodeKind.JOIN, node.join)
            if len(self.keys) > self.limits.nodes_max:
                return too_many("nodes", self.limits.nodes_max)
        return None

    def _add_plain_nodes(self, nodes: Sequence[Node]) -> bool:
        """Nodes for workers that nothing is wrong with, which most are, in one go; False: there are
        others among them, and nothing has changed."""
        job, before, added = NodeKind.JOB, len(self.keys), len(nodes)
        keys = [node.key for node in nodes if node.kind is job and node.of is None]
        names = set(keys)
        if (
            len(names) != added
            or before + added > self.limits.nodes_max
            or not names.isdisjoint(self.numbers)
            or not all(map(_is_key, keys))
        ):
            return False
        self.numbers.update(zip(keys, range(before, before + added), strict=True))
        self.keys += keys
        self.kinds += [job] * added
        self.rules += [node.trigger for node in nodes]
        self.parents += [()] * added
        self.children += [[] for _ in nodes]
        return True

    def _refuse_node(self, node: Node, place: int) -> Refusal | None:
        key = node.key
        path = f"jobs[{place}].key"
        if node.of is None:
            if not _is_key(key):
                why = "is no key; write 1 to 128 of A-Z a-z 0-9 . _ : / -, a letter or digit first"
                return invalid(path, f"{key[:128]!r} {why}")
        elif not self._is_instance(node):
            return invalid(path, f"{key[:160]!r} is no instance of a map node in this run")
        if key in self.numbers:
            return invalid(path, f"{key!r} is there already; keys are unique in a run", key=key)
        if node.kind is NodeKind.JOIN:
            return invalid(f"jobs[{place}].kind", "a join comes with its map node; ask for that")
        if node.kind is NodeKind.MAP and node.join not in _JOINS:
            why = f"{node.join} cannot end a join; take one of {', '.join(_JOINS)}"
            return invalid(f"jobs[{place}].join", why)
        return None

    def _is_instance(self, node: Node) -> bool:
        assert node.of is not None
        number = self.numbers.get(node.of)
        inside = node.key.removeprefix(node.of)
        return (
            number is not None
            and self.kinds[number] is NodeKind.MAP
            and node.kind is NodeKind.JOB
            and not node.depends_on
            and inside != node.key
            and re.fullmatch(r"\[(?:0|[1-9][0-9]*)\]", inside) is not None
        )

    def _add_node(self, key: str, kind: NodeKind, rule: TriggerRule) -> None:
        self.numbers[key] = len(self.keys)
        self.keys.append(key)
        self.kinds.append(kind)
        self.rules.append(rule)
        self.parents.append(())
        self.children.append([])

    def _add_dependencies(
        self, nodes: Sequence[Node], late: _Late, suspects: list[int]
    ) -> Refusal | None:
        """Edges into the new nodes, and from instances to their joins.

        Those make no cycle that was none without them: their ``map`` node comes before the join
        already.
        """
        parents, children, numbers = self.parents, self.children, self.numbers
        edges_max, map_node = self.limits.edges_max, NodeKind.MAP
        find: Callable[[str], int | None] = numbers.get
        if map_node in self.kinds:
            find = self.exit_of
        for place, node in enumerate(nodes):
            number, depends_on = numbers[node.key], node.depends_on
            known: tuple[int, ...] = ()
            if depends_on:
                sources = tuple(map(find, depends_on))
                if None in sources or number in sources or len(set(sources)) != len(sources):
                    return self._refuse_sources(node, f"jobs[{place}].dependsOn")
                known = cast("tuple[int, ...]", sources)
                if max(known) > number:
                    suspects.append(number)
            if node.of is not None:
                opener = numbers[node.of]
                known = (opener,)
                self._add_edge(number, opener + 1, late)
            if node.kind is map_node:
                self._add_edge(number, number + 1, late)
            if known:
                parents[number] += known
                for source in known:
                    children[source].append(number)
                self.edge_count += len(known)
            if self.edge_count > edges_max:
                return too_many("edges", edges_max)
        return None

    def _refuse_sources(self, node: Node, path: str) -> Refusal:
        """Which of the keys is at fault."""
        named = set[str]()
        for nth, key in enumerate(node.depends_on):
            if key == node.key or self.exit_of(key) is None:
                return bad_source(f"{path}[{nth}]", key, node.key)
            if key in named:
                return invalid(f"{path}[{nth}]", f"{key!r} is named twice; name it once", key=key)
            named.add(key)
        return invalid(path, "names a map node and its join; name one of them")

    def _add_edges(self, edges: Sequence[Edge], late: _Late, suspects: list[int]) -> Refusal | None:
        known: dict[int, set[int]] = {}
        for place, (source_key, target_key) in enumerate(edges):
            source, target = self.exit_of(source_key), self.numbers.get(target_key)
            if source is None or source_key == target_key:
                return bad_source(f"edges[{place}].from", source_key, target_key)
            if target is None:
                return bad_source(f"edges[{place}].to", target_key, source_key)
            if target not in known:
                known[target] = {*self.parents[target], *late.get(target, ())}
            if source in known[target]:
                return invalid(f"edges[{place}]", f"{source_key} → {target_key} is there already")
            known[target].add(source)
            self._add_edge(source, target, late)
            suspects.append(target)
            if self.edge_count > self.limits.edges_max:
                return too_many("edges", self.limits.edges_max)
        return None

    def _add_edge(self, source: int, target: int, late: _Late) -> None:
        """``parents`` has it when all is taken."""
        self.children[source].append(target)
        self.edge_count += 1
        late.setdefault(target, []).append(source)

    def _refuse_cycle(self, suspects: Sequence[int]) -> Refusal | None:
        """A new cycle takes one of the ``edges``, or it lies among new nodes and there goes from a
        greater number to a smaller one: it can be reached from the targets of those."""
        cycle = find_cycle(self.children, self.keys, suspects)
        if cycle is None:
            return None
        keys = [self.keys[number] for number in [*cycle, cycle[0]]]
        shown = keys if len(keys) <= _CYCLE_KEYS_MAX else [*keys[: _CYCLE_KEYS_MAX - 1], "…"]
        details = {"path": "jobs", "cycle": shown, "length": len(cycle)}
        message = f"the dependencies form a cycle: {' → '.join(shown)}; take one of them away"
        return Refusal(ErrorCode.RUN_INVALID, message, details)

    def _undo(self, before: int, late: _Late) -> None:
        """What was added stands at the end of every list, so the order of taking away is free."""
        sources = list[int]()
        for added in (*late.values(), *self.parents[before:]):
            sources += added
        for source in sources:
            self.children[source].pop()
        self.edge_count -= len(sources)
        for key in self.keys[before:]:
            del self.numbers[key]
        del self.keys[before:], self.kinds[before:], self.rules[before:]
        del self.parents[before:], self.children[before:]


def build_graph(
    nodes: Sequence[Node], edges: Sequence[Edge] = (), limits: GraphLimits | None = None
) -> Graph | Refusal:
    """The graph of these nodes, or why they are none: code ``RUN_INVALID``, ``details.path`` names
    the field, ``details.cycle`` the keys of a cycle with the first one again at the end.

    The refusal is the same for the same nodes in the same order.
    """
    graph = Graph(limits or GraphLimits())
    if not nodes:
        return invalid("jobs", "a run has at least one job")
    return graph.extend(nodes, edges) or graph
