"""Settlement: what is owed once a commit has returned.

I1  Memory is settled first, then everyone is told, then what had waited is handled again.
I2  A lease whose session has gone meanwhile is given back: nobody has heard of it.
I3  A lease's period begins when its commit has returned, however long that took.
"""

from typing import Any, Final

from jobengine.core.lease_shard.endings import Endings
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState, weight
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.core.window import Window
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Job, Likeness, State
from jobengine.domain.records import Lane
from jobengine.messages.session import Grant, Granted, Nacked, StopLease, Tell
from jobengine.messages.shard_commands import Abandon, CommitRefused, Committed

__all__ = ["Settlement"]
# Bound once: an enum looks its members up by name each time.
_SCHEDULED: Final = State.SCHEDULED
_LIVE: Final = Phase.LIVE


class Settlement:
    def __init__(
        self, state: ShardState, granter: Granter, submitter: Submitter, endings: Endings
    ) -> None:
        self._state = state
        self._granter = granter
        self._submitter = submitter
        self._endings = endings

    def committed(self, message: Committed) -> list[Any]:
        """A commit has returned; what had waited for it may be handled again."""
        state = self._state
        pending = state.pending.pop(message.stamp, None)
        if pending is None:
            return []
        again: list[Any] = []
        state.leases.remove(pending.ended)
        if state.reads_waiting:
            for lease in pending.ended:
                state.outdate(lease.job)
        for job in pending.displaced:
            state.displace(job)
        for lease in pending.kept:
            lease.phase = _LIVE
            state.leases.watch(lease)
        state.runs.forget(pending.ended_runs)
        self._tell_grants(pending)
        self._state.tell_settled(pending)
        for lease in pending.stops:
            if lease.session is not None:
                stop = StopLease(
                    lease_id=lease.lease_id,
                    reason=lease.job.cancel_reason or "timed_out",
                    grace_s=state.limits.cancel_grace_s,
                )
                state.tell(lease.session, stop)
        for session, asked in pending.drains:
            state.tell(session, asked)
        state.commands.extend(pending.commands)
        for ask_id, value in pending.answers:
            state.commands.append(Answer(ask_id, value))
        self._submitter.claims.release(pending.claims)
        again.extend(self._submitter.claims.release_keys(pending.unique_keys))
        for job_id in pending.operated:
            state.set_aside.pop(job_id, None)
            state.operating.discard(job_id)
        self._place(pending)
        if state.deferred:
            for job_id in pending.operated:
                again.extend(state.release(pending.tenant_id, job_id))
            for lease in (*pending.grants, *pending.ended, *pending.kept):
                again.extend(state.release(lease.job.tenant_id, lease.job.job_id))
        return again

    def refused(self, message: CommitRefused) -> None:
        """Start anew, for memory is ahead of the store; whoever asked is told not to repeat it."""
        pending = self._state.pending.pop(message.stamp, None)
        if pending is None:
            return
        refusal = Refusal(
            ErrorCode.INVALID_FIELD, "the database cannot store this; do not repeat it unchanged"
        )
        for session_id, refs in pending.acks.items():
            nacks = pending.nacks.setdefault(session_id, [])
            nacks.extend(Nacked(ref, refusal) for ref in refs)
        pending.acks = {}
        self._state.tell_settled(pending)
        for ask_id, _ in pending.answers:
            self._state.commands.append(Answer(ask_id, refusal))
        why = f"commit {message.stamp} was refused: {message.why}"
        self._state.commands.append(Abandon(why=why))

    def _place(self, pending: Pending) -> None:
        state = self._state
        lanes: dict[Lane, None] = {}
        like: Likeness | None = None
        window: Window[Job] | None = None
        for job in pending.placed:
            if job.state is not _SCHEDULED:
                if job.state is State.PENDING:
                    self._place_pending(job)
                continue
            if state.has_left(job.job_id):
                continue
            if job.like is like and window is not None and job.due_at <= state.now.at:
                window.offer(state.key_of(job), job, weight(job))
                continue
            lane = state.place(job)
            if lane is not None:
                lanes[lane] = None
                if job.like is not None and job.like.plain:
                    like, window = job.like, state.window(lane)
        for lane in lanes:
            self._granter.serve_lane(lane)
        if lanes:
            state.bound_windows()

    def _place_pending(self, job: Job) -> None:
        state = self._state
        if job.definition.expires_at is not None:
            state.place_expiry(job)
        if job.definition.node_key is not None and job.job_id not in state.operating:
            state.fresh_jobs.keep(job, weight(job))

    def _tell_grants(self, pending: Pending) -> None:
        state = self._state
        now_s, at = state.lease_now_s(), state.now.at
        by_session: dict[int, list[Grant]] = {}
        orphans: list[Lease] = []
        told: Session | None = None
        grants: list[Grant] = []
        for lease in pending.grants:
            lease.phase = _LIVE
            lease.renewed_s = now_s
            session, job = lease.session, lease.job
            if session is None:
                orphans.append(lease)
                continue
            if session is not told:
                told, grants = session, by_session.setdefault(session.session_id, [])
            until_at = at + job.definition.lease_us
            grants.append(Grant(job, lease.lease_id, lease.attempt, until_at))
        for session_id, grants in by_session.items():
            state.commands.append(Tell(session_id=session_id, message=Granted(leases=grants)))
        if orphans:
            self._endings.give_back_all(orphans)
