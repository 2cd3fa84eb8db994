"""Reports: what workers say of their leases, and what the clock says of silent ones.

I1  Only the lease that is live under this id and token moves its job; any other report is refused
    with ``LEASE_LOST``, and a late outcome is kept in the ledger.
I2  An outcome takes effect once: the same again is acknowledged again, another one is refused.
I3  A failed attempt is retried while ``failures ≤ maxRetries`` and the error is retryable; a job
    whose worker died ``crashes_max`` times is set aside whatever its retries. Otherwise it gets a
    dead letter in the same commit.
I4  After a cancel was asked for, any end of the lease but success ends in ``cancelled``.
"""

import hashlib
from typing import Any

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ENGINE, Pending, ShardState
from jobengine.core.lease_shard.submits import Submitter, gives_up_key
from jobengine.domain.change import DeadLetterRow, LogRow, UniqueRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.failure import DeadLetterClass, Failure, dead_letter_class, signature
from jobengine.domain.ids import lease_parts
from jobengine.domain.job import Job, Reason, State
from jobengine.domain.retry import retry_delay_us
from jobengine.messages.lease_shard import (
    Actor,
    ArtifactNamed,
    ClaimsWanted,
    Completed,
    Failed,
    GivenBack,
    LoadSubjects,
    Logged,
    Progressed,
    Report,
    Reports,
    SubjectsLoaded,
    ThrottleSeen,
    WatermarkMoved,
)
from jobengine.messages.session import Nacked, Settled, Tell

__all__ = ["Reporter"]

_json = msgspec.json.Encoder(order="sorted")
_SHORT_OUTCOME_BYTES = 96


class Reporter:
    def __init__(self, state: ShardState, granter: Granter, submitter: Submitter) -> None:
        self._state = state
        self._granter = granter
        self._submitter = submitter
        self._reading: dict[int, tuple[Session, Report, Lease | None]] = {}

    def reports(self, message: Reports) -> None:
        """Everything one frame says, in one commit; freed slots are filled in it too."""
        state = self._state
        session = state.sessions.get(message.session_id)
        if session is None:
            self._unheard(message)
            return
        actor = Actor(f"worker:{session.worker_id}")
        draft, pending = state.draft(session.tenant_id, actor), Pending()
        for report in message.reports:
            self._report(draft, pending, session, report)
        if session.auto_credit:
            self._granter.fill(draft, pending, session)
        if draft.empty:
            self._settle_now(pending)
        else:
            state.commit(draft, pending)

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
            self._fail(draft, pending, lease, failure, Reason.TIMED_OUT, None)
        else:
            failure = Failure(
                class_="LeaseExpired",
                message="the worker stopped renewing its lease",
                retryable=True,
            )
            self._fail(draft, pending, lease, failure, Reason.LEASE_EXPIRED, None)
        state.commit(draft, pending)

    def give_back(self, draft: Draft, pending: Pending, lease: Lease, delay_us: int) -> None:
        """End a lease without an outcome: its job waits again, or ends if a cancel was asked."""
        job = lease.job
        if job.cancel_requested_at is not None:
            self._stop(draft, pending, lease)
            return
        draft.open()
        self._end(pending, lease)
        job.due_at = draft.at + delay_us
        job.scheduled_at = draft.at
        draft.step(
            job, State.SCHEDULED, worker=lease.worker_id, span_us=draft.at - (job.started_at or 0)
        )
        draft.close(job, State.RUNNING)
        pending.placed.append(job)

    def loaded(self, message: SubjectsLoaded) -> bool:
        """Go on with a report that something had to be read for; False: no stamp of ours."""
        waiting = self._reading.pop(message.stamp, None)
        if waiting is None:
            return False
        session, report, lease = waiting
        if isinstance(report, Completed) and lease is not None:
            self._finish_follow_ups(session, lease, report, message.holders)
        else:
            parts = lease_parts(report.lease_id)
            job = message.jobs.get(parts[0]) if parts is not None else None
            self._late(session, report, job)
        return True

    def read_failed(self, stamp: int) -> list[Any] | None:
        """Nothing could be read: say so, the worker will report again.

        Returns what had waited for the keys of this report, or None when the stamp is not ours.
        """
        waiting = self._reading.pop(stamp, None)
        if waiting is None:
            return None
        session, report, lease = waiting
        released = []
        if isinstance(report, Completed) and lease is not None:
            lease.phase = Phase.LIVE
            released = self._submitter.release_keys(_keys_of(session.tenant_id, report))
        pending = Pending()
        refusal = Refusal(ErrorCode.STORE_UNAVAILABLE, "the database does not answer; report again")
        pending.nacks.setdefault(session.session_id, []).append(Nacked(report.ref, refusal))
        self._settle_now(pending)
        return released

    def progress(self, draft: Draft, pending: Pending, lease: Lease, note: bytes) -> bool:
        """Keep an attempt's progress, storing it at most once a second; True when it is stored."""
        now_s = self._state.lease_now_s()
        lease.job.progress = note
        lease.renewed_s = now_s
        if now_s - lease.progress_stored_s < self._state.limits.progress_interval_s:
            lease.progress_unstored = True
            return False
        lease.progress_stored_s = now_s
        lease.progress_unstored = False
        draft.open()
        draft.note(lease.job, "job.progressed", data=note, worker=lease.worker_id)
        row = draft.close(
            lease.job,
            State.RUNNING,
            worker_id=lease.worker_id,
            task_runner_id=lease.task_runner_id,
        )
        row.progress = msgspec.Raw(note)
        lease.phase = Phase.SETTLING
        pending.kept.append(lease)
        return True

    def _unheard(self, message: Reports) -> None:
        """A session that is gone can say one thing still: that it never heard of a lease."""
        for report in message.reports:
            lease = self._state.leases.find(report.lease_id, report.token)
            if not isinstance(report, GivenBack) or lease is None or lease.session is not None:
                continue
            if lease.phase is Phase.LIVE and lease.job.job_id not in self._state.operating:
                draft, pending = self._state.draft(lease.job.tenant_id, ENGINE), Pending()
                self.give_back(draft, pending, lease, report.delay_us)
                self._state.commit(draft, pending)

    # ---- one report

    def _report(self, draft: Draft, pending: Pending, session: Session, report: Report) -> None:
        lease = self._state.leases.find(report.lease_id, report.token)
        if lease is not None and lease.job.tenant_id != session.tenant_id:
            lease = None
        if lease is None:
            self._stray(draft, pending, session, report)
            return
        state = self._state
        if lease.phase is not Phase.LIVE or lease.job.job_id in state.operating:
            state.defer(lease.job.job_id, Reports(session_id=session.session_id, reports=(report,)))
            return
        match report:
            case Completed():
                self._completed(draft, pending, session, lease, report)
            case Failed():
                self._failed(draft, pending, session, lease, report)
            case GivenBack():
                self._remember(lease, report)
                self.give_back(draft, pending, lease, report.delay_us)
                pending.ack(session.session_id, report.ref)
                self._free(session)
            case Progressed():
                self.progress(draft, pending, lease, report.note)
                pending.ack(session.session_id, report.ref)
            case Logged():
                self._logged(draft, pending, session, lease, report)
            case ArtifactNamed():
                draft.open()
                draft.note(
                    lease.job,
                    "job.artifact_named",
                    data=_json.encode({"name": report.artifact.name}),
                    worker=lease.worker_id,
                )
                draft.changes.artifacts.append(report.artifact)
                pending.ack(session.session_id, report.ref)
            case ThrottleSeen():
                self._throttled(draft, pending, session, report)
            case WatermarkMoved():
                self._no_such_source(pending, session, report)

    def _stray(self, draft: Draft, pending: Pending, session: Session, report: Report) -> None:
        """A report that names no live lease of this tenant."""
        match report:
            case ThrottleSeen() if not report.lease_id:
                self._throttled(draft, pending, session, report)
            case WatermarkMoved() if not report.lease_id:
                self._no_such_source(pending, session, report)
            case Completed() | Failed() | GivenBack():
                known = self._state.outcomes.get(report.lease_id)
                if known is not None and known == _outcome(report):
                    pending.ack(session.session_id, report.ref)
                else:
                    self._read_job(session, report)
            case _:
                self._nack(pending, session.session_id, report)

    def _completed(
        self, draft: Draft, pending: Pending, session: Session, lease: Lease, report: Completed
    ) -> None:
        if report.follow_ups and _keys_of(session.tenant_id, report):
            self._read_keys(session, lease, report)
        else:
            self._complete(draft, pending, session, lease, report, {})

    def _complete(
        self,
        draft: Draft,
        pending: Pending,
        session: Session,
        lease: Lease,
        report: Completed,
        holders: dict[str, Job],
    ) -> None:
        job = lease.job
        self._remember(lease, report)
        draft.open()
        self._end(pending, lease)
        job.finished_at = draft.at
        job.result = report.result
        draft.step(
            job,
            State.COMPLETED,
            worker=lease.worker_id,
            span_us=draft.at - (job.started_at or draft.at),
        )
        row = draft.close(job, State.RUNNING)
        row.result = msgspec.Raw(report.result)
        if lease.progress_unstored and job.progress is not None:
            row.progress = msgspec.Raw(job.progress)
        self._let_go_of_key(draft, job)
        draft.changes.artifacts.extend(report.artifacts)
        if report.follow_ups:
            self._submitter.create_follow_ups(
                draft, pending, report.follow_ups, job.tenant_id, holders
            )
        pending.ack(session.session_id, report.ref)
        self._free(session)

    def _failed(
        self, draft: Draft, pending: Pending, session: Session, lease: Lease, report: Failed
    ) -> None:
        self._remember(lease, report)
        self._fail(draft, pending, lease, report.error, Reason.ERROR, report.retry_after_us)
        pending.ack(session.session_id, report.ref)
        self._free(session)

    def _fail(
        self,
        draft: Draft,
        pending: Pending,
        lease: Lease,
        failure: Failure,
        reason: Reason,
        retry_after_us: int | None,
    ) -> None:
        job = lease.job
        if job.cancel_requested_at is not None:
            self._stop(draft, pending, lease)
            return
        draft.open()
        self._end(pending, lease)
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
            worker=lease.worker_id,
            span_us=span_us,
            error=error,
        )
        if failure.retryable and not crash_loop and job.failures <= job.definition.max_retries:
            self._retry(draft, job, retry_after_us)
            pending.placed.append(job)
        else:
            job.finished_at = draft.at
            self._bury(draft, lease, failure, reason, crash_loop=crash_loop)
        row = draft.close(job, State.RUNNING)
        row.error = msgspec.Raw(error)
        self._let_go_of_key(draft, job)

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
            worker=lease.worker_id,
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

    def _stop(self, draft: Draft, pending: Pending, lease: Lease) -> None:
        """The end of a lease after a cancel was asked for."""
        job = lease.job
        draft.open()
        self._end(pending, lease)
        job.finished_at = draft.at
        draft.step(
            job,
            State.CANCELLED,
            reason=job.cancel_reason,
            worker=lease.worker_id,
            span_us=draft.at - (job.started_at or draft.at),
        )
        draft.close(job, State.RUNNING)
        self._let_go_of_key(draft, job)

    def _logged(
        self, draft: Draft, pending: Pending, session: Session, lease: Lease, report: Logged
    ) -> None:
        lease.renewed_s = self._state.lease_now_s()
        draft.changes.logs.append(
            LogRow(
                tenant_id=session.tenant_id,
                job_id=lease.job.job_id,
                attempt=lease.attempt,
                at=draft.at,
                lines=msgspec.Raw(report.lines),
            )
        )
        pending.ack(session.session_id, report.ref)

    def _throttled(
        self, draft: Draft, pending: Pending, session: Session, report: ThrottleSeen
    ) -> None:
        seen: dict[str, Any] = {"httpStatus": report.http_status}
        if report.source_id is not None:
            seen["sourceId"] = report.source_id
        if report.retry_after_us is not None:
            seen["retryAfterUs"] = report.retry_after_us
        if report.lease_id:
            seen["leaseId"] = report.lease_id
        draft.remark("source.throttled", _json.encode(seen))
        pending.ack(session.session_id, report.ref)

    def _no_such_source(self, pending: Pending, session: Session, report: WatermarkMoved) -> None:
        refusal = Refusal(
            ErrorCode.SOURCE_UNKNOWN,
            f"sourceId: no source {report.source_id!r} is registered; register it first",
            {"path": "sourceId"},
        )
        pending.nacks.setdefault(session.session_id, []).append(Nacked(report.ref, refusal))

    # ---- shared steps

    def _end(self, pending: Pending, lease: Lease) -> None:
        lease.phase = Phase.SETTLING
        if lease.session is not None:
            lease.session.leases.pop(lease.job.job_id, None)
        pending.ended.append(lease)

    def _free(self, session: Session) -> None:
        if session.auto_credit:
            session.credit += 1

    def _let_go_of_key(self, draft: Draft, job: Job) -> None:
        if gives_up_key(job):
            draft.changes.unique.append(
                UniqueRow(
                    tenant_id=job.tenant_id,
                    key=job.definition.unique_key or "",
                    job_id=job.job_id,
                    dropped=True,
                )
            )

    def _remember(self, lease: Lease, report: Completed | Failed | GivenBack) -> None:
        self._state.remember_outcome(lease.lease_id, _outcome(report))

    def _read_job(self, session: Session, report: Report) -> None:
        state = self._state
        parts = lease_parts(report.lease_id)
        stamp = state.stamp()
        self._reading[stamp] = (session, report, None)
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=session.tenant_id,
                job_ids=() if parts is None else (parts[0],),
                now_at=state.now.at,
            )
        )

    def _read_keys(self, session: Session, lease: Lease, report: Completed) -> None:
        state = self._state
        keys = [key for _, key in _keys_of(session.tenant_id, report)]
        again = Reports(session_id=session.session_id, reports=(report,))
        if not self._submitter.hold_keys(session.tenant_id, keys, again):
            return
        lease.phase = Phase.SETTLING
        stamp = state.stamp()
        self._reading[stamp] = (session, report, lease)
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=session.tenant_id,
                claims=ClaimsWanted(unique_keys=keys),
                now_at=state.now.at,
            )
        )

    def _finish_follow_ups(
        self, session: Session, lease: Lease, report: Completed, holders: dict[str, Job]
    ) -> None:
        state = self._state
        draft = state.draft(session.tenant_id, Actor(f"worker:{session.worker_id}"))
        pending = Pending(unique_keys=_keys_of(session.tenant_id, report))
        self._complete(draft, pending, session, lease, report, holders)
        if session.auto_credit and state.sessions.get(session.session_id) is session:
            self._granter.fill(draft, pending, session)
        state.commit(draft, pending)

    def _late(self, session: Session, report: Report, job: Job | None) -> None:
        """An outcome whose lease is gone: the one already taken, or one that came too late."""
        state = self._state
        pending = Pending()
        if job is not None and _same_outcome(job, report):
            pending.ack(session.session_id, report.ref)
            self._settle_now(pending)
            return
        self._nack(pending, session.session_id, report)
        if job is None:
            self._settle_now(pending)
            return
        draft = state.draft(session.tenant_id, Actor(f"worker:{session.worker_id}"))
        draft.open()
        draft.note(
            job,
            "lease.refused",
            data=_json.encode({"leaseId": report.lease_id, "outcome": _outcome_name(report)}),
            worker=session.worker_id,
        )
        state.commit(draft, pending)

    def _nack(self, pending: Pending, session_id: int, report: Report) -> None:
        refusal = Refusal(
            ErrorCode.LEASE_LOST,
            f"lease {report.lease_id} is not yours (any more): it expired, ended, or its token is "
            "another; stop this attempt",
            {"leaseId": report.lease_id},
        )
        pending.nacks.setdefault(session_id, []).append(Nacked(report.ref, refusal))

    def _settle_now(self, pending: Pending) -> None:
        for session_id in {**pending.acks, **pending.nacks}:
            self._state.commands.append(
                Tell(
                    session_id=session_id,
                    message=Settled(
                        acks=pending.acks.get(session_id, ()),
                        nacks=pending.nacks.get(session_id, ()),
                    ),
                )
            )


def _outcome(report: Completed | Failed | GivenBack) -> tuple[str, bytes]:
    """What tells one outcome from another, short enough to be remembered."""
    body = b""
    if isinstance(report, Completed):
        body = report.result
    elif isinstance(report, Failed):
        body = _json.encode(report.error)
    if len(body) > _SHORT_OUTCOME_BYTES:
        body = hashlib.sha256(body).digest()
    return _outcome_name(report), body


def _outcome_name(report: Report) -> str:
    match report:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case _:
            return "released"


def _same_outcome(job: Job, report: Report) -> bool:
    """Whether a stored job shows that this very outcome of this attempt was taken already."""
    if job.attempt != report.token:
        return False
    match report:
        case Completed():
            return job.state is State.COMPLETED and (job.result or b"null") == report.result
        case Failed():
            return job.state is not State.RUNNING and job.error == _json.encode(report.error)
        case _:
            return False


def _keys_of(tenant_id: str, report: Completed) -> list[tuple[str, str]]:
    """The unique keys that a report's follow-ups ask for, each once."""
    keys = dict.fromkeys(new.definition.unique_key for new in report.follow_ups)
    return [(tenant_id, key) for key in keys if key is not None]
