"""Supply: keeps the windows filled from the store, and acts on what falls due in them.

I1  A read that failed is repeated after a pause, and everything that waits for it with it.
I2  What is read of a busy job is set aside: whoever makes it so puts it back.
"""

from itertools import groupby
from typing import Any

from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.operations import Operator
from jobengine.core.lease_shard.state import DUE_ENTRY_BYTES, ShardState, weight
from jobengine.core.window import Window
from jobengine.domain.job import Job
from jobengine.domain.records import Lane
from jobengine.messages.shard_commands import DueLoaded, LoadDelayed, LoadExpiring, RankedLoaded

__all__ = ["Supply"]

_WALL_CHECK_S = 30.0


class Supply:
    """``again_at`` is the monotonic instant at which reads are tried again, after one failed."""

    def __init__(self, state: ShardState, granter: Granter, operator: Operator) -> None:
        self._state = state
        self._granter = granter
        self._operator = operator
        self.again_at: float | None = None

    @property
    def wakeup_at(self) -> float | None:
        """The first delayed job, expiry or gate to fall due, or the time to read again."""
        state, now, again_at = self._state, self._state.now, self.again_at
        due_at = state.waiting_room.opens_at
        for window in (state.delayed, state.expiring) if again_at is None else (state.delayed,):
            first = window.first()
            if first is not None and (due_at is None or first[0] < due_at):
                due_at = first[0]
        if due_at is None:
            return again_at
        mono = now.mono + min((due_at - now.at) / 1_000_000, _WALL_CHECK_S)
        return mono if again_at is None else min(again_at, mono)

    def wake(self) -> None:
        """Read again what could not be read, and let go of what has fallen due."""
        state = self._state
        if self.again_at is not None and self.again_at <= state.now.mono:
            self.again_at = None
            for lane, window in list(state.lanes.items()):
                if window.wants_refill and state.sessions.wanted(lane):
                    self._granter.refill(lane, window)
        self.release_delayed()
        self.expire_waiting()
        for subject in state.waiting_room.due(state.now.at):
            state.open_subject(subject)

    def read_failed(self, stamp: int) -> bool:
        """A read did not succeed; False when no window was waiting for it."""
        state = self._state
        self.again_at = state.now.mono + state.limits.read_retry_s
        lane = state.reading_lanes.pop(stamp, None)
        if lane is not None:
            state.lanes[lane].abandon_refill()
            return True
        due: tuple[Window[Any], ...] = (state.delayed, state.expiring)
        for window in due:
            if window.stamp == stamp:
                window.abandon_refill()
                return True
        return False

    def refill_due(self) -> None:
        """Read on where the delayed or the expiring window runs low."""
        state = self._state
        if self.again_at is not None:
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

    def ranked_loaded(self, message: RankedLoaded) -> None:
        """Jobs of a lane, or delayed ones, have been read."""
        state = self._state
        jobs = [row.job for row in message.rows]
        busy = {job.job_id for job in jobs if self._is_busy(job)}
        if message.stamp == state.delayed.stamp:
            rows = [((job.due_at, job.job_id), job, weight(job)) for job in jobs]
            full = len(rows) >= state.delayed.items_max // 2
            state.delayed.finish_refill(rows, complete=not full, busy=busy)
            self.release_delayed()
            return
        lane = state.reading_lanes.pop(message.stamp, None)
        if lane is None:
            return
        window = state.lanes[lane]
        ranked = [((row.rank, row.job.job_id), row.job, weight(row.job)) for row in message.rows]
        window.finish_refill(ranked, complete=not ranked, busy=busy)
        self._granter.serve_lane(lane)
        state.bound_windows()

    def due_loaded(self, message: DueLoaded) -> None:
        """Expiries have been read."""
        state = self._state
        if message.stamp == state.expiring.stamp:
            rows = [((row.at, row.job_id), row, DUE_ENTRY_BYTES) for row in message.rows]
            full = len(message.rows) >= state.expiring.items_max // 2
            state.expiring.finish_refill(rows, complete=not full)
            self.expire_waiting()

    def release_delayed(self) -> None:
        """Delayed jobs whose time has come enter their lanes."""
        state = self._state
        lanes: dict[Lane, None] = {}
        while (first := state.delayed.first()) is not None and first[0] <= state.now.at:
            job = state.delayed.pop()
            if state.has_left(job.job_id):
                continue
            if job.job_id in state.operating:
                state.set_aside[job.job_id] = job
                continue
            lane = state.lane_of(job)
            state.window(lane).offer(state.key_of(job), job, weight(job))
            lanes[lane] = None
        for lane in lanes:
            self._granter.serve_lane(lane)

    def expire_waiting(self) -> None:
        """Jobs that reached their expiry without having started."""
        state = self._state
        if self.again_at is not None:
            return
        due = []
        while (first := state.expiring.first()) is not None and first[0] <= state.now.at:
            due.append(state.expiring.pop())
        due.sort(key=lambda row: (row.tenant_id, row.at, row.job_id))
        for _, rows in groupby(due, key=lambda row: row.tenant_id):
            self._operator.expire(list(rows))

    def _is_busy(self, job: Job) -> bool:
        state = self._state
        if state.has_left(job.job_id):
            return True
        if job.job_id not in state.operating:
            return False
        state.set_aside[job.job_id] = job
        return True
