"""A run as somebody who watches it knows it: its graph as read, kept up to date by events.

Definitions. A *group* is what stands for a ``map`` node's instances; a node without one stands for
itself.

I1  What was read is not undone by an event that comes late: what has ended stays ended, and an
    attempt is followed by later ones alone.

Not here: reading and following (``run_watch``), how it looks (``run_screen``, ``run_text``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from jobengine.wire.run_views import DagNode, DagView, RunView

__all__ = ["ENDED", "Group", "WatchedRun", "face_of"]

ENDED: Final = ("completed", "failed", "cancelled")


@attrs.frozen
class Group:
    """Nodes of one level that are shown together: the instances of one map node, or one node."""

    label: str
    job_type: str
    nodes: Sequence[DagNode]

    @property
    def critical(self) -> bool:
        return any(node.on_critical_path for node in self.nodes)


@attrs.define(eq=False)
class WatchedRun:
    """``signal`` is the run's first sign of life, as one line; ``stale`` says that the graph must
    be read again: the run itself has changed, or has jobs that are not known."""

    run: RunView
    graph: DagView
    signal: str | None = None
    stale: bool = False
    _by_job: dict[str, DagNode] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._by_job = {node.job_id: node for node in self.graph.nodes}

    def load(self, run: RunView, graph: DagView) -> list[DagNode]:
        """Replace what is known by what was read; answers the nodes that have changed."""
        before = {node.key: face_of(node) for node in self.graph.nodes}
        self.run, self.graph, self.stale = run, graph, False
        self.__attrs_post_init__()
        return [
            node
            for node in graph.nodes
            if face_of(node) != before.get(node.key, "pending") or node.key not in before
        ]

    def take(self, kind: str, data: Mapping[str, Any]) -> DagNode | None:
        """What comes on the stream of the run; answers the node that it has changed."""
        if kind == "first_signal":
            self.signal = data["firstSignal"]["message"]
        if not kind.startswith(("job.", "run.")) and kind != "gap":
            return None
        job = data.get("job")
        if not isinstance(job, dict):
            self.stale = True
            return None
        node = self._by_job.get(job.get("id", ""))
        if node is None:
            self.stale = True
        if node is None or node.state in ENDED or job.get("attempt", 0) < node.attempt:
            return None
        before = face_of(node), node.attempt
        if kind == "run.node_opened":
            node.open = True
        state, at = job.get("status"), data.get("occurredAt")
        # A node without a worker goes through the states in one commit; only its end counts.
        if state is not None and (node.kind == "job" or state in ENDED):
            node.state = state
            node.reason = job.get("reason")
            node.attempt = job.get("attempt", 0)
            if state == "running":
                node.started_at = at
            elif state in ENDED:
                node.finished_at, node.open = at, False
                node.run_ms = _span_ms(node.started_at, at)
                node.error = (job.get("error") or {}).get("class")
        return None if (face_of(node), node.attempt) == before else node

    def counts(self) -> Counter[str]:
        """Nodes by what they show."""
        return counted(self.graph.nodes)

    def levels(self) -> list[list[Group]]:
        """Groups by level, in the order of the graph."""
        found: dict[int, dict[str, list[DagNode]]] = {}
        for node in self.graph.nodes:
            label = node.key if node.of is None else f"{node.of}[]"
            # The join of a map node has the key of the group and no place in it.
            label = f"{label} join" if node.kind == "join" else label
            found.setdefault(node.level, {}).setdefault(label, []).append(node)
        return [
            [Group(label, nodes[0].type, nodes) for label, nodes in found[level].items()]
            for level in sorted(found)
        ]

    def left_s(self, now: datetime) -> float | None:
        """About how long it takes from now: what the estimates say of the longest way that is left,
        or the pace so far where that is slower. None where nothing moves until somebody acts."""
        waiting = [node for node in self.graph.nodes if node.state not in ENDED]
        is_open = any(node.open for node in waiting)
        if is_open and all(node.open or node.state == "pending" for node in waiting):
            return None
        ended = len(self.graph.nodes) - len(waiting)
        pace_s = 0.0
        if ended and self.run.started_at is not None:
            pace_s = _seconds(self.run.started_at, now) / ended * len(waiting)
        return max(self._longest_way_s(now), pace_s)

    def _longest_way_s(self, now: datetime) -> float:
        parents: dict[str, list[str]] = {}
        for source, target in self.graph.edges:
            parents.setdefault(target, []).append(source)
        ends: dict[str, float] = {}
        for node in self.graph.nodes:
            own_s = 0.0
            if node.state not in ENDED:
                own_s = node.estimate_ms / 1000
                if node.state == "running" and node.started_at is not None:
                    own_s = max(0.0, own_s - _seconds(node.started_at, now))
            ends[node.key] = own_s + max(
                (ends.get(key, 0.0) for key in parents.get(node.key, ())), default=0.0
            )
        return max(ends.values(), default=0.0)


def counted(nodes: Iterable[DagNode]) -> Counter[str]:
    return Counter(face_of(node) for node in nodes)


def face_of(node: DagNode) -> str:
    """What a node shows: its state, or `open` for one that waits for the outside, or `skipped`."""
    if node.open:
        return "open"
    return "skipped" if node.state == "cancelled" and node.reason == "skipped" else node.state


def _seconds(since: str, now: datetime) -> float:
    return max(0.0, (now - datetime.fromisoformat(since)).total_seconds())


def _span_ms(since: str | None, until: Any) -> int | None:
    if since is None or not isinstance(until, str):
        return None
    return round(1000 * _seconds(since, datetime.fromisoformat(until)))
