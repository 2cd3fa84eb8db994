"""What operators do to jobs that have ended: retry, replay, discard.

Each decision writes into an open draft and answers with the changed job (the new one, for a
replay), or refuses and has written nothing.

I1  A dead letter is closed once, in the commit of what it is closed by; a closed one is refused.
I2  A replay of a redrive is counted in the commit that closes its dead letter, so each letter is
    counted as often as it is replayed: once.

Not here: finding the job, the answer (``operations``); which letters a redrive replays
(``core/redriver``).
"""

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.submits import Submitter
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import DeadLetterRow, DeadLetterState, RedriveRow, UniqueRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import FINAL, Job, State, refuse_transition
from jobengine.domain.node import WORKERLESS_PREFIX
from jobengine.domain.records import NewJob
from jobengine.messages.lease_shard import DiscardDeadLetter, ReplayJob, RetryJob
from jobengine.messages.shard_commands import SubjectsLoaded

__all__ = ["PastJobs"]


class PastJobs:
    def __init__(self, submitter: Submitter) -> None:
        self._submitter = submitter

    def retry(
        self, draft: Draft, pending: Pending, message: RetryJob, job: Job, read: SubjectsLoaded
    ) -> Refusal | Job:
        if job.definition.node_key is not None:
            return _refuse_retry(job)
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
        return job

    def replay(
        self, draft: Draft, pending: Pending, message: ReplayJob, job: Job, read: SubjectsLoaded
    ) -> Refusal | Job:
        if job.state not in FINAL and job.state is not State.FAILED:
            return Refusal(
                ErrorCode.ILLEGAL_TRANSITION,
                f"job {job.job_id} is {job.state}; only a finished job can be replayed",
                {"jobId": job.job_id, "from": str(job.state)},
            )
        if job.definition.templated or job.definition.job_type.startswith(WORKERLESS_PREFIX):
            return _refuse_replay(job)
        if message.dead_letter_id is not None:
            closed = _refuse_closed(read.dead_letters.get(job.job_id), message.dead_letter_id)
            if closed is not None:
                return closed
        copy = self._submitter.create(draft, pending, _replay_of(job, message), job.tenant_id)
        _close_dead_letter(
            draft.changes.dead_letters,
            read,
            job,
            DeadLetterState.REPLAYED,
            replayed_as=copy.job_id,
        )
        if message.redrive_id is not None:
            draft.changes.redrives.append(
                RedriveRow(tenant_id=job.tenant_id, redrive_id=message.redrive_id, replayed=1)
            )
        return copy

    def discard(
        self, draft: Draft, message: DiscardDeadLetter, job: Job, read: SubjectsLoaded
    ) -> Refusal | Job:
        closed = _refuse_closed(read.dead_letters.get(job.job_id), message.dead_letter_id)
        if closed is not None:
            return closed
        draft.open()
        draft.note(job, "job.dead_letter_discarded")
        draft.close(job, job.state)
        _close_dead_letter(draft.changes.dead_letters, read, job, DeadLetterState.DISCARDED)
        return job


def _replay_of(job: Job, message: ReplayJob) -> NewJob:
    """A copy of a finished job, free of what bound the original in time, run or key."""
    definition = msgspec.structs.replace(
        job.definition,
        depends_on=(),
        expires_at=None,
        hold=False,
        node_key=None,
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


def _refuse_retry(job: Job) -> Refusal:
    definition = job.definition
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"job {job.job_id} is {definition.node_key!r} of run {definition.run_id}, whose nodes that "
        "depended on it have ended for good; what failed is run again by "
        f"POST /runs/{definition.run_id}:retryFailed",
        {"jobId": job.job_id, "from": str(job.state), "runId": definition.run_id},
    )


def _refuse_replay(job: Job) -> Refusal:
    definition = job.definition
    why = (
        "was never released, so that its payload is still a template"
        if definition.templated
        else "has no worker and is nothing outside of its run"
    )
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"job {job.job_id} {why}; run that part again by POST /runs/{definition.run_id}:replayFrom",
        {"jobId": job.job_id, "from": str(job.state), "runId": definition.run_id},
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
