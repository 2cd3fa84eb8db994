"""The lease shard: owner of every job of the tenants hashed onto it.

Decides which state a job takes, who may run it and until when. It is told by doors (submit,
operate), by worker sessions (attach, credit, heartbeats, reports), by the ledger (committed, away,
back) and by the store (what it asked to read); it commands commits and reads, answers asks, and
speaks to sessions.

Definitions. A *lane* is the ready jobs of one tenant, queue and job type, in rank order. *Credit*
is how many more leases a session wants. A job is *busy* while a change of it is in flight.

I1  Nobody is told of a change before the commit that holds it has returned.
I2  A job has at most one change in flight and at most one live lease; a grant takes the next
    attempt number, which is its fencing token.
I3  Memory is a projection of the store: ready, delayed and expiring jobs are windows of it, live
    leases are all here, and a fresh machine built from ``Recovered`` goes on where this one stood.
I4  Instants that are recorded never go back, so what was due once stays due; a wall clock that is
    set back stands still here until it has caught up.
I5  While the ledger is away no lease grows older and nothing is decided to have expired.

Not here: limits, fairness and breakers (admission), sequence numbers (ledger), frames (session).
The parts: ``submits``, ``operations``, ``reports`` decide; ``grants`` matches; ``draft`` writes;
``state``, ``leases``, ``sessions`` and ``window`` remember.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.operations import Operator
from jobengine.core.lease_shard.reports import Reporter
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import (
    DUE_ENTRY_BYTES,
    ENGINE,
    Pending,
    ShardLimits,
    ShardState,
    weight,
)
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.core.window import BEFORE_ALL, Window
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import Job, State
from jobengine.domain.records import DueJob, Lane
from jobengine.messages.lease_shard import (
    Abandon,
    Attach,
    Beat,
    CancelJob,
    CommitRefused,
    Committed,
    Detach,
    DiscardDeadLetter,
    Drain,
    DueLoaded,
    LedgerAway,
    LedgerBack,
    LoadDelayed,
    LoadExpiring,
    RankedLoaded,
    ReadFailed,
    Recovered,
    ReleaseJob,
    ReplayJob,
    Reports,
    RetryJob,
    SetCredit,
    SubjectsLoaded,
    SubmitJobs,
)
from jobengine.messages.session import (
    AttachBriefly,
    Attached,
    Beaten,
    Grant,
    Granted,
    Nacked,
    Settled,
    StopLease,
    Tell,
)
from jobengine.messages.wake import Wake

__all__ = ["LeaseShard"]

_WALL_CHECK_S = 30.0


class LeaseShard:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, shard: int, limits: ShardLimits, incarnation: int = 1) -> None:
        self._state = state = ShardState(shard, limits, incarnation)
        self._granter = Granter(state)
        self._submitter = Submitter(state, self._granter)
        self._reporter = Reporter(state, self._granter, self._submitter)
        self._operator = Operator(state, self._granter, self._submitter)
        self._read_again_at: float | None = None

    @property
    def wakeup_at(self) -> float | None:
        """The first lease, delayed job or expiry to fall due, or a failed read to repeat."""
        candidates = [self._state.leases.wakeup_at, self._read_again_at]
        now = self._state.now
        windows: list[Window[Any]] = [self._state.delayed]
        if self._read_again_at is None:
            windows.append(self._state.expiring)
        for window in windows:
            first = window.first()
            if first is not None:
                candidates.append(now.mono + min((first[0] - now.at) / 1_000_000, _WALL_CHECK_S))
        return min((at for at in candidates if at is not None), default=None)

    @property
    def leases(self) -> int:
        return len(self._state.leases)

    @property
    def sessions(self) -> int:
        return len(self._state.sessions)

    def ready_counts(self) -> dict[Lane, int]:
        """Ready jobs in memory by lane; what is only in the store is not counted."""
        return {lane: len(window) for lane, window in self._state.lanes.items()}

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        state = self._state
        state.now = now if now.at >= state.now.at else Moment(now.mono, state.now.at)
        state.commands = []
        todo = [message]
        while todo:
            todo.extend(self._one(todo.pop(0)))
        self._refill_due()
        return state.commands

    def _one(self, message: Any) -> Iterable[Any]:
        """Handle one message; returns what may be handled again because of it."""
        match message:
            case Reports():
                self._reporter.reports(message)
            case SubmitJobs():
                self._submitter.submit(message)
            case Committed():
                return self._committed(message)
            case SetCredit():
                self._set_credit(message)
            case Beat():
                self._beat(message)
            case Wake():
                self._wake()
            case CancelJob() | RetryJob() | ReleaseJob() | ReplayJob() | DiscardDeadLetter():
                self._operator.operate(message)
            case Attach():
                self._attach(message)
            case Detach():
                self._detach(message)
            case Drain():
                self._drain(message)
            case RankedLoaded():
                self._ranked_loaded(message)
            case DueLoaded():
                self._due_loaded(message)
            case SubjectsLoaded():
                return self._subjects_loaded(message)
            case ReadFailed():
                return self._read_failed(message)
            case LedgerAway():
                state = self._state
                state.leases.stop_clock(state.now.mono)
            case LedgerBack():
                self._state.leases.start_clock(self._state.now.mono)
            case CommitRefused():
                self._commit_refused(message)
            case DueJob():
                self._operator.expire([message])
            case Recovered():
                self._recover(message)
            case _:
                raise TypeError(f"a lease shard does not understand {type(message).__name__}")
        return ()

    # ---- the store and the ledger

    def _recover(self, message: Recovered) -> None:
        """Every live lease gets one full period for its worker to return."""
        state = self._state
        now_s = state.lease_now_s()
        for leased in message.leased:
            job = leased.job
            timeout_us = job.definition.timeout_us
            timeout_s = None
            if timeout_us is not None:
                run_us = state.now.at - leased.granted_at
                timeout_s = now_s + max(0, timeout_us - run_us) / 1_000_000
            if job.cancel_requested_at is not None:
                grace_ends_s = now_s + state.limits.cancel_grace_s
                timeout_s = grace_ends_s if timeout_s is None else min(timeout_s, grace_ends_s)
            lease = Lease(
                job=job,
                attempt=job.attempt,
                session=None,
                worker_id=leased.worker_id,
                task_runner_id=leased.task_runner_id,
                renewed_s=now_s,
                timeout_s=timeout_s,
                phase=Phase.LIVE,
            )
            state.leases.add(lease)
        for lane in message.lanes:
            state.open_lane(lane, BEFORE_ALL)

    def _committed(self, message: Committed) -> Iterable[Any]:
        state = self._state
        pending = state.pending.pop(message.stamp, None)
        if pending is None:
            return ()
        again: list[Any] = []
        for lease in pending.ended:
            state.leases.remove(lease)
            state.outdate(lease.job)
        for job in pending.displaced:
            state.displace(job)
        for lease in pending.kept:
            lease.phase = Phase.LIVE
            state.leases.watch(lease)
        self._tell_grants(pending)
        self._tell_settled(pending)
        for lease in pending.stops:
            if lease.session is not None:
                stop = StopLease(
                    lease_id=lease.lease_id,
                    reason=lease.job.cancel_reason or "timed_out",
                    grace_s=state.limits.cancel_grace_s,
                )
                self._tell(lease.session, stop)
        for ask_id, value in pending.answers:
            state.commands.append(Answer(ask_id, value))
        self._submitter.release_claims(pending.claims)
        again.extend(self._submitter.release_keys(pending.unique_keys))
        for job_id in pending.operated:
            state.set_aside.pop(job_id, None)
            again.extend(state.operating.pop(job_id, ()))
        self._place(pending)
        if state.deferred:
            for lease in (*pending.grants, *pending.ended, *pending.kept):
                again.extend(state.deferred.pop(lease.job.job_id, ()))
        return again

    def _place(self, pending: Pending) -> None:
        state = self._state
        lanes: dict[Lane, None] = {}
        for job in pending.placed:
            if job.state is not State.SCHEDULED:
                if job.state is State.PENDING and job.definition.expires_at is not None:
                    state.place_expiry(job)
                continue
            if state.leases.of_job(job.job_id) is not None:
                continue
            lane = state.place(job)
            if lane is not None:
                lanes[lane] = None
        for lane in lanes:
            self._granter.serve_lane(lane)
        if lanes:
            state.bound_windows()

    def _tell_grants(self, pending: Pending) -> None:
        state = self._state
        by_session: dict[int, list[Grant]] = {}
        orphans = []
        for lease in pending.grants:
            lease.phase = Phase.LIVE
            session = lease.session
            if session is None:
                orphans.append(lease)
                continue
            left_s = lease.ends_s() - state.lease_now_s()
            until_at = state.now.at + round(left_s * 1_000_000)
            grant = Grant(lease.job, lease.lease_id, lease.attempt, until_at)
            by_session.setdefault(session.session_id, []).append(grant)
        for session_id, grants in by_session.items():
            state.commands.append(Tell(session_id=session_id, message=Granted(leases=grants)))
        if orphans:
            self._give_back(orphans)

    def _give_back(self, leases: Sequence[Lease]) -> None:
        """Leases that no worker has heard of or still holds: their jobs wait again at once."""
        state = self._state
        tenant_id = leases[0].job.tenant_id
        draft, pending = state.draft(tenant_id, ENGINE), Pending()
        for lease in leases:
            self._reporter.give_back(draft, pending, lease, 0)
        state.commit(draft, pending)

    def _tell_settled(self, pending: Pending) -> None:
        for session_id in {**pending.acks, **pending.nacks}:
            settled = Settled(
                acks=pending.acks.get(session_id, ()), nacks=pending.nacks.get(session_id, ())
            )
            self._state.commands.append(Tell(session_id=session_id, message=settled))

    def _commit_refused(self, message: CommitRefused) -> None:
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
        self._tell_settled(pending)
        for ask_id, _ in pending.answers:
            self._state.commands.append(Answer(ask_id, refusal))
        why = f"commit {message.stamp} was refused: {message.why}"
        self._state.commands.append(Abandon(why=why))

    # ---- sessions

    def _attach(self, message: Attach) -> None:
        state = self._state
        earlier = state.sessions.get(message.session_id)
        if earlier is not None:
            self._let_go(earlier)
        session = Session(
            session_id=message.session_id,
            tenant_id=message.tenant_id,
            worker_id=message.worker_id,
            task_runner_id=message.task_runner_id,
            queues=message.queues,
            job_types=message.job_types,
            capacity=message.capacity,
            auto_credit=message.auto_credit,
            beat_s=state.lease_now_s(),
        )
        state.sessions.add(session)
        resumed, lost = [], []
        for claim in message.resume:
            lease = state.leases.find(claim.lease_id, claim.token)
            if lease is None or lease.job.tenant_id != message.tenant_id:
                lost.append(claim.lease_id)
                continue
            if lease.session is not None:
                lease.session.leases.pop(lease.job.job_id, None)
            lease.session = session
            session.leases[lease.job.job_id] = lease
            resumed.append(claim.lease_id)
        self._tell(session, Attached(resumed=resumed, lost=lost))
        for lease in session.leases.values():
            if lease.job.cancel_requested_at is not None:
                stop = StopLease(
                    lease_id=lease.lease_id,
                    reason=lease.job.cancel_reason or "user_cancelled",
                    grace_s=state.limits.cancel_grace_s,
                )
                self._tell(session, stop)
        if not isinstance(message, AttachBriefly):
            self._give_back_unheard(session)

    def _give_back_unheard(self, session: Session) -> None:
        """Leases this worker was granted but does not name: their frames never reached it."""
        unheard = [
            lease
            for lease in self._state.leases
            if lease.session is None
            and lease.phase is Phase.LIVE
            and lease.worker_id == session.worker_id
            and lease.job.tenant_id == session.tenant_id
            and lease.job.job_id not in self._state.operating
        ]
        if unheard:
            self._give_back(unheard)

    def _set_credit(self, message: SetCredit) -> None:
        session = self._state.sessions.get(message.session_id)
        if session is not None:
            session.credit = message.slots
            self._granter.serve_session(session)

    def _beat(self, message: Beat) -> None:
        state = self._state
        session = state.sessions.get(message.session_id)
        if session is None:
            return
        now_s = state.lease_now_s()
        lost: list[str] = []
        if message.leases is None:
            session.beat_s = now_s
            held = list(session.leases.values())
        else:
            held = []
            for claim in message.leases:
                lease = state.leases.find(claim.lease_id, claim.token)
                if lease is None or lease.job.tenant_id != session.tenant_id:
                    lost.append(claim.lease_id)
                else:
                    lease.renewed_s = now_s
                    held.append(lease)
        stop = [
            lease.lease_id
            for lease in held
            if lease.job.cancel_requested_at is not None and lease.job.job_id not in state.operating
        ]
        if message.progress:
            self._beat_progress(session, held, message.progress)
        self._tell(session, Beaten(ref=message.ref, stop=stop, lost=lost))

    def _beat_progress(
        self, session: Session, held: Sequence[Lease], progress: dict[str, bytes]
    ) -> None:
        state = self._state
        draft, pending = state.draft(session.tenant_id, ENGINE), Pending()
        for lease in held:
            note = progress.get(lease.lease_id)
            free = lease.phase is Phase.LIVE and lease.job.job_id not in state.operating
            if note is not None and free:
                self._reporter.progress(draft, pending, lease, note)
        if not draft.empty:
            state.commit(draft, pending)

    def _drain(self, message: Drain) -> None:
        """Grant no more; acknowledged behind every lease that is still on its way."""
        session = self._state.sessions.get(message.session_id)
        if session is None:
            return
        session.draining = True
        for pending in reversed(self._state.pending.values()):
            if any(lease.session is session for lease in pending.grants):
                pending.ack(session.session_id, message.ref)
                return
        self._tell(session, Settled(acks=(message.ref,)))

    def _detach(self, message: Detach) -> None:
        session = self._state.sessions.get(message.session_id)
        if session is not None:
            self._let_go(session)

    def _let_go(self, session: Session) -> None:
        for lease in session.leases.values():
            lease.renewed_s = max(lease.renewed_s, session.beat_s)
            lease.session = None
        self._state.sessions.remove(session)

    def _tell(self, session: Session, said: Any) -> None:
        self._state.commands.append(Tell(session_id=session.session_id, message=said))

    # ---- time

    def _wake(self) -> None:
        state = self._state
        now = state.now
        if self._read_again_at is not None and self._read_again_at <= now.mono:
            self._read_again_at = None
            for lane, window in list(state.lanes.items()):
                if window.wants_refill and state.sessions.wanted(lane):
                    self._granter.refill(lane, window)
        for lease in state.leases.pop_due(now.mono):
            if lease.job.job_id in state.operating:
                state.leases.watch_later(lease, now.mono)
            else:
                self._reporter.expire(lease)
        self._release_delayed()
        self._expire_waiting()

    def _release_delayed(self) -> None:
        state = self._state
        lanes: dict[Lane, None] = {}
        while (first := state.delayed.first()) is not None and first[0] <= state.now.at:
            job = state.delayed.pop()
            if job.job_id in state.operating:
                state.set_aside[job.job_id] = job
                continue
            lane = state.lane_of(job)
            state.window(lane).offer(state.key_of(job), job, weight(job))
            lanes[lane] = None
        for lane in lanes:
            self._granter.serve_lane(lane)

    def _expire_waiting(self) -> None:
        state = self._state
        if self._read_again_at is not None:
            return
        due = []
        while (first := state.expiring.first()) is not None and first[0] <= state.now.at:
            due.append(state.expiring.pop())
        due.sort(key=lambda row: (row.tenant_id, row.at, row.job_id))
        for _, rows in groupby(due, key=lambda row: row.tenant_id):
            self._operator.expire(list(rows))

    # ---- reads

    def _refill_due(self) -> None:
        state = self._state
        if self._read_again_at is not None:
            return
        if state.delayed.wants_refill:
            stamp = state.stamp()
            after = state.delayed.begin_refill(stamp)
            state.commands.append(
                LoadDelayed(stamp=stamp, after=after, jobs_max=state.delayed.items_max // 2)
            )
        if state.expiring.wants_refill:
            stamp = state.stamp()
            after = state.expiring.begin_refill(stamp)
            state.commands.append(
                LoadExpiring(stamp=stamp, after=after, jobs_max=state.expiring.items_max // 2)
            )

    def _ranked_loaded(self, message: RankedLoaded) -> None:
        state = self._state
        jobs = [row.job for row in message.rows]
        busy = {job.job_id for job in jobs if self._is_busy(job)}
        if message.stamp == state.delayed.stamp:
            rows = [((job.due_at, job.job_id), job, weight(job)) for job in jobs]
            full = len(rows) >= state.delayed.items_max // 2
            state.delayed.finish_refill(rows, complete=not full, busy=busy)
            self._release_delayed()
            return
        lane = state.reading_lanes.pop(message.stamp, None)
        if lane is None:
            return
        window = state.lanes[lane]
        ranked = [((row.rank, row.job.job_id), row.job, weight(row.job)) for row in message.rows]
        window.finish_refill(ranked, complete=not ranked, busy=busy)
        self._granter.serve_lane(lane)
        state.bound_windows()

    def _is_busy(self, job: Job) -> bool:
        state = self._state
        if state.leases.of_job(job.job_id) is not None:
            return True
        if job.job_id not in state.operating:
            return False
        state.set_aside[job.job_id] = job
        return True

    def _due_loaded(self, message: DueLoaded) -> None:
        state = self._state
        if message.stamp == state.expiring.stamp:
            rows = [((row.at, row.job_id), row, DUE_ENTRY_BYTES) for row in message.rows]
            full = len(message.rows) >= state.expiring.items_max // 2
            state.expiring.finish_refill(rows, complete=not full)
            self._expire_waiting()

    def _subjects_loaded(self, message: SubjectsLoaded) -> Iterable[Any]:
        for part in (self._operator, self._submitter):
            again = part.loaded(message)
            if again is not None:
                return again
        self._reporter.loaded(message)
        return ()

    def _read_failed(self, message: ReadFailed) -> Iterable[Any]:
        state = self._state
        self._read_again_at = state.now.mono + state.limits.read_retry_s
        lane = state.reading_lanes.pop(message.stamp, None)
        if lane is not None:
            state.lanes[lane].abandon_refill()
            return ()
        due: tuple[Window[Any], ...] = (state.delayed, state.expiring)
        for window in due:
            if window.stamp == message.stamp:
                window.abandon_refill()
                return ()
        for part in (self._submitter, self._operator, self._reporter):
            again = part.read_failed(message.stamp)
            if again is not None:
                return again
        return ()
