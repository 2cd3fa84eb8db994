"""What the watch over sources is told of jobs: that one starts, ends, or was pushed back.

Only registered sources are watched. What this changes about a source is recorded in the commit of
the job's own change. Not here: what follows from it (``sources``, ``core/rate_bucket``).
"""

from typing import Final

from jobengine.core.breaker_state import Position
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sources import WatchedSource
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.job import Job
from jobengine.domain.outcome import Outcome
from jobengine.messages.rate_bucket import PushedBack, Started

__all__ = ["note_end", "note_push_back", "note_start", "push_back", "tell_first_starts"]

# Bound once: an enum looks its members up by name each time.
_CLOSED: Final = Position.CLOSED

_PUSH_BACKS = frozenset({429, 503})


def note_start(state: ShardState, pending: Pending, lease: Lease, source: WatchedSource) -> None:
    """A job of a source starts: a probe perhaps, and what feeds its retry budget."""
    breaker = source.breaker
    if breaker is not None and breaker.state.position is not _CLOSED:
        moved = state.gates.sources.started(source, lease.lease_id, state.now.at)
        if moved is not None:
            pending.source_changes.append(moved)
    if lease.job.failures == 0:
        starts = state.first_starts
        starts[source] = starts.get(source, 0) + 1


def note_end(state: ShardState, pending: Pending, lease: Lease, outcome: Outcome | None) -> None:
    """A job lets go of its places; ``outcome`` is how its source has done, if that is known."""
    job = lease.job
    kind = state.kind_of(job)
    source = kind.source
    if source is not None:
        at = state.now.at
        moved = state.gates.sources.ended(
            source,
            lease.lease_id,
            outcome,
            at=at,
            run_us=at - (job.started_at or at),
            running=kind.running_of_source,
        )
        if moved:
            pending.source_changes.extend(moved)
            state.open_subject((job.tenant_id, "source", source.source_id))
        state.open_subject((job.tenant_id, "breaker", source.source_id))
    state.let_go(job)


def tell_first_starts(state: ShardState) -> None:
    """Feed the retry budgets of sources with what has started."""
    if not state.first_starts:
        return
    fed: dict[str, dict[str, int]] = {}
    for source, starts in state.first_starts.items():
        fed.setdefault(source.tenant_id, {})[f"retry:{source.source_id}"] = starts
    state.first_starts = {}
    for tenant_id, starts_of in fed.items():
        told = Started(tenant_id=tenant_id, starts=starts_of)
        state.commands.extend(state.proposals.tell(tenant_id, told))


def note_push_back(
    state: ShardState, job: Job, http_status: int | None, retry_after_us: int | None
) -> None:
    """A job's failure may say that its upstream wants less: the bucket of its host hears of it."""
    if http_status in _PUSH_BACKS or retry_after_us is not None:
        source = state.kind_of(job).source
        if source is not None:
            push_back(
                state,
                job.tenant_id,
                source.source_id,
                http_status or 0,
                retry_after_us,
                job.started_at,
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
        granted_at=None if granted_at is None else granted_at - state.ahead_us,
    )
    state.commands.extend(state.proposals.tell(tenant_id, heard))
