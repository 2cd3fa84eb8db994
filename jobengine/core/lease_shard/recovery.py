"""Leases of an earlier life of the shard: each gets a full period for its worker to return.

Not here: what else is restored (``machine``).
"""

from collections.abc import Sequence

from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.ids import lease_id
from jobengine.domain.records import LeasedJob

__all__ = ["restore_leases"]


def restore_leases(state: ShardState, leased: Sequence[LeasedJob]) -> None:
    now_s = state.lease_now_s()
    for each in leased:
        job = each.job
        timeout_us = job.definition.timeout_us
        timeout_s = None
        if timeout_us is not None:
            run_us = max(0, state.now.at - each.granted_at)
            timeout_s = now_s + max(0, timeout_us - run_us) / 1_000_000
        if job.cancel_requested_at is not None:
            grace_ends_s = now_s + state.limits.cancel_grace_s
            timeout_s = grace_ends_s if timeout_s is None else min(timeout_s, grace_ends_s)
        lease = Lease(
            job=job,
            lease_id=lease_id(job.job_id, job.attempt),
            attempt=job.attempt,
            session=None,
            worker_id=each.worker_id,
            task_runner_id=each.task_runner_id,
            renewed_s=now_s,
            timeout_s=timeout_s,
            phase=Phase.LIVE,
        )
        state.leases.add(lease)
        state.occupancy.hold(job, state.kind_of(job))
