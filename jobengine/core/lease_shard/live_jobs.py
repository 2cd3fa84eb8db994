"""What operators do to jobs that have not ended: cancel, release, prioritise.

Each decision writes into an open draft and answers with the changed job, or refuses and has written
nothing.

I1  A running job is cancelled when its worker has stopped; until then it runs, with the request
    noted.
I2  A priority is changed in the job's definition, so that whatever reads the job afterwards agrees:
    its view, its rank now and its rank after a retry. The ledger keeps both values.

Not here: finding the job, the answer (``operations``).
"""

import msgspec

from jobengine.core.lease_shard.claims import let_go_of_key
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Job, Reason, State, find_transition, refuse_transition
from jobengine.messages.lease_shard import PrioritizeJob

__all__ = ["LiveJobs"]

_WAITING = (State.PENDING, State.SCHEDULED)
_encode = msgspec.json.Encoder(order="sorted").encode


class LiveJobs:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def cancel(
        self, draft: Draft, pending: Pending, reason: str, job: Job, lease: Lease | None
    ) -> Refusal | Job:
        if find_transition(job.state, State.CANCELLED) is None:
            return refuse_transition(job.job_id, job.state, State.CANCELLED)
        draft.open()
        if lease is None:
            self.cancel_waiting(draft, pending, job, Reason(reason))
        else:
            job.cancel_requested_at = draft.at
            job.cancel_reason = reason
            draft.note(job, "job.cancel_requested", worker=lease)
            draft.close(
                job,
                State.RUNNING,
                by=lease,
            )
            lease.phase = Phase.SETTLING
            grace_ends_s = self._state.lease_now_s() + self._state.limits.cancel_grace_s
            if lease.timeout_s is None or grace_ends_s < lease.timeout_s:
                lease.timeout_s = grace_ends_s
            pending.kept.append(lease)
            pending.stops.append(lease)
        return job

    def cancel_waiting(self, draft: Draft, pending: Pending, job: Job, reason: Reason) -> None:
        """End a job that waits, within a draft that is open for it."""
        from_state = job.state
        job.finished_at = draft.at
        draft.step(job, State.CANCELLED, reason=reason)
        draft.close(job, from_state)
        pending.displaced.append(job)
        let_go_of_key(draft, job)

    def release(self, draft: Draft, pending: Pending, job: Job) -> Refusal | Job:
        if job.definition.node_key is not None:
            return _refuse_node(job)
        if job.state is not State.PENDING:
            return Refusal(
                ErrorCode.ILLEGAL_TRANSITION,
                f"job {job.job_id} is {job.state}; only a held (pending) job can be released",
                {"jobId": job.job_id, "from": str(job.state)},
            )
        draft.open()
        job.scheduled_at = draft.at
        job.due_at = max(draft.at, job.definition.not_before or 0)
        draft.step(job, State.SCHEDULED)
        draft.close(job, State.PENDING)
        pending.placed.append(job)
        return job

    def prioritize(
        self, draft: Draft, pending: Pending, message: PrioritizeJob, job: Job
    ) -> Refusal | Job:
        """Give a waiting job another priority, and with it another place in its lane (I2)."""
        if job.state not in _WAITING:
            return Refusal(
                ErrorCode.ILLEGAL_TRANSITION,
                f"job {job.job_id} is {job.state}; only a waiting job can be prioritised",
                {"jobId": job.job_id, "from": str(job.state)},
            )
        before = job.definition.priority
        job.definition = msgspec.structs.replace(job.definition, priority=message.priority)
        job.definition_json = _encode(job.definition)
        job.like = None
        draft.open()
        data = canonical_of({"from": before, "to": message.priority})
        draft.note(job, "job.prioritized", data=data)
        row = draft.close(job, job.state)
        row.definition = msgspec.Raw(job.definition_json)
        pending.displaced.append(job)
        pending.placed.append(job)
        return job


def _refuse_node(job: Job) -> Refusal:
    definition = job.definition
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"job {job.job_id} is {definition.node_key!r} of run {definition.run_id}, which releases "
        "it when its dependencies allow; a node that waits for an approval gets it by "
        f"POST /runs/{definition.run_id}:approve",
        {"jobId": job.job_id, "from": str(job.state), "runId": definition.run_id},
    )
