"""Jobs of runs as they come to be: pending, until their planner releases them.

I1  A run, and each growth of it, is there as a whole or not at all: its row, its part and its jobs
    are written into one draft, and refused before anything is.

Not here: asking for a run (``runs``), for growth (``run_jobs``).
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.change import RunPartRow
from jobengine.domain.errors import Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.job import Job
from jobengine.domain.node import Node
from jobengine.domain.records import NewJob
from jobengine.domain.run_part import RunPart, encode_part, templates_of

__all__ = ["create_jobs", "refuse_cost", "write_part"]


def create_jobs(
    draft: Draft, pending: Pending, tenant_id: str, jobs: Sequence[NewJob], stride: int
) -> Iterator[None]:
    """Create jobs that wait for their release, ``stride`` of them in one go."""
    at = draft.at
    for number, new in enumerate(jobs):
        if number and number % stride == 0:
            yield
        job = Job(
            job_id=new.job_id,
            tenant_id=tenant_id,
            definition=new.definition,
            definition_json=new.definition_json,
            payload=new.payload,
            created_at=at,
            due_at=max(at, new.definition.not_before or 0),
        )
        draft.create(job)
        draft.close(job, None)
        pending.placed.append(job)


def write_part(
    draft: Draft,
    run_id: str,
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    jobs: Sequence[NewJob],
    kept: Mapping[str, str] | None = None,
) -> None:
    """Store nodes and edges as they came, and the templates of their jobs; joins are not among
    ``nodes``."""
    part = RunPart(
        nodes=tuple(nodes), edges=tuple(edges), kept=kept or {}, templates=templates_of(jobs)
    )
    draft.changes.run_parts.append(
        RunPartRow(
            tenant_id=draft.changes.tenant_id, run_id=run_id, body=msgspec.Raw(encode_part(part))
        )
    )


def refuse_cost(state: ShardState, tenant_id: str, jobs: Sequence[NewJob]) -> Refusal | None:
    """The first refusal of a job that could never have its tokens."""
    if tenant_id not in state.gates.tenants:
        return None
    for new in jobs:
        lane = state.lane_for(tenant_id, new.definition)
        refusal = state.gates.refuse_cost(new.definition, lane)
        if refusal is not None:
            key = new.definition.node_key
            details = refusal.details | {"key": key}
            return Refusal(refusal.code, f"node {key!r}: {refusal.message}", details)
    return None
