"""What the watch over sources is told of jobs: that one starts, ends, or was pushed back.

Only registered sources are watched. What this changes about a source is recorded in the commit of
the job's own change. Not here: what follows from it (``sources``, ``core/rate_bucket``).
"""

from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.job import Job
from jobengine.domain.outcome import Outcome
from jobengine.messages.rate_bucket import PushedBack

__all__ = ["note_end", "note_push_back", "note_start", "push_back"]

_PUSH_BACKS = frozenset({429, 503})


def note_start(state: ShardState, pending: Pending, lease: Lease) -> None:
    """A job of a source starts: a probe perhaps, and what feeds its retry budget."""
    source_id = _registered_source(state, lease.job)
    if source_id is None:
        return
    tenant_id = lease.job.tenant_id
    moved = state.gates.sources.started(tenant_id, source_id, lease.lease_id, state.now.at)
    if moved is not None:
        pending.source_changes.append(moved)
    if lease.job.failures == 0:
        starts = state.first_starts.get(tenant_id)
        if starts is None:
            starts = state.first_starts[tenant_id] = {}
        key = f"retry:{source_id}"
        starts[key] = starts.get(key, 0) + 1


def note_end(state: ShardState, pending: Pending, lease: Lease, outcome: Outcome | None) -> None:
    """A job lets go of its places; ``outcome`` is how its source has done, if that is known."""
    job = lease.job
    source_id = _registered_source(state, job)
    if source_id is not None:
        moved = state.gates.sources.ended(
            job.tenant_id,
            source_id,
            lease.lease_id,
            outcome,
            at=state.now.at,
            run_us=max(0, state.now.at - (job.started_at or state.now.at)),
            running=state.occupancy.of((job.tenant_id, "source", source_id)),
        )
        if moved:
            pending.source_changes.extend(moved)
            state.open_subject((job.tenant_id, "source", source_id))
    state.let_go(job)


def note_push_back(
    state: ShardState, job: Job, http_status: int | None, retry_after_us: int | None
) -> None:
    """A job's failure may say that its upstream wants less: the bucket of its host hears of it."""
    if http_status in _PUSH_BACKS or retry_after_us is not None:
        source_id = _registered_source(state, job)
        if source_id is not None:
            push_back(
                state, job.tenant_id, source_id, http_status or 0, retry_after_us, job.started_at
            )


def push_back(
    state: ShardState,
    tenant_id: str,
    source_id: str,
    http_status: int,
    retry_after_us: int | None,
    granted_at: int | None,
) -> None:
    """The bucket of the host of this source hears of it, if that has a rate policy."""
    source = state.gates.controls(tenant_id).source(source_id)
    if source is None or source.rate_policy is None:
        return
    heard = PushedBack(
        tenant_id=tenant_id,
        key=f"host:{source.host}",
        http_status=http_status,
        retry_after_us=retry_after_us,
        granted_at=granted_at,
    )
    state.commands.extend(state.proposals.tell(tenant_id, heard))


def _registered_source(state: ShardState, job: Job) -> str | None:
    source_id = job.definition.source_id
    controls = state.gates.tenants.get(job.tenant_id) if source_id is not None else None
    return source_id if controls is not None and controls.source(source_id) is not None else None
