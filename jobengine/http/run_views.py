"""Runs as they are answered: the run itself, its graph as a console draws it.

Everything follows from what the store has of a run (``domain/run_record``, ``domain/run_part``), so
the same run gives the same bytes, whichever planner has it.

Not here: the chart of attempts (``run_gantt``), the record for auditors (``run_ledger``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs
import msgspec

from jobengine.domain.graph import Graph
from jobengine.domain.instant import MILLISECOND, SECOND, to_rfc3339
from jobengine.domain.job import State
from jobengine.domain.node import Node, NodeKind, join_key
from jobengine.domain.plan import Plan, plan_of
from jobengine.domain.run import JobIds, RollUp
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.http.times import instant, span_ms
from jobengine.wire.run_views import DagNode, DagView, NodeErrorView, RollUpView, RunView

__all__ = ["RunGraph", "dag_view", "is_open", "run_view"]

_ESTIMATE_US: Final = SECOND
"""What a job counts whose type has not completed yet."""


@attrs.frozen(eq=False, kw_only=True)
class RunGraph:
    """A run's nodes by number, planned by what their types took before. ``edges`` go by the order
    of the plan, then by the key of the target. ``kept`` maps keys to the jobs of earlier runs whose
    results stand for them."""

    graph: Graph
    nodes: Sequence[Node]
    plan: Plan
    edges: Sequence[tuple[int, int]]
    on_critical_path: frozenset[int]
    job_ids: Sequence[str]
    kept: Mapping[str, str]
    estimates_us: Sequence[int]

    @classmethod
    def of(
        cls,
        record: RunRecord,
        parts: Sequence[RunPart],
        records: Mapping[str, NodeRecord],
        typical_us: Mapping[str, int],
    ) -> "RunGraph":
        """``records`` by job id, ``typical_us`` by job type."""
        graph, nodes, kept = Graph(), list[Node](), dict[str, str]()
        for part in parts:
            refusal = graph.extend(part.nodes, part.edges)
            assert refusal is None, f"{record.run_id} is stored and no graph: {refusal}"
            kept.update(part.kept)
            for node in part.nodes:
                nodes.append(node)
                if node.kind is NodeKind.MAP:
                    nodes.append(
                        Node(key=join_key(node.key), kind=NodeKind.JOIN, trigger=node.join)
                    )
        ids = JobIds(record.tenant_id, record.run_token, record.created_at)
        there = {each.node_key: job_id for job_id, each in records.items()}
        job_ids = [kept.get(key) or there.get(key) or ids.of(key) for key in graph.keys]
        estimates = [
            _estimate(kind, records.get(job_id), typical_us)
            for kind, job_id in zip(graph.kinds, job_ids, strict=True)
        ]
        plan = plan_of(graph, estimates)
        return cls(
            graph=graph,
            nodes=nodes,
            plan=plan,
            edges=[
                (number, child)
                for number in plan.order
                for child in sorted(graph.children[number], key=graph.keys.__getitem__)
            ],
            on_critical_path=frozenset(plan.critical_path),
            job_ids=job_ids,
            kept=kept,
            estimates_us=estimates,
        )


def _estimate(kind: NodeKind, record: NodeRecord | None, typical_us: Mapping[str, int]) -> int:
    if kind is not NodeKind.JOB or record is None:
        return 0
    return typical_us.get(record.job_type, _ESTIMATE_US)


def is_open(kind: NodeKind, record: NodeRecord) -> bool:
    """Whether a node without a worker waits for what it stands for."""
    return (
        kind is not NodeKind.JOB
        and record.state is State.PENDING
        and record.scheduled_at is not None
    )


def run_view(record: RunRecord, job_ids: Mapping[str, str] | None = None) -> RunView:
    rolled = record.rolled
    return RunView(
        run_id=record.run_id,
        tenant_id=record.tenant_id,
        project_id=record.project_id or None,
        run_token=record.run_token,
        state=cast(Any, record.state),
        nodes=record.nodes,
        dag_id=record.dag_id,
        dag_version=record.dag_version,
        pack_id=None if record.pack is None else record.pack.pack_id,
        fail_fast=record.fail_fast,
        inputs=msgspec.Raw(record.inputs),
        inputs_hash=record.inputs_hash,
        outputs_hash=None if rolled is None else rolled.outputs_hash,
        replay_of=record.replay_of,
        parent_run_id=record.parent_run,
        parent_key=record.parent_key,
        correlation_id=record.correlation_id,
        traceparent=record.traceparent,
        created_by=record.created_by,
        created_at=to_rfc3339(record.created_at),
        started_at=instant(record.started_at),
        finished_at=instant(record.finished_at),
        duration_ms=span_ms(record.started_at, record.finished_at),
        cancel_requested_at=instant(record.cancel_requested_at),
        roll_up=None if rolled is None else _roll_up_view(rolled),
        job_ids=dict(job_ids or {}),
    )


def _roll_up_view(rolled: RollUp) -> RollUpView:
    return RollUpView(
        completed=rolled.completed,
        failed=rolled.failed,
        cancelled=rolled.cancelled,
        errors=[NodeErrorView(key=each.key, error=each.error) for each in rolled.errors],
        outputs_hash=rolled.outputs_hash,
    )


def dag_view(record: RunRecord, run: RunGraph, records: Mapping[str, NodeRecord]) -> DagView:
    """The graph of a run; a node whose job is gone is left out, with its edges."""
    plan, keys = run.plan, run.graph.keys
    shown = [number for number in plan.order if run.job_ids[number] in records]
    here = set(shown)
    return DagView(
        run_id=record.run_id,
        state=cast(Any, record.state),
        nodes=[_dag_node(run, number, records[run.job_ids[number]]) for number in shown],
        edges=[
            [keys[source], keys[target]]
            for source, target in run.edges
            if source in here and target in here
        ],
        levels=max(plan.levels, default=-1) + 1,
        width=plan.width,
        critical_path=[keys[number] for number in plan.critical_path],
        critical_ms=plan.critical_us // MILLISECOND,
    )


def _dag_node(run: RunGraph, number: int, record: NodeRecord) -> DagNode:
    key, kind = run.graph.keys[number], run.graph.kinds[number]
    return DagNode(
        key=key,
        job_id=record.job_id,
        kind=kind,
        type=record.job_type,
        state=cast(Any, record.state),
        reason=record.reason,
        attempt=record.attempt,
        level=run.plan.levels[number],
        on_critical_path=number in run.on_critical_path,
        trigger=run.graph.rules[number].value,
        of=run.nodes[number].of,
        open=is_open(kind, record),
        kept=key in run.kept,
        error=record.error_class if record.state is State.FAILED else None,
        queue_ms=span_ms(record.scheduled_at, record.started_at),
        run_ms=span_ms(record.started_at, record.finished_at),
        estimate_ms=run.estimates_us[number] // MILLISECOND,
        started_at=instant(record.started_at),
        finished_at=instant(record.finished_at),
    )
