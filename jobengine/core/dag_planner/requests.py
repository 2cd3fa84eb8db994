"""What a live run may be asked for: whether it takes a growth, and which part runs again.

Growth: new nodes may depend on anything; new edges go only into nodes that wait, for what has
started cannot be given a dependency any more. A run that is given up or ends takes none.

A rerun is a run of its own (runs only go forward, and jobs that ended by cancel are final). What
has completed is kept, unless it stands behind something that runs again.

Not here: when a growth's turn comes, and what is commanded (``machine``).
"""

from collections.abc import Sequence

import attrs
import msgspec

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge, Graph
from jobengine.domain.job import State
from jobengine.domain.node import Node, NodeKind, instance_of, join_key
from jobengine.domain.run import ENDED
from jobengine.messages.dag_planner import EndedRun, ExtendRun, ReplayFrom, RetryFailed
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import NewNode, NodeEnd

__all__ = [
    "Growth",
    "Rerun",
    "expansion",
    "extension",
    "refuse_growth",
    "refuse_unfinished",
    "rerun_of",
]


@attrs.frozen(kw_only=True)
class Growth:
    """``opener`` is the number of the ``map`` node whose instances the nodes are; ``ask_id`` is of
    whoever waits for it."""

    nodes: Sequence[Node]
    edges: Sequence[Edge] = ()
    body: bytes = b""
    actor: Actor | None = None
    ask_id: int | None = None
    opener: int | None = None

    def new_nodes(self, run: LiveRun) -> list[NewNode]:
        """The nodes with the ids of their jobs, joins included."""
        new: list[NewNode] = []
        for node in self.nodes:
            new.append(NewNode(node, run.ids.of(node.key)))
            if node.kind is NodeKind.MAP:
                key = join_key(node.key)
                join = Node(key=key, kind=NodeKind.JOIN, trigger=node.join)
                new.append(NewNode(join, run.ids.of(key)))
        return new

    def opened(self, run: LiveRun) -> NodeEnd | None:
        if self.opener is None:
            return None
        return NodeEnd(run.graph.keys[self.opener], run.job_id(self.opener), State.COMPLETED)

    def targets(self, run: LiveRun) -> list[int]:
        """The nodes of the run that are given dependencies."""
        numbers = run.graph.numbers
        join = [] if self.opener is None else [self.opener + 1]
        return [*join, *(numbers[edge.target] for edge in self.edges if edge.target in numbers)]


def extension(message: ExtendRun) -> Growth:
    return Growth(
        nodes=message.nodes,
        edges=message.edges,
        body=message.body,
        actor=message.actor,
        ask_id=message.ask_id,
    )


def expansion(run: LiveRun, opener: int, count: int) -> Growth:
    key = run.graph.keys[opener]
    nodes = [instance_of(key, place) for place in range(count)]
    return Growth(nodes=nodes, opener=opener)


def refuse_growth(run: LiveRun, growth: Growth) -> Refusal | None:
    """Why the run does not take this growth now; nothing of the run has changed."""
    if run.finishing or run.done or run.given_up or run.cancel_requested:
        why = f"run {run.run_id} has ended or is being cancelled; it takes nothing more"
        return Refusal(ErrorCode.RUN_ENDED, why, {"runId": run.run_id})
    if growth.opener is None:
        for place, node in enumerate(growth.nodes):
            if node.of is not None:
                return _invalid(f"jobs[{place}].of", "instances come from their map node alone")
        if not growth.nodes and not growth.edges:
            return _invalid("jobs", "names nothing to add")
    for place, edge in enumerate(growth.edges):
        number = run.graph.numbers.get(edge.target)
        if number is not None and not run.waits(number):
            why = f"{edge.target!r} has started or ended; add edges into nodes that wait"
            return _invalid(f"edges[{place}].to", why)
    return run.graph.refuse(growth.nodes, growth.edges)


# ---- reruns


@attrs.frozen(kw_only=True)
class Rerun:
    """The nodes and edges of the new run, and the keys of those that are completed already."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    kept: Sequence[str]


def rerun_of(message: RetryFailed | ReplayFrom) -> Rerun | Refusal:
    """What runs again of a run that has ended, and what is kept."""
    ended = message.ended
    if ended.state not in ENDED:
        return refuse_unfinished(message.run_id)
    graph = Graph()
    refusal = graph.extend(ended.nodes, ended.edges)
    if refusal is not None:
        return refusal
    completed = {end.key for end in ended.ends if end.state is State.COMPLETED}
    first = [number for number, key in enumerate(graph.keys) if key not in completed]
    if isinstance(message, ReplayFrom):
        number = graph.numbers.get(message.key)
        if number is None:
            why = f"there is no {message.key[:160]!r} in run {message.run_id}"
            return Refusal(ErrorCode.NOT_FOUND, why, {"path": "key"})
        first.append(number)
    if not first:
        why = f"every job of run {message.run_id} has completed; use :replayFrom to run it again"
        return Refusal(ErrorCode.ILLEGAL_TRANSITION, why, {"runId": message.run_id})
    return _part(ended, graph, _behind(graph, first))


def refuse_unfinished(run_id: str) -> Refusal:
    why = f"run {run_id} has not ended; wait for its end, or cancel it first"
    return Refusal(ErrorCode.RUN_UNFINISHED, why, {"runId": run_id})


def _behind(graph: Graph, first: Sequence[int]) -> bytearray:
    """A mark at every node of ``first`` and at all that follow from one."""
    marks, reached = bytearray(len(graph)), list(first)
    for number in first:
        marks[number] = 1
    for number in reached:
        for child in graph.children[number]:
            if not marks[child]:
                marks[child] = 1
                reached.append(child)
    return marks


def _part(ended: EndedRun, graph: Graph, again: bytearray) -> Rerun:
    """A ``map`` node that runs again expands again: its instances are left out, and so are edges
    from and to them."""
    numbers = graph.numbers
    gone = {node.key for node in ended.nodes if node.of is not None and again[numbers[node.of]]}
    nodes = [
        msgspec.structs.replace(
            node, depends_on=tuple(key for key in node.depends_on if key not in gone)
        )
        for node in ended.nodes
        if node.key not in gone
    ]
    edges = [edge for edge in ended.edges if edge.source not in gone and edge.target not in gone]
    kept = [
        key for number, key in enumerate(graph.keys) if not again[number] and key not in gone
    ]  # fmt: skip
    return Rerun(nodes=nodes, edges=edges, kept=kept)


def _invalid(path: str, why: str) -> Refusal:
    return Refusal(ErrorCode.RUN_INVALID, f"{path}: {why}", {"path": path})
