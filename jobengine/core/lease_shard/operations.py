"""Operations: what people ask of single jobs, and what falls due on waiting ones.

Here an operation finds its job and gets its answer; what it makes of the job is decided in
``live_jobs`` (cancel, release, prioritise) and ``past_jobs`` (retry, replay, discard).

I1  An operation sees the job as committed: nothing else of the job is in flight while it decides.
I2  Who gives a job back its unique key holds that key from before it is read who has it.
I3  What the transition table does not allow is refused with the pair and what would be legal, and
    changes nothing.
"""

from collections.abc import Sequence
from typing import Any, assert_never

from jobengine.core.lease_shard.claims import refuse_crowd, settle_claim, store_claim
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.held_jobs import HeldJobs
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.live_jobs import LiveJobs
from jobengine.core.lease_shard.past_jobs import PastJobs
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import DUE_ENTRY_BYTES, ENGINE, ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Job, Reason, State
from jobengine.domain.records import DueJob
from jobengine.messages.answers import facts_of_operate
from jobengine.messages.lease_shard import (
    CancelJob,
    DiscardDeadLetter,
    OperateAnswer,
    Operation,
    PrioritizeJob,
    ReleaseJob,
    ReplayJob,
    RetryJob,
    SubmitAnswer,
)
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded

__all__ = ["Operator"]

_WAITING = (State.PENDING, State.SCHEDULED)


_Reading = tuple[Operation, Sequence[str]]
"""An operation, and the unique keys that are held for it."""


class Operator:
    def __init__(self, state: ShardState, held_jobs: HeldJobs, submitter: Submitter) -> None:
        self._state = state
        self._held_jobs = held_jobs
        self._submitter = submitter
        self._live_jobs = LiveJobs(state)
        self._past_jobs = PastJobs(submitter)
        self._reading: dict[int, _Reading | list[DueJob]] = {}

    def operate(self, message: Operation) -> None:
        """Begin an operation: at once on a running job, else when the job has been read."""
        if self._held_jobs.crowded(message.job_id):
            refusal = refuse_crowd(self._state.limits.waiting_requests_max)
            self._state.commands.append(Answer(message.ask_id, refusal))
            return
        if self._held_jobs.waits(message.job_id, message):
            return
        if not self._submitter.claims.take(message.ask_id, message.tenant_id, message.claim):
            return
        self._held_jobs.hold(message.job_id)
        self._read(message, ())

    def expire(self, due: Sequence[DueJob]) -> None:
        """Jobs of one tenant that reached their expiry without having started."""
        state = self._state
        free = []
        for row in due:
            if row.job_id in state.operating or state.proposals.holds(row.job_id):
                state.defer(row.job_id, row)
            elif state.leases.of_job(row.job_id) is None:
                free.append(row)
                self._held_jobs.hold(row.job_id)
        if not free:
            return
        stamp = state.stamp()
        self._reading[stamp] = free
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=free[0].tenant_id,
                job_ids=[row.job_id for row in free],
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Decide; returns what may be handled again now, or None when the stamp is not ours."""
        subject = self._reading.pop(message.stamp, None)
        if subject is None:
            return None
        if isinstance(subject, list):
            return self._expire_loaded(subject, message)
        operation, keys = subject
        if operation.claim is not None:
            settled = settle_claim(operation.claim, message)
            if settled is not None:
                value = (
                    OperateAnswer(job=None, stored=settled.stored, replayed=True)
                    if isinstance(settled, SubmitAnswer)
                    else settled
                )
                return self._answer(operation, keys, value, message.jobs.get(operation.job_id))
        job = message.jobs.get(operation.job_id)
        if job is None:
            refusal = Refusal(
                ErrorCode.NOT_FOUND, f"no job {operation.job_id} here", {"jobId": operation.job_id}
            )
            return self._answer(operation, keys, refusal, None)
        if isinstance(operation, RetryJob) and job.state is State.FAILED and not keys:
            key = job.definition.unique_key
            if key is not None:
                return self._hold_key(operation, key, job)
        lease = self._state.leases.of_job(job.job_id)
        if lease is not None:
            job = lease.job
        answer = self._carry_out(subject, job, lease, message)
        return [] if answer is None else self._answer(operation, keys, answer, job)

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        subject = self._reading.pop(stamp, None)
        if subject is None:
            return None
        if isinstance(subject, list):
            released: list[Any] = []
            for row in subject:
                released.extend(self._held_jobs.let_go(row.tenant_id, row.job_id, None))
                self._state.expiring.offer((row.at, row.job_id), row, DUE_ENTRY_BYTES)
            return released
        return self._answer(*subject, refusal, None)

    def _hold_key(self, message: Operation, key: str, job: Job) -> list[Any]:
        """Read again with the job's unique key held, when nobody else does (I2)."""
        claims = self._submitter.claims
        crowded = claims.crowded(message.ask_id, message.tenant_id, [key])
        if not crowded and not claims.waits(message.tenant_id, [key], message):
            claims.hold_keys(message.tenant_id, [key])
            self._read(message, (key,))
            return []
        self._release_claim(message)
        return self._held_jobs.let_go(message.tenant_id, message.job_id, job)

    def _carry_out(
        self, operation: _Reading, job: Job, lease: Lease | None, read: SubjectsLoaded
    ) -> Refusal | OperateAnswer | None:
        """Decide one operation; None when its commit is under way."""
        message, keys = operation
        draft, pending = self._state.draft(job.tenant_id, message.actor), Pending()
        pending.unique_keys = [(job.tenant_id, key) for key in keys]
        changed: Refusal | Job
        match message:
            case CancelJob():
                if job.cancel_requested_at is not None and job.state is State.RUNNING:
                    return OperateAnswer(job=job)
                changed = self._live_jobs.cancel(draft, pending, message.reason, job, lease)
            case ReleaseJob():
                changed = self._live_jobs.release(draft, pending, job)
            case PrioritizeJob():
                if job.state in _WAITING and job.definition.priority == message.priority:
                    return OperateAnswer(job=job)
                changed = self._live_jobs.prioritize(draft, pending, message, job)
            case RetryJob():
                changed = self._past_jobs.retry(draft, pending, message, job, read)
            case ReplayJob():
                changed = self._past_jobs.replay(draft, pending, message, job, read)
            case DiscardDeadLetter():
                changed = self._past_jobs.discard(draft, message, job, read)
            case _:
                assert_never(message)
        if isinstance(changed, Refusal):
            return changed
        self._finish(message, draft, pending, changed)
        return None

    def _expire_loaded(self, due: list[DueJob], read: SubjectsLoaded) -> list[Any]:
        state = self._state
        draft, pending = state.draft(due[0].tenant_id, ENGINE), Pending()
        again: list[Any] = []
        for row in due:
            job = read.jobs.get(row.job_id)
            if job is not None and job.state in _WAITING and job.attempt == 0:
                draft.open()
                self._live_jobs.cancel_waiting(draft, pending, job, Reason.EXPIRED)
                pending.operated.append(row.job_id)
            else:
                again.extend(self._held_jobs.let_go(row.tenant_id, row.job_id, job))
        if not draft.empty:
            state.commit(draft, pending)
        return again

    def _read(self, message: Operation, keys: Sequence[str]) -> None:
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = message, keys
        claim = message.claim
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=message.tenant_id,
                job_ids=(message.job_id,),
                claims=ClaimsWanted(
                    unique_keys=keys,
                    idempotency=() if claim is None else ((claim.key, claim.path),),
                ),
                now_at=state.now.at,
            )
        )

    def _finish(self, message: Operation, draft: Draft, pending: Pending, job: Job) -> None:
        stored = None
        if message.claim is not None:
            stored = facts_of_operate(job)
            store_claim(draft, pending, message.tenant_id, message.claim, stored)
        pending.operated.append(message.job_id)
        pending.answers.append((message.ask_id, OperateAnswer(job=job, stored=stored)))
        self._state.commit(draft, pending)

    def _answer(
        self, message: Operation, keys: Sequence[str], value: Any, job: Job | None
    ) -> list[Any]:
        """Answer without a commit and let go of the job; returns what had waited."""
        self._state.commands.append(Answer(message.ask_id, value))
        self._release_claim(message)
        claims = self._submitter.claims
        waiting = claims.release_keys([(message.tenant_id, key) for key in keys])
        return [*self._held_jobs.let_go(message.tenant_id, message.job_id, job), *waiting]

    def _release_claim(self, message: Operation) -> None:
        claim = message.claim
        if claim is not None:
            self._submitter.claims.release([(message.tenant_id, claim.key, claim.path)])
