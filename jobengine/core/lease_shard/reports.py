"""Reports: what workers say of their leases.

I1  Only the lease that is live under this id and token moves its job; any other report is refused
    with ``LEASE_LOST``, and a late outcome is kept in the ledger.
I2  An outcome takes effect once: the same again is acknowledged again, another one is refused.

Not here: what an attempt says while it runs (``attempt_notes``), reports that name no live lease
(``stray_reports``), ends that are no success (``endings``).
"""

from typing import Any, Final

from jobengine.core.lease_shard.alike_ends import AlikeEnds
from jobengine.core.lease_shard.attempt_notes import AttemptNotes
from jobengine.core.lease_shard.claims import let_go_of_key
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.endings import Endings, store_progress
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.outcomes import keys_of, outcome_of
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.slices import Slices, Steps
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.core.lease_shard.stray_reports import StrayReports, tell_unread
from jobengine.core.lease_shard.submits import Submitter
from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job, Reason
from jobengine.domain.outcome import Outcome
from jobengine.messages.lease_shard import Actor
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded
from jobengine.messages.worker_reports import (
    ArtifactNamed,
    Completed,
    Failed,
    GivenBack,
    Logged,
    Progressed,
    Report,
    Reports,
    ThrottleSeen,
    WatermarkMoved,
)

__all__ = ["Reporter"]

_ALIKE_OF_ONE: Final = 8
"""So many alike ends take as long as one report by itself."""


class Reporter:
    def __init__(
        self,
        state: ShardState,
        granter: Granter,
        submitter: Submitter,
        endings: Endings,
        slices: Slices,
    ) -> None:
        self._state = state
        self._granter = granter
        self._submitter = submitter
        self._endings = endings
        self._slices = slices
        self._notes = notes = AttemptNotes(state)
        self._strays = StrayReports(state, notes)
        self.progress = notes.progress
        self._reading: dict[int, tuple[Session, Completed, Lease]] = {}

    def reports(self, message: Reports) -> None:
        """Everything one frame says, in one commit; freed slots are filled in it too."""
        state = self._state
        session = state.sessions.get(message.session_id)
        if session is None:
            self._unheard(message)
            return
        actor = Actor(f"worker:{session.worker_id}")
        draft, pending = state.draft(session.tenant_id, actor), Pending()
        steps = self._decide(draft, pending, session, message)
        self._slices.begin(session.tenant_id, draft.at, steps)

    def _decide(self, draft: Draft, pending: Pending, session: Session, message: Reports) -> Steps:
        """What a frame says, report by report."""
        stride = self._state.limits.stride(len(message.reports))
        alike = AlikeEnds(self._state, draft, pending, session)
        decided = 0
        for number, report in enumerate(message.reports, 1):
            if type(report) is Completed and alike.take(report):
                decided += 1
            else:
                self._report(draft, pending, session, report)
                decided += _ALIKE_OF_ONE
            if decided >= stride * _ALIKE_OF_ONE and number < len(message.reports):
                decided = 0
                alike.settle()
                if session.auto_credit:
                    self._granter.fill(draft, pending, session)
                yield
        alike.settle()
        return lambda: self._finish(draft, pending, session)

    def _finish(self, draft: Draft, pending: Pending, session: Session) -> list[Any]:
        if session.auto_credit:
            self._granter.fill(draft, pending, session)
        if draft.empty:
            self._state.tell_settled(pending)
        else:
            self._state.commit(draft, pending)
        return []

    def loaded(self, message: SubjectsLoaded) -> bool:
        """Go on with a report that something had to be read for; False: no stamp of ours."""
        waiting = self._reading.pop(message.stamp, None)
        if waiting is None:
            return self._strays.loaded(message)
        session, report, lease = waiting
        self._finish_follow_ups(session, lease, report, message.holders)
        return True

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        """Nothing could be read: say why, the worker will report again.

        Returns what had waited for the keys of this report or for its job, or None when the stamp
        is not ours.
        """
        waiting = self._reading.pop(stamp, None)
        if waiting is None:
            return self._strays.read_failed(stamp, refusal)
        session, report, lease = waiting
        lease.phase = Phase.LIVE
        tell_unread(self._state, session, report, refusal)
        released = self._submitter.claims.release_keys(keys_of(session.tenant_id, report))
        return [*released, *self._state.release(session.tenant_id, lease.job.job_id)]

    def _unheard(self, message: Reports) -> None:
        """A session that is gone can say one thing still: that it never heard of a lease."""
        for report in message.reports:
            lease = self._state.leases.find(report.lease_id, report.token)
            if not isinstance(report, GivenBack) or lease is None or lease.session is not None:
                continue
            if lease.phase is Phase.LIVE and lease.job.job_id not in self._state.operating:
                draft, pending = self._state.draft(lease.job.tenant_id, ENGINE), Pending()
                self._endings.give_back(draft, pending, lease, report.delay_us)
                self._state.commit(draft, pending)

    # ---- one report

    def _report(self, draft: Draft, pending: Pending, session: Session, report: Report) -> None:
        lease = self._state.leases.find(report.lease_id, report.token)
        if lease is not None and lease.job.tenant_id != session.tenant_id:
            lease = None
        if lease is None:
            self._strays.report(draft, pending, session, report)
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
                self._endings.give_back(draft, pending, lease, report.delay_us)
                pending.ack(session.session_id, report.ref)
                self._free(session)
            case Progressed():
                self.progress(draft, pending, lease, report.note)
                pending.ack(session.session_id, report.ref)
            case Logged():
                self._notes.logged(draft, pending, session, lease, report)
            case ArtifactNamed():
                self._notes.artifact(draft, pending, session, lease, report)
            case ThrottleSeen():
                self._notes.throttled(draft, pending, session, report)
            case WatermarkMoved():
                self._notes.watermark(pending, session, report)

    def _completed(
        self, draft: Draft, pending: Pending, session: Session, lease: Lease, report: Completed
    ) -> None:
        if report.follow_ups and keys_of(session.tenant_id, report):
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
        self._endings.end(pending, lease, Outcome.GOOD)
        row = draft.complete(job, lease, report.result, draft.ran_us(job))
        store_progress(row, lease)
        let_go_of_key(draft, job)
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
        self._endings.fail(draft, pending, lease, report.error, Reason.ERROR, report.retry_after_us)
        pending.ack(session.session_id, report.ref)
        self._free(session)

    # ---- shared steps

    def _free(self, session: Session) -> None:
        if session.auto_credit:
            session.credit += 1

    def _remember(self, lease: Lease, report: Completed | Failed | GivenBack) -> None:
        self._state.remember_outcome(lease.lease_id, outcome_of(report))

    def _read_keys(self, session: Session, lease: Lease, report: Completed) -> None:
        state = self._state
        keys = [key for _, key in keys_of(session.tenant_id, report)]
        again = Reports(session_id=session.session_id, reports=(report,))
        claims = self._submitter.claims
        if claims.waits(session.tenant_id, keys, again):
            return
        claims.hold_keys(session.tenant_id, keys)
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
        pending = Pending(unique_keys=keys_of(session.tenant_id, report))
        self._complete(draft, pending, session, lease, report, holders)
        if session.auto_credit and state.sessions.get(session.session_id) is session:
            self._granter.fill(draft, pending, session)
        state.commit(draft, pending)
