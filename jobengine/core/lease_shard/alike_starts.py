"""Alike starts: many alike jobs that begin, or start, in one change, decided together.

What decides whether one of them may start decides it for all: they are of one kind, no control of
their tenant bears on it, and nothing of their own has to be looked at (``Likeness.plain``).

I1  Jobs start in their order, each before all that were made after it, and only where a single job
    in its place would.
I2  They go to those who ask for them in turn, whoever has waited longest first.

Not here: what is written of them (``alike``), jobs that are not plain (``creations``, ``grants``).
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from jobengine.core.lease_shard.alike import GRANTED, STARTED, WAITING, is_plain
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.groups import Group
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.window import Window
from jobengine.domain.job import Job, Likeness, State
from jobengine.domain.records import NewJob

__all__ = ["AlikeStarts", "FreeKinds"]

_ALIKE_JOBS_MIN: Final = 4
"""Fewer are decided one by one."""


class FreeKinds:
    """Which jobs are of a kind that no gate keeps, during one message: looked up once for each run
    of alike jobs."""

    __slots__ = ("_is_free", "_like", "_state")

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._like: Likeness | None = None
        self._is_free = False

    def has(self, job: Job) -> bool:
        if job.like is not self._like:
            self._like = job.like
            self._is_free = self._state.gates.leave_free(self._state.kind_of(job))
        return self._is_free


class AlikeStarts:
    def __init__(self, state: ShardState, ready: ReadyLanes) -> None:
        self._state = state
        self._ready = ready

    def count(self, tenant_id: str, jobs: Sequence[NewJob], first: int, jobs_max: int) -> int:
        """How many jobs from ``first`` on may be created together; 0 when the first one is to be
        looked at by itself."""
        like = jobs[first].like
        if like is None or not like.plain:
            return 0
        end = min(len(jobs), first + jobs_max)
        place = first + 1
        while place < end and jobs[place].like is like:
            place += 1
        if place - first < _ALIKE_JOBS_MIN:
            return 0
        kind = self._state.kinds.of(tenant_id, like.definition)
        return place - first if self._state.gates.leave_free(kind) else 0

    def create(
        self, draft: Draft, pending: Pending, tenant_id: str, new: Sequence[NewJob]
    ) -> list[Job]:
        """Create jobs that ``count`` found alike in an open draft: leased at once as far as anybody
        asks for them, the others waiting."""
        at, like = draft.at, new[0].like
        assert like is not None
        kind = self._state.kinds.of(tenant_id, new[0].definition)
        jobs = [
            Job(
                job_id=each.job_id,
                tenant_id=tenant_id,
                definition=each.definition,
                definition_json=each.definition_json,
                payload=each.payload,
                created_at=at,
                state=State.SCHEDULED,
                due_at=at,
                scheduled_at=at,
                like=like,
            )
            for each in new
        ]
        started = self._start(draft, pending, jobs, like, kind)
        waiting = jobs[started:] if started else jobs
        if waiting:
            draft.note_alike(Group(WAITING, like, None, 0), waiting)
            draft.waiting += len(waiting)
            pending.placed.extend(waiting)
        return jobs

    def _start(
        self, draft: Draft, pending: Pending, jobs: Sequence[Job], like: Likeness, kind: Kind
    ) -> int:
        """Lease the first of these jobs to whoever asks for them; how many."""
        sessions, lane = self._state.sessions, kind.lane
        if not self._ready.goes_first(lane, self._state.key_of(jobs[0])):
            return 0

        def group_of(session: Session) -> Group:
            return Group(STARTED, like, session.by, 0)

        session = sessions.only_taker(lane)
        if session is not None:
            taken = jobs[: session.slots]
            self._lease(draft, pending, taken, group_of(session), kind, session)
            return len(taken)
        taken_by: dict[Session, list[Job]] = {}
        started = 0
        while started < len(jobs) and (taker := sessions.taker(lane)) is not None:
            taken_by.setdefault(taker, []).append(jobs[started])
            taker.proposed += 1
            started += 1
        for session, shared in taken_by.items():
            session.proposed -= len(shared)
            self._lease(draft, pending, shared, group_of(session), kind, session)
        return started

    def grant_first(
        self, draft: Draft, pending: Pending, window: Window[Job], session: Session
    ) -> None:
        """Lease the first jobs of an open lane to a session, as far as they are plain and free."""
        operating, free = self._state.operating, FreeKinds(self._state)
        jobs = window.take_while(
            lambda job: is_plain(job) and job.job_id not in operating and free.has(job),
            session.slots,
        )
        for (like, attempt), alike in groupby(jobs, lambda job: (job.like, job.attempt)):
            assert like is not None
            members = list(alike)
            for job in members:
                if job.was_delayed:
                    self._state.delayed.discard(job.job_id)
                self._state.waiting_room.took(job.job_id)
            kind = self._state.kind_of(members[0])
            group = Group(GRANTED, like, session.by, attempt)
            self._lease(draft, pending, members, group, kind, session)
            draft.waiting -= len(members)

    def _lease(
        self,
        draft: Draft,
        pending: Pending,
        jobs: Sequence[Job],
        group: Group,
        kind: Kind,
        session: Session,
    ) -> None:
        state = self._state
        draft.note_alike(group, jobs)
        for job in jobs:
            job.state = State.RUNNING
            job.reason = None
            job.attempt += 1
            job.started_at = draft.at
            job.finished_at = None
        now_s = state.lease_now_s()
        leases = [Lease.granted(job, session, now_s) for job in jobs]
        job_ids = [job.job_id for job in jobs]
        session.credit -= len(jobs)
        session.leases.update(zip(job_ids, leases, strict=True))
        state.leases.add_all(job_ids, leases)
        state.occupancy.hold_all(job_ids, kind)
        pending.grants.extend(leases)
