"""How an attempt ends: given back, failed, stopped, or ended by the clock.

I1  A failed attempt is retried while ``failures ≤ maxRetries`` and the error is retryable; a job
    whose worker died ``crashes_max`` times is set aside whatever its retries. Otherwise it gets a
    dead letter in the same commit.
I2  After a cancel was asked for, any end but success ends in ``cancelled``.
I3  A job that is given back without a delay keeps its place in its lane.

Success is in ``reports``: nobody but the worker can tell it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from jobengine.core.lease_shard.claims import let_go_of_key
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.source_watch import note_end, note_push_back
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.domain.change import DeadLetterRow, JobRow
from jobengine.domain.failure import DeadLetterClass, Failure, dead_letter_class, signature
from jobengine.domain.job import Job, Reason, State
from jobengine.domain.outcome import Outcome, speaks_of_source
from jobengine.domain.retry import retry_delay_us

__all__ = ["Endings", "store_progress"]

# Bound once: an enum looks its members up by name each time.
_RUNNING: Final = State.RUNNING
_SETTLING: Final = Phase.SETTLING

_json = msgspec.json.Encoder(order="sorted")


class Endings:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def expire(self, lease: Lease) -> None:
        """The clock ends a lease: its worker fell silent, or the attempt took too long."""
        state = self._state
        job = lease.job
        draft, pending = state.draft(job.tenant_id, ENGINE), Pending()
        timed_out = lease.timeout_s is not None and lease.timeout_s <= lease.ends_s()
        if timed_out and lease.session is not None:
            pending.stops.append(lease)
        if timed_out:
            seconds = (job.definition.timeout_us or 0) / 1_000_000
            failure = Failure(
                class_="TimedOut",
                message=f"the attempt took more than {seconds} s",
                retryable=True,
            )
            self.fail(draft, pending, lease, failure, Reason.TIMED_OUT, None)
        else:
            failure = Failure(
                class_="LeaseExpired",
                message="the worker stopped renewing its lease",
                retryable=True,
            )
            self.fail(draft, pending, lease, failure, Reason.LEASE_EXPIRED, None)
        state.commit(draft, pending)

    def give_back(self, draft: Draft, pending: Pending, lease: Lease, delay_us: int) -> None:
        """End a lease without an outcome: its job waits again, or ends if a cancel was asked."""
        job = lease.job
        if job.cancel_requested_at is not None:
            self.stop(draft, pending, lease)
            return
        draft.open()
        self.end(pending, lease)
        job.due_at = draft.at + delay_us if delay_us else min(job.due_at, draft.at)
        job.scheduled_at = draft.at
        draft.step(job, State.SCHEDULED, worker=lease, span_us=draft.at - (job.started_at or 0))
        store_progress(draft.close(job, _RUNNING), lease)
        pending.placed.append(job)

    def give_back_all(self, leases: Sequence[Lease]) -> None:
        """Leases that no worker has heard of or still holds: their jobs wait again at once."""
        state = self._state
        tenant_id = leases[0].job.tenant_id
        draft, pending = state.draft(tenant_id, ENGINE), Pending()
        for lease in leases:
            self.give_back(draft, pending, lease, 0)
        state.commit(draft, pending)

    def fail(
        self,
        draft: Draft,
        pending: Pending,
        lease: Lease,
        failure: Failure,
        reason: Reason,
        retry_after_us: int | None,
    ) -> None:
        """End an attempt by a failure: retry the job, or bury it."""
        job = lease.job
        if job.cancel_requested_at is not None:
            self.stop(draft, pending, lease)
            return
        draft.open()
        outcome = None if reason is Reason.LEASE_EXPIRED else speaks_of_source(failure)
        self.end(pending, lease, outcome)
        note_push_back(self._state, job, failure.http_status, retry_after_us)
        error = _json.encode(failure)
        job.failures += 1
        job.error = error
        crash_loop = False
        if reason is Reason.LEASE_EXPIRED:
            job.crashes += 1
            crash_loop = job.crashes >= self._state.limits.crashes_max
        span_us = draft.at - (job.started_at or draft.at)
        draft.step(
            job,
            State.FAILED,
            reason=reason,
            worker=lease,
            span_us=span_us,
            error=error,
        )
        if failure.retryable and not crash_loop and job.failures <= job.definition.max_retries:
            self._retry(draft, job, retry_after_us)
            pending.placed.append(job)
        else:
            job.finished_at = draft.at
            self._bury(draft, lease, failure, reason, crash_loop=crash_loop)
        row = draft.close(job, _RUNNING)
        row.error = msgspec.Raw(error)
        store_progress(row, lease)
        let_go_of_key(draft, job)

    def stop(self, draft: Draft, pending: Pending, lease: Lease) -> None:
        """The end of a lease after a cancel was asked for."""
        job = lease.job
        draft.open()
        self.end(pending, lease)
        job.finished_at = draft.at
        draft.step(
            job,
            State.CANCELLED,
            reason=job.cancel_reason,
            worker=lease,
            span_us=draft.at - (job.started_at or draft.at),
        )
        store_progress(draft.close(job, _RUNNING), lease)
        let_go_of_key(draft, job)

    def end(self, pending: Pending, lease: Lease, outcome: Outcome | None = None) -> None:
        """Take a lease from its session; it is gone when the commit returns.

        ``outcome`` is what the end says of the job's source; None when it says nothing.
        """
        lease.phase = _SETTLING
        note_end(self._state, pending, lease, outcome)
        session = lease.session
        if session is not None:
            session.leases.pop(lease.job.job_id, None)
            self._state.free(session)
        pending.ended.append(lease)

    def _retry(self, draft: Draft, job: Job, retry_after_us: int | None) -> None:
        delay = retry_delay_us(job.job_id, job.failures, job.definition.backoff, retry_after_us)
        job.scheduled_at = draft.at
        job.due_at = draft.at + delay
        draft.step(job, State.SCHEDULED, actor=ENGINE.subject, span_us=delay)

    def _bury(
        self, draft: Draft, lease: Lease, failure: Failure, reason: Reason, *, crash_loop: bool
    ) -> None:
        job = lease.job
        class_ = DeadLetterClass.CRASH_LOOP if crash_loop else dead_letter_class(failure, reason)
        mark = signature(job.definition.job_type, failure)
        draft.note(
            job,
            "job.dead_lettered",
            data=_json.encode({"class": class_, "signature": mark}),
            worker=lease,
        )
        draft.changes.dead_letters.append(
            DeadLetterRow(
                tenant_id=job.tenant_id,
                dead_letter_id=lease.lease_id,
                job_id=job.job_id,
                job_type=job.definition.job_type,
                queue=job.definition.queue,
                class_=class_,
                signature=mark,
                error=msgspec.Raw(_json.encode(failure)),
                attempts=job.attempt,
                worker_id=lease.worker_id,
                at=draft.at,
            )
        )


def store_progress(row: JobRow, lease: Lease) -> None:
    """Write the last progress of an attempt that ends, if that is not stored yet."""
    if lease.progress_unstored and lease.job.progress is not None:
        row.progress = msgspec.Raw(lease.job.progress)
