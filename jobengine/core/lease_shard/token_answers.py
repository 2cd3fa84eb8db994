"""What the rate bucket has answered to proposals: jobs start, wait for tokens, or go back.

I1  A job that has its tokens starts only if it and its session still may; else the tokens go back.
I2  A job keeps the places that it held while it was proposed if it starts, and lets go of them if
    it does not.

Not here: proposing (``grants``), how tokens are counted (``core/rate_bucket``).
"""

from collections.abc import Sequence
from typing import Any

from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.proposals import Candidate
from jobengine.core.lease_shard.ready_lanes import has_expired
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import Denial, Reserved

__all__ = ["TokenAnswers"]


class TokenAnswers:
    def __init__(self, state: ShardState, granter: Granter) -> None:
        self._state = state
        self._granter = granter

    def answered(
        self, candidates: Sequence[Candidate], message: Reserved, *, outdated: bool
    ) -> list[Any]:
        """Grant what has its tokens and put back the rest; what had waited may be handled again.

        An ``outdated`` answer is about limits that have changed: everything is put back.
        """
        state = self._state
        step = self._granter.begin(message.tenant_id)
        refunds, tally = [], dict[Lane, list[int]]()
        again: list[Any] = []
        for candidate, denial in zip(candidates, message.denials, strict=True):
            job, kind = candidate.job, state.kinds.bind(candidate.kind)
            lane = kind.lane
            got = tally.get(lane)
            if got is None:
                got = tally[lane] = [0, 0]
            if denial is None and not outdated and self._may_still_take(candidate):
                got[0] += 1
                self._granter.take(step, job, kind, candidate.session)
                continue
            state.let_go(job)
            self._put_back(candidate)
            again.extend(state.release(job.tenant_id, job.job_id))
            if denial is None:
                refunds.append(candidate.request)
            elif not outdated:
                got[1] += 1
                self._deny(candidate, denial, message.at)
        for lane, (granted, denied) in tally.items():
            if lane in state.lanes:
                state.proposals.learn_appetite(lane, granted, denied)
            else:
                state.proposals.forget_lane(lane)
            state.look_again(lane)
        self._ask_again(candidates)
        self._granter.refund(message.tenant_id, refunds)
        if step.pending.grants:
            state.keep_buckets(step.draft, message.states)
        self._granter.finish(step)
        return again

    def _ask_again(self, candidates: Sequence[Candidate]) -> None:
        """Sessions whose candidates did not start have slots once more, for other lanes too."""
        sessions = self._state.sessions
        for session in {each.session.session_id: each.session for each in candidates}.values():
            if sessions.get(session.session_id) is session:
                self._state.free(session)

    def _deny(self, candidate: Candidate, denial: Denial, answered_at: int) -> None:
        """Tokens are missing: the lane waits for them, or this job alone does.

        A bucket goes by the wall clock: while the shard is ahead of one that was set back, it waits
        as long from now on as was to be waited at the instant of the answer.
        """
        state = self._state
        job, lane = candidate.job, candidate.kind.lane
        subject = (job.tenant_id, "rate", denial.key)
        opens_at = denial.opens_at
        if opens_at is not None:
            if state.ahead_us:
                opens_at += state.now.at - answered_at
            opens_at = max(opens_at, state.now.at + state.limits.rate_pause_us)
        window = state.lanes.get(lane)
        if window is None or job.job_id in state.operating:
            return
        of_lane = state.gates.is_of_lane(lane, denial.key) and not denial.of_request
        if of_lane or state.waiting_room.full:
            state.waiting_room.close(lane, subject, opens_at)
        else:
            window.discard(job.job_id)
            state.park(lane, job, subject, opens_at)

    def _put_back(self, candidate: Candidate) -> None:
        state = self._state
        job = candidate.job
        if job.job_id in state.operating:
            state.set_aside[job.job_id] = job
        else:
            state.put_back(candidate.kind.lane, job)

    def _may_still_take(self, candidate: Candidate) -> bool:
        state = self._state
        job, session = candidate.job, candidate.session
        return (
            state.sessions.get(session.session_id) is session
            and session.slots > 0
            and job.job_id not in state.operating
            and not has_expired(job, state.now.at)
            and state.gates.first_closed(job, candidate.kind, state.now.at, holding=1) is None
        )
