"""Runs as they are read back from the store, in the words of their planner.

I1  A run that is read while its jobs go on may show some of them as they were a moment before; what
    has changed meanwhile is told to the planner by the shard, after its commit.

Not here: when a run is read, and what must not be under way then (``dag_planner``).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from jobengine.domain.graph import Edge
from jobengine.domain.job import Reason, State
from jobengine.domain.node import Node
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.messages.dag_planner import EndedRun
from jobengine.messages.run_facts import JobEnd, ParentNode, RunStarted
from jobengine.store.runs import RunStore

__all__ = ["kept_ends", "parent_of", "read_ended", "read_nodes", "read_run"]

_PAGE: Final = 2_000
_ENDS: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


async def read_run(store: RunStore, record: RunRecord, stamp: int | None = None) -> RunStarted:
    """A run that has not ended, as its planner is told of it."""
    parts = await store.run_parts(record.tenant_id, record.run_id)
    ends = await _kept_in(store, record.tenant_id, parts)
    jobs = await read_nodes(store, record.tenant_id, record.run_id)
    ends += [_end_of(job) for job in jobs if job.state in _ENDS]
    started = [job for job in jobs if job.state not in _ENDS and job.scheduled_at is not None]
    nodes, edges = _graph_of(parts)
    return RunStarted(
        stamp=stamp,
        tenant_id=record.tenant_id,
        run_id=record.run_id,
        run_token=record.run_token,
        created_at=record.created_at,
        state=record.state,
        nodes=nodes,
        edges=edges,
        ends=ends,
        started=[job.node_key for job in started],
        stopping=[job.node_key for job in started if job.cancel_requested_at is not None],
        fail_fast=record.fail_fast,
        cancel_requested=record.cancel_requested_at is not None,
        parent=parent_of(record),
    )


async def read_ended(store: RunStore, record: RunRecord) -> EndedRun:
    """A run as it is to be judged for running part of it again."""
    parts = await store.run_parts(record.tenant_id, record.run_id)
    ends = await _kept_in(store, record.tenant_id, parts)
    jobs = await read_nodes(store, record.tenant_id, record.run_id)
    ends += [_end_of(job) for job in jobs if job.state in _ENDS]
    nodes, edges = _graph_of(parts)
    return EndedRun(state=record.state, nodes=nodes, edges=edges, ends=ends)


async def read_nodes(store: RunStore, tenant_id: str, run_id: str) -> list[NodeRecord]:
    """The nodes of a run, by job id; jobs that only bear its id as a label are none."""
    found: list[NodeRecord] = []
    after: str | None = None
    while True:
        page = await store.run_nodes(tenant_id, run_id, after, _PAGE)
        found += [node for node in page if node.node_key]
        if len(page) < _PAGE:
            return found
        after = page[-1].job_id


async def kept_ends(store: RunStore, tenant_id: str, kept: Mapping[str, str]) -> list[JobEnd]:
    """How the jobs of earlier runs ended whose results are kept, under the keys of ``kept``."""
    job_ids, found = list(kept.values()), dict[str, NodeRecord]()
    for start in range(0, len(job_ids), _PAGE):
        for job in await store.node_records(tenant_id, job_ids[start : start + _PAGE]):
            found[job.job_id] = job
    return [
        JobEnd(key, State.COMPLETED, found[job_id].result_digest if job_id in found else None)
        for key, job_id in kept.items()
    ]


def parent_of(record: RunRecord) -> ParentNode | None:
    if record.parent_run is None or record.parent_key is None:
        return None
    return ParentNode(record.parent_run, record.parent_key)


async def _kept_in(store: RunStore, tenant_id: str, parts: Sequence[RunPart]) -> list[JobEnd]:
    kept: dict[str, str] = {}
    for part in parts:
        kept.update(part.kept)
    return await kept_ends(store, tenant_id, kept)


def _graph_of(parts: Sequence[RunPart]) -> tuple[list[Node], list[Edge]]:
    nodes = [node for part in parts for node in part.nodes]
    return nodes, [edge for part in parts for edge in part.edges]


def _end_of(job: NodeRecord) -> JobEnd:
    skipped = job.reason == Reason.SKIPPED
    digest = job.result_digest if job.state is State.COMPLETED else None
    error = job.error_class if job.state is State.FAILED else None
    return JobEnd(job.node_key, job.state, digest, error, skipped)
