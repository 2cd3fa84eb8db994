"""Grants: ready jobs to sessions with slots.

I1  A grant is a transition like any other: nobody hears of a lease before its commit.
I2  A lane's jobs are granted in the lane's order; a session takes the lowest rank among its lanes.
I3  A job that may start at once, with a slot free, is created, released and leased in one commit;
    it never jumps ahead of older work that is still in the store.
"""

from heapq import heapify, heappop, heapreplace

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ENGINE, Pending, ShardState
from jobengine.core.window import Window
from jobengine.domain.job import Job, State
from jobengine.domain.records import Lane
from jobengine.messages.lease_shard import LoadLane

__all__ = ["Granter"]

_REFILL_OF_MAX = 2


class Granter:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def on_arrival(self, job: Job) -> Session | None:
        """The session that may take a job just being created, or None when it has to wait."""
        state = self._state
        lane = state.lane_of(job)
        window = state.lanes.get(lane)
        if window is not None and (len(window) or not window.admits(state.key_of(job))):
            return None
        return state.sessions.taker(lane)

    def grant(self, draft: Draft, pending: Pending, job: Job, session: Session) -> None:
        """The step into ``running``, inside an open draft of this job; the caller closes it."""
        now = self._state.now
        now_s = self._state.lease_now_s()
        job.attempt += 1
        job.started_at = now.at
        job.finished_at = None
        waited_us = now.at - max(job.due_at, job.scheduled_at or job.created_at)
        draft.step(
            job,
            State.RUNNING,
            actor=ENGINE.subject,
            worker=session.worker_id,
            span_us=max(0, waited_us),
        )
        timeout_us = job.definition.timeout_us
        lease = Lease(
            job=job,
            attempt=job.attempt,
            session=session,
            worker_id=session.worker_id,
            task_runner_id=session.task_runner_id,
            renewed_s=now_s,
            timeout_s=None if timeout_us is None else now_s + timeout_us / 1_000_000,
        )
        session.credit -= 1
        session.leases[job.job_id] = lease
        self._state.leases.add(lease)
        pending.grants.append(lease)

    def serve_lane(self, lane: Lane) -> None:
        """Grant what a lane holds to whoever asks for it, in a commit of its own."""
        state = self._state
        window = state.lanes.get(lane)
        if window is None:
            return
        draft, pending = state.draft(lane.tenant_id, ENGINE), Pending()
        while (session := state.sessions.taker(lane)) is not None:
            job = self._first(lane)
            if job is None:
                self._refill_if_low(lane, window)
                break
            self._take(draft, pending, lane, job, session)
        if pending.grants:
            state.commit(draft, pending)
        state.close_lane_if_drained(lane)

    def serve_session(self, session: Session) -> None:
        """Fill a session's slots, in a commit of its own."""
        state = self._state
        draft, pending = state.draft(session.tenant_id, ENGINE), Pending()
        self.fill(draft, pending, session)
        if pending.grants:
            state.commit(draft, pending)

    def fill(self, draft: Draft, pending: Pending, session: Session) -> None:
        """Grant to one session from all its lanes, lowest rank first; then let it ask for more."""
        if session.slots <= 0:
            return
        state = self._state
        lanes = self._lanes_for(session)
        heads = []
        for lane in lanes:
            window = state.lanes[lane]
            key = window.first()
            if key is not None:
                heads.append((key, lane))
            self._refill_if_low(lane, window)
        heapify(heads)
        while heads and session.slots > 0:
            _, lane = heads[0]
            job = self._first(lane)
            if job is not None:
                self._take(draft, pending, lane, job, session)
            key = state.lanes[lane].first()
            if key is None:
                heappop(heads)
            else:
                heapreplace(heads, (key, lane))
        for lane in lanes:
            state.close_lane_if_drained(lane)
        if session.slots > 0:
            state.sessions.ask(session)

    def refill(self, lane: Lane, window: Window[Job]) -> None:
        """Ask the store for the next jobs of a lane."""
        state = self._state
        stamp = state.stamp()
        after = window.begin_refill(stamp)
        state.reading_lanes[stamp] = lane
        state.commands.append(
            LoadLane(
                stamp=stamp,
                lane=lane,
                after=after,
                now_at=state.now.at,
                jobs_max=window.items_max // _REFILL_OF_MAX,
                bytes_max=window.bytes_max // _REFILL_OF_MAX,
            )
        )

    def _refill_if_low(self, lane: Lane, window: Window[Job]) -> None:
        if window.wants_refill:
            self.refill(lane, window)

    def _first(self, lane: Lane) -> Job | None:
        """Take the first job of a lane that nobody is operating on, or None."""
        state = self._state
        window = state.lanes[lane]
        while window.first() is not None:
            job = window.pop()
            if job.job_id not in state.operating:
                if _has_expired(job, state.now.at):
                    continue
                return job
            state.set_aside[job.job_id] = job
        return None

    def _take(self, draft: Draft, pending: Pending, lane: Lane, job: Job, session: Session) -> None:
        state = self._state
        if job.definition.expires_at is not None:
            state.expiring.discard(job.job_id)
        if job.due_at > (job.scheduled_at or 0):
            state.delayed.discard(job.job_id)
        draft.open()
        self.grant(draft, pending, job, session)
        draft.close(
            job,
            State.SCHEDULED,
            worker_id=session.worker_id,
            task_runner_id=session.task_runner_id,
        )
        self._refill_if_low(lane, state.lanes[lane])

    def _lanes_for(self, session: Session) -> list[Lane]:
        by_topic = self._state.lanes_by_topic
        return [
            lane
            for topic in session.topics()
            for lane in by_topic.get(topic, ())
            if session.takes(lane)
        ]


def _has_expired(job: Job, at: int) -> bool:
    """Whether a job may not start any more; its expiry, once read, cancels it."""
    expires_at = job.definition.expires_at
    return expires_at is not None and job.attempt == 0 and expires_at <= at
