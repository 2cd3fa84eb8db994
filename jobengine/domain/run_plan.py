"""From nodes with their jobs to a run as it is created, and to what a run grows by.

I1  Nodes and jobs stand in topological order, ties by key: equal requests give equal records, nodes
    and jobs, in whatever order their nodes came.
I2  A definition names its run, its key and the jobs it depends on.

Not here: what a node may say (``run_nodes``), when it may start (``trigger_rule``).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from jobengine.domain.canonical import EMPTY_OBJECT, digest
from jobengine.domain.errors import Refusal
from jobengine.domain.graph import Edge, Graph, build_graph
from jobengine.domain.node import Node, NodeKind, join_key
from jobengine.domain.plan import topological_order
from jobengine.domain.records import NewJob
from jobengine.domain.run import JobIds, RunDefinition, inputs_hash
from jobengine.domain.run_nodes import NodeJob, prepare_nodes, workerless
from jobengine.domain.run_record import RunRecord

__all__ = ["PlannedRun", "jobs_of_growth", "plan_rerun", "plan_run"]


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """``nodes`` without joins, ``jobs`` with them, both in topological order; ``graph`` has the
    nodes as they were given."""

    record: RunRecord
    nodes: Sequence[Node]
    jobs: Sequence[NewJob]
    graph: Graph


# The fields of a definition stand sorted; what is left to sort are the names of its labels.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def plan_run(record: RunRecord, nodes: Sequence[NodeJob]) -> PlannedRun | Refusal:
    """The run that ``record`` names, made of these nodes; of the record ``nodes`` and
    ``inputs_hash`` are filled in. A refusal names the place in ``jobs``: codes ``RUN_INVALID`` and
    ``TEMPLATE_INVALID``.

    Takes about 0.1 ms a node; what depends only on its arguments may be done in a thread.
    """
    prepared = prepare_nodes(nodes)
    if isinstance(prepared, Refusal):
        return prepared
    graph = build_graph([each.node for each in prepared])
    if isinstance(graph, Refusal):
        return graph
    by_key = {each.node.key: each for each in prepared}
    return _planned(record, graph, {key: each.node for key, each in by_key.items()}, by_key)


def plan_rerun(
    record: RunRecord,
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    again: Mapping[str, NodeJob],
    kept: Collection[str],
) -> PlannedRun | Refusal:
    """Part of an earlier run as a run of its own: ``again`` has the nodes that run, by key, but for
    joins, ``kept`` the keys of all others. Prepared nodes, as the earlier run had them."""
    graph = build_graph(nodes, edges)
    if isinstance(graph, Refusal):
        return graph
    planned = _planned(record, graph, {node.key: node for node in nodes}, again, kept)
    part = [planned.record.inputs_hash, record.replay_of, sorted(kept), sorted(edges)]
    record = msgspec.structs.replace(planned.record, inputs_hash=digest(_encode(part)))
    return msgspec.structs.replace(planned, record=record)


def _planned(
    record: RunRecord,
    graph: Graph,
    nodes: Mapping[str, Node],
    jobs: Mapping[str, NodeJob],
    kept: Collection[str] = (),
) -> PlannedRun:
    ids = JobIds(record.tenant_id, record.run_token, record.created_at)
    job_ids = [ids.of(key) for key in graph.keys]
    ordered, made = list[Node](), list[NewJob]()
    for number in topological_order(graph):
        key = graph.keys[number]
        depends_on = tuple(job_ids[parent] for parent in graph.parents[number])
        is_join = graph.kinds[number] is NodeKind.JOIN
        if not is_join:
            ordered.append(nodes[key])
        if key not in kept:
            each = _join(key) if is_join else jobs[key]
            made.append(_new_job(record, each, job_ids[number], depends_on))
    does = inputs_hash(
        RunDefinition(
            dag_id=record.dag_id,
            dag_version=record.dag_version,
            fail_fast=record.fail_fast,
            inputs_digest=None if record.inputs == EMPTY_OBJECT else digest(record.inputs),
            jobs=tuple(ordered),
        )
    )
    record = msgspec.structs.replace(record, nodes=len(graph), inputs_hash=does)
    return PlannedRun(record=record, nodes=ordered, jobs=made, graph=graph)


def jobs_of_growth(
    record: RunRecord,
    new: Sequence[tuple[Node, str]],
    jobs: Mapping[str, NodeJob],
    edges: Sequence[Edge],
    is_map: Callable[[str], bool],
) -> list[NewJob]:
    """The jobs of nodes, each with its id, that a run grows by; ``jobs`` has them by key, but for
    joins. ``is_map`` knows the ``map`` nodes that the run had before."""
    ids = JobIds(record.tenant_id, record.run_token, record.created_at)
    maps = {node.key for node, _ in new if node.kind is NodeKind.MAP}
    late: dict[str, list[str]] = {}
    for edge in edges:
        late.setdefault(edge.target, []).append(edge.source)
    made: list[NewJob] = []
    for node, job_id in new:
        if node.kind is NodeKind.JOIN:
            opener = ids.of(node.key.removesuffix("[]"))
            made.append(_new_job(record, _join(node.key), job_id, (opener,)))
            continue
        keys = [*node.depends_on, *late.get(node.key, ())]
        exits = [join_key(key) if key in maps or is_map(key) else key for key in keys]
        depends_on = tuple(ids.of(key) for key in exits)
        if node.of is not None:
            depends_on = (ids.of(node.of),)
        made.append(_new_job(record, jobs[node.key], job_id, depends_on))
    return made


def _new_job(
    record: RunRecord, each: NodeJob, job_id: str, depends_on: tuple[str, ...]
) -> NewJob:  # fmt: skip
    node, payload = each.node, bytes(each.payload)
    definition = msgspec.structs.replace(
        each.definition,
        correlation_id=each.definition.correlation_id or record.correlation_id or record.run_id,
        depends_on=depends_on,
        node_key=node.key,
        payload_digest=digest(payload),
        project_id=each.definition.project_id or record.project_id,
        run_id=record.run_id,
        templated=node.reads is not None,
        traceparent=each.definition.traceparent or record.traceparent,
    )
    return NewJob(
        job_id=job_id,
        definition=definition,
        definition_json=_encode(definition),
        payload=payload,
    )


def _join(key: str) -> NodeJob:
    return NodeJob(
        definition=workerless(NodeKind.JOIN),
        node=Node(key=key, kind=NodeKind.JOIN),
        payload=msgspec.Raw(EMPTY_OBJECT),
    )
