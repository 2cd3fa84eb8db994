"""Grants: ready jobs to sessions with slots, past every gate.

A *step* takes jobs from open lanes for sessions that ask, one by one. A job that no gate keeps is
leased in the step's own commit; one that needs tokens is proposed to the rate bucket, and leased or
put back when that has answered.

I1  A grant is a transition like any other: nobody hears of a lease before its commit.
I2  A lane's jobs are granted in the lane's order, but for those that a gate of their own keeps.
I3  A session with slots takes from its flows in fair order (``fair_queue``): source, then job type,
    by cost; of the lanes of one flow the lowest rank first.
I4  A job that may start at once, with a slot free, is created, released and leased in one commit;
    it never jumps ahead of older work that may start too.
I5  Whatever opens is offered to whoever asks within the same message.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs

from jobengine.core.fair_queue import BACKGROUND, NORMAL, FairRounds, Flow, Head
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.proposals import Candidate
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ENGINE, Pending, ShardState
from jobengine.core.window import Window
from jobengine.domain.job import Job, State
from jobengine.domain.records import Lane, NewJob
from jobengine.messages.lease_shard import LoadLane
from jobengine.messages.rate_bucket import Denial, RateRequest, Reserved

__all__ = ["Granter", "Step"]

_REFILL_OF_MAX = 2
_BACKGROUND_PRIORITY = 0
_BACKGROUND_AGES_AFTER = 9
"""Steps of ageing after which background work counts as normal: as many as there are priorities."""


@attrs.define
class Step:
    """One granting step of a tenant: its change, what is owed for it, and whom it proposes."""

    draft: Draft
    pending: Pending
    candidates: list[Candidate] = attrs.field(factory=list)


class Granter:
    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._rounds: dict[str, FairRounds] = {}

    def on_arrival(self, job: Job, tokens: Collection[str] = ()) -> Session | None:
        """The session that may take a job just being created, or None when it has to wait.

        ``tokens`` names the jobs whose tokens have been taken already.
        """
        state = self._state
        lane = state.lane_of(job)
        if not self._goes_first(lane, state.key_of(job)):
            return None
        if state.gates.first_closed(job, lane, state.now.at) is not None:
            return None
        if job.job_id not in tokens and state.gates.rate_request(job, lane) is not None:
            return None
        return state.sessions.taker(lane)

    def tokens_on_arrival(self, tenant_id: str, jobs: Sequence[NewJob]) -> list[RateRequest]:
        """The tokens that jobs about to be created need, as far as they could start at once."""
        state = self._state
        if tenant_id not in state.gates.tenants:
            return []
        room: dict[Lane, int] = {}
        requests = []
        for new in jobs:
            definition = new.definition
            if definition.hold or (definition.not_before or 0) > state.now.at:
                continue
            lane = state.lane_for(tenant_id, definition)
            if lane not in room:
                first = self._goes_first(lane, None)
                room[lane] = state.sessions.slots_for(lane) if first else 0
            if room[lane] > 0:
                request = state.gates.rate_request_of(new.job_id, definition, lane)
                if request is not None:
                    room[lane] -= 1
                    requests.append(request)
        return requests

    def grant(self, draft: Draft, pending: Pending, job: Job, session: Session) -> None:
        """The step into ``running``, inside an open draft of this job; the caller closes it."""
        state = self._state
        now = state.now
        now_s = state.lease_now_s()
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
        state.leases.add(lease)
        state.occupancy.hold(job)
        state.waiting_room.took(job.job_id)
        if job.definition.source_id is not None:
            state.note_start(pending, lease)
        pending.grants.append(lease)

    # ---- serving

    def serve_lane(self, lane: Lane) -> None:
        """Grant what a lane holds to whoever asks for it, in a commit of its own."""
        state = self._state
        window = state.lanes.get(lane)
        if window is None:
            return
        step = self._begin(lane.tenant_id)
        while self._is_open(lane) and (session := state.sessions.taker(lane)) is not None:
            if not self._next(step, lane, window, session):
                self._refill_if_low(lane, window)
                break
        self._finish(step)
        state.close_lane_if_drained(lane)

    def serve_session(self, session: Session) -> None:
        """Fill a session's slots, in a commit of its own."""
        step = self._begin(session.tenant_id)
        self._fill(step, session)
        self._finish(step)

    def fill(self, draft: Draft, pending: Pending, session: Session) -> None:
        """Fill a session's slots within the commit of an open draft; then let it ask for more."""
        step = Step(draft, pending)
        self._fill(step, session)
        self._propose(step)

    def serve_opened(self) -> None:
        """Offer what gates have let out to whoever asks for it, in fair order."""
        state = self._state
        while state.opened:
            lane, _ = state.opened.popitem()
            window = state.lanes.get(lane)
            while window is not None and self._is_open(lane) and window.first() is not None:
                session = state.sessions.taker(lane)
                if session is None:
                    break
                slots = session.slots
                self.serve_session(session)
                if session.slots == slots:
                    break
                window = state.lanes.get(lane)

    def answered(self, candidates: Sequence[Candidate], message: Reserved) -> list[Any]:
        """Grant what has its tokens and put back the rest; what had waited may be handled again."""
        state = self._state
        step = self._begin(message.tenant_id)
        refunds, tally = [], dict[Lane, list[int]]()
        again: list[Any] = []
        for candidate, denial in zip(candidates, message.denials, strict=True):
            job, lane = candidate.job, candidate.lane
            got = tally.setdefault(lane, [0, 0])
            state.let_go(job)
            if denial is None and self._may_still_take(candidate):
                got[0] += 1
                self._take(step, job, candidate.session)
                continue
            self._put_back(candidate)
            again.extend(state.deferred.pop(job.job_id, ()))
            if denial is None:
                refunds.append(candidate.request)
            else:
                got[1] += 1
                self._deny(candidate, denial)
        for lane, (granted, denied) in tally.items():
            state.proposals.learn_appetite(lane, granted, denied)
            if not denied:
                state.opened[lane] = None
        self.refund(message.tenant_id, refunds)
        if step.pending.grants:
            state.keep_buckets(step.draft, message.states)
        self._finish(step)
        return again

    def refund(self, tenant_id: str, requests: Sequence[RateRequest]) -> None:
        """Give tokens back, and let those go on who wait for them."""
        state = self._state
        state.commands.extend(state.proposals.refund(tenant_id, requests))
        for key in {key: None for request in requests for key in request.keys}:
            state.open_subject((tenant_id, "rate", key))

    # ---- one step

    def _begin(self, tenant_id: str) -> Step:
        return Step(self._state.draft(tenant_id, ENGINE), Pending())

    def _finish(self, step: Step) -> None:
        if step.pending.grants:
            self._state.commit(step.draft, step.pending)
        self._propose(step)

    def _propose(self, step: Step) -> None:
        if step.candidates:
            state = self._state
            tenant_id = step.draft.changes.tenant_id
            state.commands.extend(state.proposals.send(state.stamp(), tenant_id, step.candidates))
            step.candidates = []

    def _fill(self, step: Step, session: Session) -> None:
        if session.slots <= 0:
            return
        state = self._state
        lanes = self._lanes_for(session)
        if len(lanes) == 1:
            self._fill_from(step, lanes[0], session)
        elif lanes:
            self._fill_fairly(step, lanes, session)
        for lane in lanes:
            state.close_lane_if_drained(lane)
        if session.slots > 0:
            state.sessions.ask(session)

    def _fill_from(self, step: Step, lane: Lane, session: Session) -> None:
        window = self._state.lanes[lane]
        while session.slots > 0 and self._is_open(lane):
            if not self._next(step, lane, window, session):
                break
        self._refill_if_low(lane, window)

    def _fill_fairly(self, step: Step, lanes: Sequence[Lane], session: Session) -> None:
        state = self._state
        flows: dict[Flow, list[Lane]] = {}
        for lane in lanes:
            flows.setdefault((lane.source_id, lane.job_type), []).append(lane)
            self._refill_if_low(lane, state.lanes[lane])
        rounds = self._rounds_of(session.tenant_id)
        first: dict[Flow, Lane] = {}
        heads: dict[Flow, Head] = {}
        for flow, members in flows.items():
            self._offer(flow, members, first, heads)
        rounds.begin(heads)
        while session.slots > 0 and (served := rounds.select()) is not None:
            lane = first[served]
            self._next(step, lane, state.lanes[lane], session)
            self._offer(served, flows[served], first, heads)
            head = heads.get(served)
            if head is not None:
                rounds.offer(served, *head)
            elif any(len(state.lanes[member]) for member in flows[served]):
                rounds.withhold(served)
            else:
                rounds.idle(served)

    def _offer(
        self,
        flow: Flow,
        members: Iterable[Lane],
        first: dict[Flow, Lane],
        heads: dict[Flow, Head],
    ) -> None:
        """Find the lane of a flow that is next, and what its head costs."""
        state = self._state
        best: tuple[Lane, Job] | None = None
        for lane in members:
            if self._is_open(lane):
                job = self._admissible(lane, state.lanes[lane])
                if job is not None and (best is None or state.key_of(job) < state.key_of(best[1])):
                    best = (lane, job)
        if best is None:
            heads.pop(flow, None)
            return
        first[flow] = best[0]
        heads[flow] = Head(best[1].definition.cost, self._tier(best[1]))

    def _tier(self, job: Job) -> int:
        if job.definition.priority > _BACKGROUND_PRIORITY:
            return NORMAL
        state = self._state
        aged_us = _BACKGROUND_AGES_AFTER * state.limits.ageing_us
        return NORMAL if state.now.at - job.due_at >= aged_us else BACKGROUND

    def _next(self, step: Step, lane: Lane, window: Window[Job], session: Session) -> bool:
        """Start the first job of a lane that may, or propose it; False when there is none now."""
        state = self._state
        job = self._admissible(lane, window)
        if job is None:
            return False
        key = state.key_of(job)
        window.pop()
        request = state.gates.rate_request(job, lane)
        if request is None:
            self._take(step, job, session)
        else:
            state.occupancy.hold(job)
            candidate = Candidate(job, lane, key, session, request)
            state.proposals.add(candidate)
            step.candidates.append(candidate)
        self._refill_if_low(lane, window)
        return True

    def _admissible(self, lane: Lane, window: Window[Job]) -> Job | None:
        """The head of a lane, once those that may not start are out of its way."""
        state = self._state
        while window.first() is not None:
            job = window.peek()
            if job.job_id in state.operating:
                state.set_aside[job.job_id] = window.pop()
                continue
            if _has_expired(job, state.now.at):
                window.pop()
                continue
            gate = state.gates.first_closed(job, lane, state.now.at)
            if gate is None:
                return job
            if gate.of_lane or state.waiting_room.full:
                state.waiting_room.close(lane, gate.subject, gate.opens_at)
                return None
            window.pop()
            state.park(lane, job, gate.subject, gate.opens_at)
        return None

    def _take(self, step: Step, job: Job, session: Session) -> None:
        state = self._state
        if job.definition.expires_at is not None:
            state.expiring.discard(job.job_id)
        if job.due_at > (job.scheduled_at or 0):
            state.delayed.discard(job.job_id)
        step.draft.open()
        self.grant(step.draft, step.pending, job, session)
        step.draft.close(
            job,
            State.SCHEDULED,
            worker_id=session.worker_id,
            task_runner_id=session.task_runner_id,
        )

    # ---- what a gate keeps

    def _deny(self, candidate: Candidate, denial: Denial) -> None:
        """Tokens are missing: the lane waits for them, or this job alone does."""
        state = self._state
        job, lane = candidate.job, candidate.lane
        subject = (job.tenant_id, "rate", denial.key)
        opens_at = denial.opens_at
        if opens_at is not None:
            opens_at = max(opens_at, state.now.at + state.limits.rate_pause_us)
        window = state.lanes.get(lane)
        if window is None or job.job_id in state.operating:
            return
        if state.gates.is_of_lane(lane, denial.key) or state.waiting_room.full:
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
            state.put_back(candidate.lane, job)

    def _may_still_take(self, candidate: Candidate) -> bool:
        state = self._state
        job, session = candidate.job, candidate.session
        return (
            state.sessions.get(session.session_id) is session
            and session.slots > 0
            and job.job_id not in state.operating
            and not _has_expired(job, state.now.at)
            and state.gates.first_closed(job, candidate.lane, state.now.at) is None
        )

    # ---- lanes

    def _is_open(self, lane: Lane) -> bool:
        state = self._state
        return state.waiting_room.subject_of(lane) is None and state.proposals.wants(lane)

    def _goes_first(self, lane: Lane, key: tuple[int, str] | None) -> bool:
        """Whether nothing of this lane that may start is older than a job with this key."""
        state = self._state
        if state.waiting_room.subject_of(lane) is not None:
            return False
        window = state.lanes.get(lane)
        if window is None:
            return True
        if len(window):
            return False
        return window.horizon is None if key is None else window.admits(key)

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

    def set_weights(self, tenant_id: str, weights: Iterable[tuple[str | Flow, int]]) -> None:
        """Replace the weights of a tenant's flows."""
        rounds = FairRounds()
        for of, weight in weights:
            rounds.set_weight(of, weight)
        self._rounds[tenant_id] = rounds

    def _rounds_of(self, tenant_id: str) -> FairRounds:
        rounds = self._rounds.get(tenant_id)
        if rounds is None:
            rounds = self._rounds[tenant_id] = FairRounds()
        return rounds

    def _refill_if_low(self, lane: Lane, window: Window[Job]) -> None:
        if window.wants_refill:
            self.refill(lane, window)

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
