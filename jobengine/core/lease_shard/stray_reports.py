"""Reports that name no live lease: outcomes told again, or too late.

I1  An outcome that was taken is acknowledged again; another one is refused with ``LEASE_LOST``, and
    kept in the ledger.

Not here: reports of live leases (``reports``).
"""

from typing import Any

import msgspec

from jobengine.core.lease_shard.attempt_notes import AttemptNotes
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.outcomes import outcome_name, outcome_of, same_outcome
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.ids import lease_parts
from jobengine.domain.job import Job
from jobengine.messages.lease_shard import Actor
from jobengine.messages.session import Nacked
from jobengine.messages.shard_commands import LoadSubjects, SubjectsLoaded
from jobengine.messages.worker_reports import (
    Completed,
    Failed,
    GivenBack,
    Report,
    ThrottleSeen,
    WatermarkMoved,
)

__all__ = ["StrayReports", "tell_unread"]

_json = msgspec.json.Encoder(order="sorted")


class StrayReports:
    def __init__(self, state: ShardState, notes: AttemptNotes) -> None:
        self._state = state
        self._notes = notes
        self._reading: dict[int, tuple[Session, Report]] = {}

    def report(self, draft: Draft, pending: Pending, session: Session, report: Report) -> None:
        """One that names no live lease of this tenant."""
        match report:
            case ThrottleSeen() if not report.lease_id:
                self._notes.throttled(draft, pending, session, report)
            case WatermarkMoved() if not report.lease_id:
                self._notes.watermark(pending, session, report)
            case Completed() | Failed() | GivenBack():
                known = self._state.outcomes.get(report.lease_id)
                if known is not None and known == outcome_of(report):
                    pending.ack(session.session_id, report.ref)
                else:
                    self._read_job(session, report)
            case _:
                self._nack(pending, session.session_id, report)

    def loaded(self, message: SubjectsLoaded) -> bool:
        """The job of a late outcome has been read; False: no stamp of ours."""
        waiting = self._reading.pop(message.stamp, None)
        if waiting is None:
            return False
        session, report = waiting
        parts = lease_parts(report.lease_id)
        self._late(session, report, message.jobs.get(parts[0]) if parts is not None else None)
        return True

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        """None when the stamp is not ours."""
        waiting = self._reading.pop(stamp, None)
        if waiting is None:
            return None
        tell_unread(self._state, *waiting, refusal)
        return []

    def _read_job(self, session: Session, report: Report) -> None:
        state = self._state
        parts = lease_parts(report.lease_id)
        stamp = state.stamp()
        self._reading[stamp] = (session, report)
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=session.tenant_id,
                job_ids=() if parts is None else (parts[0],),
                now_at=state.now.at,
            )
        )

    def _late(self, session: Session, report: Report, job: Job | None) -> None:
        """An outcome whose lease is gone: the one already taken, or one that came too late."""
        state = self._state
        pending = Pending()
        if job is not None and same_outcome(job, report):
            pending.ack(session.session_id, report.ref)
            self._state.tell_settled(pending)
            return
        self._nack(pending, session.session_id, report)
        self._free(session)
        if job is None:
            self._state.tell_settled(pending)
            return
        draft = state.draft(session.tenant_id, Actor(f"worker:{session.worker_id}"))
        draft.open()
        draft.note(
            job,
            "lease.refused",
            data=_json.encode({"leaseId": report.lease_id, "outcome": outcome_name(report)}),
            worker=session,
        )
        state.commit(draft, pending)

    def _free(self, session: Session) -> None:
        """Its lease took a slot, and the engine ended it; the worker is done with it only now."""
        state = self._state
        if session.auto_credit and state.sessions.get(session.session_id) is session:
            session.credit += 1
            state.free(session)

    def _nack(self, pending: Pending, session_id: int, report: Report) -> None:
        refusal = Refusal(
            ErrorCode.LEASE_LOST,
            f"lease {report.lease_id} is not yours (any more): it expired, ended, or its token is "
            "another; stop this attempt",
            {"leaseId": report.lease_id},
        )
        pending.nacks.setdefault(session_id, []).append(Nacked(report.ref, refusal))


def tell_unread(state: ShardState, session: Session, report: Report, refusal: Refusal) -> None:
    """Nothing could be read: say why, the worker will report again."""
    pending = Pending()
    pending.nacks.setdefault(session.session_id, []).append(Nacked(report.ref, refusal))
    state.tell_settled(pending)
