"""Operations: what people ask of single jobs, and what falls due on waiting ones.

I1  An operation sees the job as committed: nothing else of the job is in flight while it decides.
I2  What the transition table does not allow is refused with the pair and what would be legal, and
    changes nothing.
"""

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.state import DUE_ENTRY_BYTES, ENGINE, Pending, ShardState
from jobengine.core.lease_shard.submits import Submitter, let_go_of_key, settle_claim, store_claim
from jobengine.core.machine import Answer
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import DeadLetterRow, DeadLetterState, UniqueRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import (
    FINAL,
    Job,
    Reason,
    State,
    find_transition,
    refuse_transition,
)
from jobengine.domain.records import DueJob, NewJob
from jobengine.messages.answers import facts_of_operate
from jobengine.messages.lease_shard import (
    CancelJob,
    ClaimsWanted,
    DiscardDeadLetter,
    LoadSubjects,
    OperateAnswer,
    Operation,
    ReleaseJob,
    ReplayJob,
    RetryJob,
    SubjectsLoaded,
    SubmitAnswer,
)

__all__ = ["Operator"]

_WAITING = (State.PENDING, State.SCHEDULED)


class Operator:
    def __init__(self, state: ShardState, granter: Granter, submitter: Submitter) -> None:
        self._state = state
        self._granter = granter
        self._submitter = submitter
        self._reading: dict[int, Operation | list[DueJob]] = {}

    def operate(self, message: Operation) -> None:
        """Begin an operation: at once on a running job, else when the job has been read."""
        state = self._state
        lease = state.leases.of_job(message.job_id)
        busy = lease is not None and lease.phase is not Phase.LIVE
        if busy or message.job_id in state.operating:
            state.defer(message.job_id, message)
            return
        if not self._submitter.claim(message.ask_id, message.tenant_id, message.claim):
            return
        state.operating[message.job_id] = []
        self._read(message)

    def expire(self, due: Sequence[DueJob]) -> None:
        """Jobs of one tenant that reached their expiry without having started."""
        state = self._state
        free = []
        for row in due:
            if row.job_id in state.operating:
                state.defer(row.job_id, row)
            elif state.leases.of_job(row.job_id) is None:
                free.append(row)
                state.operating[row.job_id] = []
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
        if subject.claim is not None:
            settled = settle_claim(subject.claim, message)
            if settled is not None:
                value = (
                    OperateAnswer(job=None, stored=settled.stored, replayed=True)
                    if isinstance(settled, SubmitAnswer)
                    else settled
                )
                return self._answer(subject, value, message.jobs.get(subject.job_id))
        job = message.jobs.get(subject.job_id)
        if job is None:
            refusal = Refusal(
                ErrorCode.NOT_FOUND, f"no job {subject.job_id} here", {"jobId": subject.job_id}
            )
            return self._answer(subject, refusal, None)
        lease = self._state.leases.of_job(job.job_id)
        if lease is not None:
            job = lease.job
        answer = self._carry_out(subject, job, lease, message)
        return [] if answer is None else self._answer(subject, answer, job)

    def read_failed(self, stamp: int) -> list[Any] | None:
        subject = self._reading.pop(stamp, None)
        if subject is None:
            return None
        if isinstance(subject, list):
            released: list[Any] = []
            for row in subject:
                released.extend(self._let_go(row.job_id, None))
                self._state.expiring.offer((row.at, row.job_id), row, DUE_ENTRY_BYTES)
            return released
        refusal = Refusal(ErrorCode.STORE_UNAVAILABLE, "the database does not answer; retry later")
        return self._answer(subject, refusal, None)

    # ---- each operation; None when its commit is under way

    def _carry_out(
        self, message: Operation, job: Job, lease: Lease | None, read: SubjectsLoaded
    ) -> Refusal | OperateAnswer | None:
        match message:
            case CancelJob():
                return self._cancel(message, job, lease)
            case RetryJob():
                return self._retry(message, job, read)
            case ReleaseJob():
                return self._release(message, job)
            case ReplayJob():
                return self._replay(message, job, read)
            case DiscardDeadLetter():
                return self._discard(message, job, read)
            case _:
                assert_never(message)

    def _cancel(
        self, message: CancelJob, job: Job, lease: Lease | None
    ) -> Refusal | OperateAnswer | None:
        if find_transition(job.state, State.CANCELLED) is None:
            return refuse_transition(job.job_id, job.state, State.CANCELLED)
        state = self._state
        if job.cancel_requested_at is not None:
            return OperateAnswer(job=job)
        draft, pending = state.draft(job.tenant_id, message.actor), Pending()
        draft.open()
        if lease is None:
            self._cancel_waiting(draft, pending, job, Reason(message.reason))
        else:
            job.cancel_requested_at = draft.at
            job.cancel_reason = message.reason
            draft.note(job, "job.cancel_requested", worker=lease.worker_id)
            draft.close(
                job,
                State.RUNNING,
                worker_id=lease.worker_id,
                task_runner_id=lease.task_runner_id,
            )
            lease.phase = Phase.SETTLING
            grace_ends_s = state.lease_now_s() + state.limits.cancel_grace_s
            if lease.timeout_s is None or grace_ends_s < lease.timeout_s:
                lease.timeout_s = grace_ends_s
            pending.kept.append(lease)
            pending.stops.append(lease)
        self._finish(message, draft, pending, job)
        return None

    def _retry(self, message: RetryJob, job: Job, read: SubjectsLoaded) -> Refusal | None:
        if job.state is not State.FAILED:
            return refuse_transition(job.job_id, job.state, State.SCHEDULED)
        if message.dead_letter_id is not None:
            closed = _refuse_closed(read.dead_letters.get(job.job_id), message.dead_letter_id)
            if closed is not None:
                return closed
        key = job.definition.unique_key
        holder = read.holders.get(key) if key is not None else None
        if holder is not None and holder.job_id != job.job_id:
            return Refusal(
                ErrorCode.UNIQUE_KEY_TAKEN,
                f"job {holder.job_id} holds this job's uniqueKey by now; cancel it first, "
                "or replay under another key",
                {"jobId": holder.job_id},
            )
        draft, pending = self._state.draft(job.tenant_id, message.actor), Pending()
        draft.open()
        job.scheduled_at = draft.at
        job.due_at = draft.at
        job.finished_at = None
        draft.step(job, State.SCHEDULED, span_us=0)
        draft.close(job, State.FAILED)
        if key is not None and job.definition.unique_scope == "active":
            draft.changes.unique.append(
                UniqueRow(tenant_id=job.tenant_id, key=key, job_id=job.job_id)
            )
        _close_dead_letter(draft.changes.dead_letters, read, job, DeadLetterState.RETRIED)
        pending.placed.append(job)
        self._finish(message, draft, pending, job)
        return None

    def _release(self, message: ReleaseJob, job: Job) -> Refusal | None:
        if job.state is not State.PENDING:
            return refuse_transition(job.job_id, job.state, State.SCHEDULED)
        draft, pending = self._state.draft(job.tenant_id, message.actor), Pending()
        draft.open()
        job.scheduled_at = draft.at
        job.due_at = max(draft.at, job.definition.not_before or 0)
        draft.step(job, State.SCHEDULED)
        draft.close(job, State.PENDING)
        pending.placed.append(job)
        self._finish(message, draft, pending, job)
        return None

    def _replay(self, message: ReplayJob, job: Job, read: SubjectsLoaded) -> Refusal | None:
        if job.state not in FINAL and job.state is not State.FAILED:
            return Refusal(
                ErrorCode.ILLEGAL_TRANSITION,
                f"job {job.job_id} is {job.state}; only a finished job can be replayed",
                {"jobId": job.job_id, "from": str(job.state)},
            )
        letter = read.dead_letters.get(job.job_id)
        if message.dead_letter_id is not None:
            closed = _refuse_closed(letter, message.dead_letter_id)
            if closed is not None:
                return closed
        draft, pending = self._state.draft(job.tenant_id, message.actor), Pending()
        new = _replay_of(job, message)
        copy = self._submitter.create(draft, pending, new, job.tenant_id)
        _close_dead_letter(
            draft.changes.dead_letters,
            read,
            job,
            DeadLetterState.REPLAYED,
            replayed_as=copy.job_id,
        )
        self._finish(message, draft, pending, copy)
        return None

    def _discard(
        self, message: DiscardDeadLetter, job: Job, read: SubjectsLoaded
    ) -> Refusal | None:
        closed = _refuse_closed(read.dead_letters.get(job.job_id), message.dead_letter_id)
        if closed is not None:
            return closed
        draft, pending = self._state.draft(job.tenant_id, message.actor), Pending()
        draft.open()
        draft.note(job, "job.dead_letter_discarded")
        _close_dead_letter(draft.changes.dead_letters, read, job, DeadLetterState.DISCARDED)
        self._finish(message, draft, pending, job)
        return None

    # ---- shared steps

    def _cancel_waiting(self, draft: Draft, pending: Pending, job: Job, reason: Reason) -> None:
        from_state = job.state
        job.finished_at = draft.at
        draft.step(job, State.CANCELLED, reason=reason)
        draft.close(job, from_state)
        pending.displaced.append(job)
        let_go_of_key(draft, job)

    def _expire_loaded(self, due: list[DueJob], read: SubjectsLoaded) -> list[Any]:
        state = self._state
        draft, pending = state.draft(due[0].tenant_id, ENGINE), Pending()
        again: list[Any] = []
        for row in due:
            job = read.jobs.get(row.job_id)
            if job is not None and job.state in _WAITING and job.attempt == 0:
                draft.open()
                self._cancel_waiting(draft, pending, job, Reason.EXPIRED)
                pending.operated.append(row.job_id)
            else:
                again.extend(self._let_go(row.job_id, job))
        if not draft.empty:
            state.commit(draft, pending)
        return again

    def _read(self, message: Operation) -> None:
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = message
        claim = message.claim
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=message.tenant_id,
                job_ids=(message.job_id,),
                claims=ClaimsWanted(
                    idempotency=() if claim is None else ((claim.key, claim.path),)
                ),
                with_keys_of_jobs=isinstance(message, RetryJob),
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

    def _answer(self, message: Operation, value: Any, job: Job | None) -> list[Any]:
        """Answer without a commit and let go of the job; returns what had waited for it."""
        state = self._state
        state.commands.append(Answer(message.ask_id, value))
        claim = message.claim
        if claim is not None:
            self._submitter.release_claims([(message.tenant_id, claim.key, claim.path)])
        return self._let_go(message.job_id, job)

    def _let_go(self, job_id: str, job: Job | None) -> list[Any]:
        """End an operation that changed nothing; a job that waits goes back to where it waits.

        ``job`` is what was read of it, None where nothing was.
        """
        state = self._state
        waiting = state.operating.pop(job_id)
        aside = state.set_aside.pop(job_id, None)
        job = job or aside
        if job is not None and job.state is State.SCHEDULED:
            lane = state.place(job)
            if lane is not None:
                self._granter.serve_lane(lane)
        return waiting


def _replay_of(job: Job, message: ReplayJob) -> NewJob:
    """A copy of a finished job, free of what bound the original in time or key."""
    definition = msgspec.structs.replace(
        job.definition,
        depends_on=(),
        expires_at=None,
        hold=False,
        not_before=None,
        priority=message.priority,
        replay_of=job.job_id,
        run_id=None,
        unique_key=None,
    )
    text = canonical_of(msgspec.to_builtins(definition))
    return NewJob(
        job_id=message.new_job_id,
        definition=definition,
        definition_json=text,
        payload=job.payload,
    )


def _refuse_closed(letter: DeadLetterRow | None, dead_letter_id: str) -> Refusal | None:
    if letter is None or letter.dead_letter_id != dead_letter_id:
        return Refusal(
            ErrorCode.NOT_FOUND,
            f"no dead letter {dead_letter_id} here",
            {"deadLetterId": dead_letter_id},
        )
    if letter.state != DeadLetterState.OPEN:
        return Refusal(
            ErrorCode.DEAD_LETTER_CLOSED,
            f"dead letter {dead_letter_id} is {letter.state} already",
            {"deadLetterId": dead_letter_id, "state": letter.state},
        )
    return None


def _close_dead_letter(
    rows: list[DeadLetterRow],
    read: SubjectsLoaded,
    job: Job,
    state: str,
    *,
    replayed_as: str | None = None,
) -> None:
    """Close the open dead letter of a job, if it has one."""
    letter = read.dead_letters.get(job.job_id)
    if letter is None or letter.state != DeadLetterState.OPEN:
        return
    rows.append(
        DeadLetterRow(
            tenant_id=job.tenant_id,
            dead_letter_id=letter.dead_letter_id,
            job_id=job.job_id,
            state=state,
            from_state=DeadLetterState.OPEN,
            replayed_as=replayed_as,
        )
    )
