"""Graphs are built, grown, refused and planned; networkx is the judge of order and paths."""

import time
from collections.abc import Sequence
from itertools import pairwise

import networkx as nx  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge, Graph, GraphLimits, build_graph
from jobengine.domain.node import Node, NodeKind, instance_of
from jobengine.domain.plan import plan_of, topological_order
from jobengine.domain.trigger_rule import TriggerRule


def nodes_of(**dependencies: str) -> list[Node]:
    return [Node(key=key, depends_on=tuple(of.split())) for key, of in dependencies.items()]


def built(nodes: Sequence[Node], edges: Sequence[Edge] = ()) -> Graph:
    graph = build_graph(nodes, edges)
    assert isinstance(graph, Graph), graph
    return graph


def refused(nodes: Sequence[Node], edges: Sequence[Edge] = (), **limits: int) -> Refusal:
    refusal = build_graph(nodes, edges, GraphLimits(**limits))
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.RUN_INVALID
    return refusal


def picture(graph: Graph) -> tuple[object, ...]:
    return (
        list(graph.keys),
        list(graph.kinds),
        list(graph.rules),
        list(graph.parents),
        [list(each) for each in graph.children],
        dict(graph.numbers),
        graph.edge_count,
    )


@st.composite
def dags(draw: st.DrawFn, size_max: int = 12) -> list[Node]:
    """Acyclic, listed in any order, with keys whose order says nothing."""
    size = draw(st.integers(1, size_max))
    names = draw(st.permutations([f"k{number}" for number in range(size)]))
    nodes = []
    for number in range(size):
        some = draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        nodes.append(Node(key=names[number], depends_on=tuple(names[each] for each in some)))
    return draw(st.permutations(nodes))


def judged(graph: Graph) -> "nx.DiGraph[int]":
    judge: nx.DiGraph[int] = nx.DiGraph()
    judge.add_nodes_from(range(len(graph)))
    judge.add_edges_from(graph.edges())
    return judge


@given(dags())
def test_order_levels_and_width_are_those_of_networkx(nodes: list[Node]) -> None:
    graph = built(nodes)
    judge = judged(graph)
    plan = plan_of(graph)
    expected = nx.lexicographical_topological_sort(judge, key=graph.keys.__getitem__)
    assert plan.order == topological_order(graph) == list(expected)
    for level, generation in enumerate(nx.topological_generations(judge)):
        assert all(plan.levels[number] == level for number in generation)
    assert plan.width == max(len(each) for each in nx.topological_generations(judge))


@given(dags(), st.data())
def test_the_critical_path_is_as_long_as_that_of_networkx(
    nodes: list[Node], data: st.DataObject
) -> None:
    graph = built(nodes)
    estimates = [data.draw(st.integers(0, 5)) for _ in range(len(graph))]
    plan = plan_of(graph, estimates)
    judge = judged(graph)
    judge.add_node(-1)
    for number in range(len(graph)):
        judge.add_edge(number, -1)
    weighted: nx.DiGraph[int] = nx.DiGraph()
    for source, target in judge.edges:
        weighted.add_edge(source, target, weight=estimates[source])
    assert plan.critical_us == nx.dag_longest_path_length(weighted)
    path = plan.critical_path
    assert sum(estimates[number] for number in path) == plan.critical_us
    assert all(before in graph.parents[after] for before, after in pairwise(path))
    assert not graph.parents[path[0]]
    assert not graph.children[path[-1]]


@given(dags(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_input(nodes: list[Node], chance: object) -> None:
    shuffled = list(nodes)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = built(nodes), built(shuffled)
    estimates = {node.key: len(node.depends_on) for node in nodes}

    def told(graph: Graph) -> tuple[object, ...]:
        plan = plan_of(graph, [estimates[key] for key in graph.keys])
        named = [[graph.keys[each] for each in row] for row in (plan.order, plan.critical_path)]
        return (*named, plan.width, plan.critical_us)

    assert told(one) == told(other)


@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_a_cycle_of_any_length_is_named_by_its_path(length: int, chance: object) -> None:
    keys = [f"c{number:02}" for number in range(length)]
    nodes = [Node(key=key, depends_on=(keys[place - 1],)) for place, key in enumerate(keys)]
    nodes += nodes_of(before="", behind="c01")
    chance.shuffle(nodes)  # type: ignore[attr-defined]
    refusal = refused(nodes)
    assert refusal.details["cycle"] == [*keys, "c00"]
    assert refusal.details["length"] == length
    assert "c00 → c01" in refusal.message


def test_of_a_knot_of_cycles_a_short_one_is_named() -> None:
    nodes = nodes_of(a="d", b="a", c="b", d="c b", e="d")
    assert refused(nodes).details["cycle"] == ["a", "b", "d", "a"]


def test_the_path_of_a_long_cycle_is_shown_in_part() -> None:
    count = 20_000
    nodes = [Node(key=f"c{n}", depends_on=(f"c{(n - 1) % count}",)) for n in range(count)]
    details = refused(nodes).details
    assert details["length"] == count
    assert len(details["cycle"]) == 100


@given(dags(), st.data())
def test_an_edge_that_closes_a_cycle_is_refused_and_any_other_is_taken(
    nodes: list[Node], data: st.DataObject
) -> None:
    graph = built(nodes)
    source, target = (data.draw(st.sampled_from(graph.keys)) for _ in range(2))
    before = picture(graph)
    edge = Edge(source, target)
    judge = judged(graph)
    judge.add_edge(graph.numbers[source], graph.numbers[target])
    good = nx.is_directed_acyclic_graph(judge) and not judged(graph).has_edge(
        graph.numbers[source], graph.numbers[target]
    )
    refusal = graph.refuse([], [edge])
    assert (refusal is None) == good
    assert picture(graph) == before
    assert graph.extend([], [edge]) == refusal
    assert (picture(graph) == before) == (not good)


@given(dags(), dags(6))
def test_a_graph_that_grew_is_the_graph_that_was_built_at_once(
    nodes: list[Node], more: list[Node]
) -> None:
    renamed = [
        Node(key=f"m.{node.key}", depends_on=(nodes[0].key, *(f"m.{k}" for k in node.depends_on)))
        for node in more
    ]
    grown = built(nodes)
    assert grown.extend(renamed) is None
    assert picture(grown) == picture(built([*nodes, *renamed]))


@pytest.mark.parametrize(
    ("nodes", "path"),
    [
        ([], "jobs"),
        (nodes_of(a="a"), "jobs[0].dependsOn[0]"),
        (nodes_of(a="", b="a nowhere"), "jobs[1].dependsOn[1]"),
        (nodes_of(a="", b="a a"), "jobs[1].dependsOn[1]"),
        ([Node(key="a"), Node(key="a")], "jobs[1].key"),
        ([Node(key="")], "jobs[0].key"),
        ([Node(key="x" * 129)], "jobs[0].key"),
        ([Node(key="a[]")], "jobs[0].key"),
        ([Node(key="a\n")], "jobs[0].key"),
        ([Node(key="a"), instance_of("a", 0)], "jobs[1].key"),
        ([Node(key="j", kind=NodeKind.JOIN)], "jobs[0].kind"),
        ([Node(key="m", kind=NodeKind.MAP, join=TriggerRule.ANY_FAILED)], "jobs[0].join"),
    ],
)
def test_a_refusal_names_the_field(nodes: list[Node], path: str) -> None:
    assert refused(nodes).details["path"] == path


def test_a_hundred_thousand_duplicates_are_refused_at_the_first() -> None:
    refusal = refused([Node(key="same")] * 100_000)
    assert refusal.details == {"path": "jobs[1].key", "key": "same"}


def test_too_many_nodes_or_edges_are_refused_with_the_limit() -> None:
    assert refused(nodes_of(a="", b="", c=""), nodes_max=2).details["limit"] == 2
    many = nodes_of(a="", b="a", c="a b")
    assert refused(many, edges_max=2).details == {"path": "jobs", "limit": 2, "of": "edges"}
    assert isinstance(build_graph(many, limits=GraphLimits(nodes_max=3, edges_max=3)), Graph)


def test_many_edges_into_one_node_are_taken_or_refused_as_a_whole() -> None:
    keys = [f"n{n}" for n in range(20_000)]
    graph = built([Node(key="end", depends_on=("n0",)), *(Node(key=key) for key in keys)])
    edges = [Edge(key, "end") for key in keys[1:]]
    before, shown = graph.parents[0], picture(graph)
    for refused_ones in ([*edges, edges[0]], [*edges, Edge("n0", "end")]):
        refusal = graph.extend((), refused_ones)
        assert refusal is not None
        assert refusal.details["path"] == "edges[19999]"
    assert graph.parents[0] is before
    assert picture(graph) == shown
    assert graph.extend((), edges) is None
    assert graph.parents[0] == tuple(range(1, 20_001))
    assert graph.edge_count == 20_000


def test_edges_are_refused_when_there_already_or_to_nowhere() -> None:
    nodes = nodes_of(a="", b="a")
    assert refused(nodes, [Edge("a", "b")]).details["path"] == "edges[0]"
    assert refused(nodes, [Edge("b", "c")]).details["path"] == "edges[0].to"
    assert refused(nodes, [Edge("c", "b")]).details["path"] == "edges[0].from"
    assert refused(nodes, [Edge("b", "b")]).details["cycle"] == ["b", "b"]


def test_who_depends_on_a_map_node_waits_for_its_join_behind_all_instances() -> None:
    graph = built([Node(key="m", kind=NodeKind.MAP), *nodes_of(after="m")])
    assert graph.keys == ["m", "m[]", "after"]
    assert graph.extend([instance_of("m", place) for place in range(3)]) is None
    assert [graph.keys[n] for n in topological_order(graph)] == [
        "m", "m[0]", "m[1]", "m[2]", "m[]", "after",
    ]  # fmt: skip
    assert graph.extend([instance_of("m", 0)]) is not None
    assert graph.extend([instance_of("m", 3)], [Edge("after", "m[3]")]) is not None
    assert len(graph) == 6


def test_a_hundred_thousand_nodes_are_built_and_planned_in_time() -> None:
    nodes = [
        Node(key=f"n{n}", depends_on=tuple({f"n{n * 7919 % n}", f"n{n // 2}", f"n{n // 3}"}))
        if n
        else Node(key="n0")
        for n in range(100_000)
    ]
    began_at = time.thread_time()
    graph = built(nodes)
    plan = plan_of(graph)
    assert time.thread_time() - began_at < 5, "CPU seconds; alone on a core it takes under 2"
    assert len(plan.order) == 100_000
