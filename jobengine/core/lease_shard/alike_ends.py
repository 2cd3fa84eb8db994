"""Alike ends: attempts that went well, of plain jobs, ended with little more than a look.

I1  A lease ends here as it would in ``reports``; what is not plain success of a plain job is left
    to that, untouched.

Not here: what is written of them (``alike``).
"""

from jobengine.core.lease_shard.alike import COMPLETED, is_plain
from jobengine.core.lease_shard.alike_starts import FreeKinds
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.groups import By, Group
from jobengine.core.lease_shard.leases import Phase
from jobengine.core.lease_shard.outcomes import outcome_of
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.job import Job, State
from jobengine.messages.worker_reports import Completed

__all__ = ["AlikeEnds"]

_LIVE = Phase.LIVE
_SETTLING = Phase.SETTLING


class AlikeEnds:
    """The alike ends of one frame."""

    __slots__ = ("_draft", "_free", "_group", "_jobs", "_pending", "_session", "_state", "_touched")

    def __init__(self, state: ShardState, draft: Draft, pending: Pending, session: Session) -> None:
        self._state = state
        self._draft = draft
        self._pending = pending
        self._session = session
        self._free = FreeKinds(state)
        self._group: Group | None = None
        self._jobs: list[Job] = []
        self._touched: dict[int, Session] = {}

    def take(self, report: Completed) -> bool:
        """End the attempt that a report says went well, if it is plain; else False."""
        state = self._state
        lease = state.leases.find(report.lease_id, report.token)
        if lease is None or lease.phase is not _LIVE:
            return False
        job = lease.job
        like, job_id = job.like, job.job_id
        if (
            like is None
            or not is_plain(job)
            or lease.progress_unstored
            or report.artifacts
            or report.follow_ups
            or job.tenant_id != self._session.tenant_id
            or job_id in state.operating
            or not self._free.has(job)
        ):
            return False
        group = self._group
        if (
            group is None
            or group.like is not like
            or group.attempt != lease.attempt
            or (group.by != (lease.worker_id, lease.task_runner_id))
        ):
            self.settle()
            by = By(lease.worker_id, lease.task_runner_id)
            self._group = Group(COMPLETED, like, by, lease.attempt)
        lease.phase = _SETTLING
        job.state = State.COMPLETED
        job.finished_at = self._draft.at
        job.result = report.result
        self._jobs.append(job)
        state.remember_outcome(lease.lease_id, outcome_of(report))
        state.let_go(job)
        holder = lease.session
        if holder is not None:
            del holder.leases[job_id]
            self._touched[holder.session_id] = holder
        self._pending.ended.append(lease)
        self._pending.ack(self._session.session_id, report.ref)
        if self._session.auto_credit:
            self._session.credit += 1
        return True

    def settle(self) -> None:
        """Note what has been taken so far with the draft, and let the slots be asked for."""
        if self._group is None:
            return
        self._draft.note_alike(self._group, self._jobs)
        self._group, self._jobs = None, []
        self._free = FreeKinds(self._state)
        for session in self._touched.values():
            self._state.free(session)
        self._touched = {}
