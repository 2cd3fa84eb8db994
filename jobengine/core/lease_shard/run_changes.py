"""What a planner's commands make of jobs of its runs, one by one, within an open draft.

I1  A job that is past what is asked of it is left alone, so that a command may be repeated.
I2  A job is released with its own payload: its template is filled in by then.
I3  A node that no worker has goes from pending to its end in one commit, as its first attempt,
    without a lease; one that fails leaves no dead letter, for there is nothing to be tried again.

Not here: finding the jobs, commits and answers (``run_jobs``).
"""

from typing import Final

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.live_jobs import LiveJobs
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.ready_lanes import has_expired
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.domain.canonical import canonical_of, storable
from jobengine.domain.failure import Failure
from jobengine.domain.job import Job, Reason, State, find_transition
from jobengine.messages.planner_commands import NodeEnd, OpenNode
from jobengine.messages.runs import FilledIn

__all__ = ["RunChanges"]

_CLASS_MAX: Final = 256
_MESSAGE_MAX: Final = 8_192
"""Characters; more than a door takes."""
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class RunChanges:
    """Each answers whether it has changed the job."""

    def __init__(self, state: ShardState, granter: Granter) -> None:
        self._state = state
        self._granter = granter
        self._live_jobs = LiveJobs(state)

    def release(self, draft: Draft, pending: Pending, job: Job, filled: FilledIn | None) -> bool:
        """A pending job waits for a worker, or is leased at once where it may start."""
        if job.state is not State.PENDING:
            return False
        if filled is not None:
            _fill_in(job, filled)
        draft.open()
        job.scheduled_at = draft.at
        job.due_at = max(draft.at, job.definition.not_before or 0)
        draft.step(job, State.SCHEDULED)
        session, kind = None, self._state.kind_of(job)
        if job.due_at <= draft.at and not has_expired(job, draft.at):
            session = self._granter.on_arrival(job, kind)
        if session is None:
            row = draft.close(job, State.PENDING)
            pending.placed.append(job)
        else:
            self._state.expiring.discard(job.job_id)
            self._granter.grant(draft, pending, job, kind, session)
            row = draft.close(
                job,
                State.PENDING,
                by=session,
            )
        if filled is not None:
            row.definition = msgspec.Raw(job.definition_json)
            row.payload = msgspec.Raw(job.payload)
        return True

    def open(self, draft: Draft, job: Job, node: OpenNode, filled: FilledIn | None) -> bool:
        """A pending node without a worker may go on; it stays pending until it ends."""
        if job.state is not State.PENDING or job.scheduled_at is not None:
            return False
        if filled is not None:
            _fill_in(job, filled)
        draft.open()
        job.scheduled_at = draft.at
        draft.note(job, "run.node_opened", data=canonical_of({"key": node.key, "kind": node.kind}))
        row = draft.close(job, State.PENDING)
        if filled is not None:
            row.definition = msgspec.Raw(job.definition_json)
            row.payload = msgspec.Raw(job.payload)
        return True

    def end(self, draft: Draft, pending: Pending, job: Job, end: NodeEnd) -> bool:
        """A pending node ends that no worker has (I3)."""
        if job.state is not State.PENDING:
            return False
        given, draft.actor = draft.actor, end.actor or ENGINE
        draft.open()
        if end.state is State.CANCELLED:
            self._live_jobs.cancel_waiting(draft, pending, job, Reason.RUN_CANCELLED)
        else:
            self._pass_through(draft, job, end)
            pending.displaced.append(job)
        draft.actor = given
        return True

    def cancel(self, draft: Draft, pending: Pending, job: Job, reason: Reason) -> bool:
        """A job that waits is cancelled, one that runs is asked to stop."""
        transition = find_transition(job.state, State.CANCELLED)
        if transition is None or reason not in transition.reasons:
            return False
        lease = self._state.leases.of_job(job.job_id)
        if job.state is State.RUNNING and (lease is None or job.cancel_requested_at is not None):
            return False
        self._live_jobs.cancel(draft, pending, reason, job, lease)
        return True

    def _pass_through(self, draft: Draft, job: Job, end: NodeEnd) -> None:
        at = draft.at
        job.scheduled_at = job.scheduled_at or at
        draft.step(job, State.SCHEDULED)
        job.attempt += 1
        job.started_at = job.finished_at = at
        draft.step(job, State.RUNNING, span_us=at - job.scheduled_at)
        if end.state is State.COMPLETED:
            job.result = end.result or b"null"
            draft.step(job, State.COMPLETED, span_us=0)
        else:
            job.failures += 1
            job.result, job.error = end.result, _error_of(end)
            draft.step(job, State.FAILED, reason=Reason.ERROR, span_us=0, error=job.error)
        row = draft.close(job, State.PENDING)
        if job.result is not None:
            row.result = msgspec.Raw(job.result)
        if job.error is not None:
            row.error = msgspec.Raw(job.error)


def _fill_in(job: Job, filled: FilledIn) -> None:
    job.payload = filled.payload
    job.definition = msgspec.structs.replace(
        job.definition, payload_digest=filled.digest, templated=False
    )
    job.definition_json = _encode(job.definition)


def _error_of(end: NodeEnd) -> bytes:
    class_ = storable(end.error or "node_failed", _CLASS_MAX)
    message = storable(end.message or class_, _MESSAGE_MAX)
    failure = Failure(class_=class_, message=message, retryable=False)
    return msgspec.json.encode(failure, order="sorted")
