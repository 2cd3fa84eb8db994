"""Jobs that somebody operates on: held from before they are read until that is settled.

I1  Who holds a job sees it as committed: nothing else of it is in flight, and whatever comes
    meanwhile waits.
I2  Who needs several jobs takes them in the order of their ids, so nobody waits in a circle.

Not here: what holders do (``operations``, ``run_jobs``).
"""

from typing import Any

from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.job import Job, State

__all__ = ["HeldJobs"]


class HeldJobs:
    def __init__(self, state: ShardState, granter: Granter) -> None:
        self._state = state
        self._granter = granter

    def waits(self, job_id: str, message: Any) -> bool:
        """Whether a job is busy: the message is handled again afterwards."""
        if self._state.is_busy(job_id):
            self._state.defer(job_id, message)
            return True
        return False

    def crowded(self, job_id: str) -> bool:
        """Whether no more requests may wait for a job."""
        waiting = self._state.deferred.get(job_id)
        return waiting is not None and len(waiting) >= self._state.limits.waiting_requests_max

    def hold(self, job_id: str) -> Job | None:
        """Hold a job; it is returned where it is known as committed and need not be read."""
        self._state.operating.add(job_id)
        return self._state.fresh_jobs.take(job_id)

    def let_go(self, tenant_id: str, job_id: str, job: Job | None) -> list[Any]:
        """Let go of a job that has not changed; who may go on that had waited for it. If it is
        ready it goes back to where it waits.

        ``job`` is what was read of it, None where nothing was.
        """
        state = self._state
        state.operating.remove(job_id)
        aside = state.set_aside.pop(job_id, None)
        job = job or aside
        waits = job is not None and job.state is State.SCHEDULED
        if job is not None and waits and not state.waiting_room.holds(job_id):
            lane = state.place(job)
            if lane is not None:
                self._granter.serve_lane(lane)
        return state.release(tenant_id, job_id)
