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

Not here: what becomes of a proposal (``token_answers``), which lanes are ready (``ready_lanes``),
who is next (``fair_lanes``).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import attrs

from jobengine.core.fair_queue import Flow
from jobengine.core.lease_shard.alike_starts import AlikeStarts
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.fair_lanes import FairLanes
from jobengine.core.lease_shard.freed_places import FreedPlaces
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.proposals import Candidate
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.source_watch import note_start
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.core.window import Window
from jobengine.domain.job import Job, State
from jobengine.domain.records import Lane, NewJob
from jobengine.messages.rate_bucket import RateRequest

__all__ = ["Granter", "Step"]
# Bound once: an enum looks its members up by name each time.
_SCHEDULED: Final = State.SCHEDULED
_RUNNING: Final = State.RUNNING


@attrs.define
class Step:
    """One granting step of a tenant: its change, what is owed for it, and whom it proposes."""

    draft: Draft
    pending: Pending
    candidates: list[Candidate] = attrs.field(factory=list)


class Granter:
    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._ready = ReadyLanes(state)
        self._fair = FairLanes(state, self._ready)
        self._alike = AlikeStarts(state, self._ready)
        self.refill = self._ready.refill
        self._freed_places = FreedPlaces(state, self._fair.new_rounds)

    def set_weights(self, tenant_id: str, weights: Iterable[tuple[str | Flow, int]]) -> None:
        """Replace the weights of a tenant's flows."""
        self._fair.set_weights(tenant_id, weights)
        self._freed_places.forget(tenant_id)

    def on_arrival(self, job: Job, kind: Kind, tokens: Collection[str] = ()) -> Session | None:
        """The session that may take a job just being created, or None when it has to wait.

        ``tokens`` names the jobs whose tokens have been taken already.
        """
        state = self._state
        if job.job_id not in tokens and kind.needs_tokens(is_retry=job.failures > 0):
            return None
        if not self._ready.goes_first(kind.lane, state.key_of(job)):
            return None
        if state.gates.first_closed(job, kind, state.now.at) is not None:
            return None
        return state.sessions.taker(kind.lane)

    def tokens_on_arrival(self, tenant_id: str, jobs: Sequence[NewJob]) -> list[RateRequest]:
        """The tokens that jobs about to be created need, as far as they could start at once."""
        state = self._state
        if tenant_id not in state.gates.tenants:
            return []
        takers: dict[Kind, Iterator[Session]] = {}
        first: dict[Kind, Session | None] = {}
        slots: dict[Session, int] = {}
        requests = []
        for new in jobs:
            definition = new.definition
            if definition.hold or (definition.not_before or 0) > state.now.at:
                continue
            kind = state.kinds.of(tenant_id, definition)
            if kind not in takers:
                takers[kind] = self._takers_of(kind.lane)
                first[kind] = next(takers[kind], None)
            while (session := first[kind]) is not None and not slots.get(session, session.slots):
                first[kind] = next(takers[kind], None)
            if session is not None:
                slots[session] = slots.get(session, session.slots) - 1
                request = kind.rate_request(new.job_id, definition, is_retry=False)
                if request is not None:
                    requests.append(request)
        return requests

    def _takers_of(self, lane: Lane) -> Iterator[Session]:
        """Who takes at once what comes into a lane."""
        first = self._ready.goes_first(lane, None)
        return self._state.sessions.asking_for(lane) if first else iter(())

    def grant(self, draft: Draft, pending: Pending, job: Job, kind: Kind, session: Session) -> None:
        """The step into ``running``, inside an open draft of this job; the caller closes it."""
        state = self._state
        draft.start(job, session, draft.waited_us(job))
        lease = Lease.granted(job, session, state.lease_now_s())
        session.credit -= 1
        session.leases[job.job_id] = lease
        state.leases.add(lease)
        state.occupancy.hold(job, kind)
        state.waiting_room.took(job.job_id)
        if kind.source is not None:
            note_start(state, pending, lease, kind.source)
        pending.grants.append(lease)

    # ---- serving

    def serve_lane(self, lane: Lane) -> None:
        """Grant what a lane holds to whoever asks for it, in a commit of its own."""
        state = self._state
        window = state.lanes.get(lane)
        if window is None:
            return
        self._freed_places.let_out()
        step: Step | None = None
        if self._ready.is_open(lane) and (only := state.sessions.only_taker(lane)) is not None:
            step = self.begin(lane.tenant_id)
            self._alike.grant_first(step.draft, step.pending, window, only)
        while self._ready.is_open(lane) and (session := state.sessions.taker(lane)) is not None:
            if step is None:
                step = self.begin(lane.tenant_id)
            if not self._next(step, lane, window, session):
                self._ready.refill_if_low(lane, window)
                break
        if step is None:
            state.touch(lane.tenant_id)
        else:
            self.finish(step)
        state.close_lane_if_drained(lane)

    def serve_session(self, session: Session) -> None:
        """Fill a session's slots, in a commit of its own."""
        step = self.begin(session.tenant_id)
        self._fill(step, session)
        self.finish(step)

    def fill(self, draft: Draft, pending: Pending, session: Session) -> None:
        """Fill a session's slots within the commit of an open draft; then let it ask for more."""
        step = Step(draft, pending)
        self._fill(step, session)
        self._propose(step)

    def serve_opened(self) -> None:
        """Offer what gates have let out to whoever asks for it, in fair order, and slots that ended
        leases have left to what waits."""
        state = self._state
        while state.freed or state.opened or state.freed_places:
            self._serve_opened()

    def _serve_opened(self) -> None:
        state = self._state
        self._freed_places.let_out()
        while state.freed:
            _, freed = state.freed.popitem()
            if state.sessions.get(freed.session_id) is freed:
                self.serve_session(freed)
        while state.opened:
            lane, _ = state.opened.popitem()
            window = state.lanes.get(lane)
            while window is not None and self._ready.is_open(lane) and _has_more(window):
                session = state.sessions.taker(lane)
                if session is None:
                    break
                slots = session.slots
                self.serve_session(session)
                if session.slots == slots:
                    break
                window = state.lanes.get(lane)
            self._freed_places.hand_on(lane)

    def refund(self, tenant_id: str, requests: Sequence[RateRequest]) -> None:
        """Give tokens back, and let those go on who wait for them."""
        state = self._state
        state.commands.extend(state.proposals.refund(tenant_id, requests))
        for key in {key: None for request in requests for key in request.keys}:
            state.open_subject((tenant_id, "rate", key))

    # ---- one step

    def begin(self, tenant_id: str) -> Step:
        """A step that may grant jobs of this tenant."""
        self._state.touch(tenant_id)
        return Step(self._state.draft(tenant_id, ENGINE), Pending())

    def finish(self, step: Step) -> None:
        """Commit what it has granted, and propose what needs tokens."""
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
        self._freed_places.let_out()
        match list(islice(self._ready.of_session(session), 2)):
            case [lane]:
                self._fill_from(step, lane, session)
                state.close_lane_if_drained(lane)
            case [_, _]:

                def take(lane: Lane, job: Job, kind: Kind) -> bool:
                    self._start(step, lane, state.lanes[lane], job, kind, session)
                    return session.slots > 0

                self._fair.serve(session, take)
        if session.slots > 0:
            state.sessions.ask(session)

    def _fill_from(self, step: Step, lane: Lane, session: Session) -> None:
        window = self._state.lanes[lane]
        if self._ready.is_open(lane):
            self._alike.grant_first(step.draft, step.pending, window, session)
        while session.slots > 0 and self._ready.is_open(lane):
            if not self._next(step, lane, window, session):
                break
        self._ready.refill_if_low(lane, window)

    def _next(self, step: Step, lane: Lane, window: Window[Job], session: Session) -> bool:
        """Start the first job of a lane that may, or propose it; False when there is none now."""
        head = self._ready.head(lane, window)
        if head is None:
            return False
        self._start(step, lane, window, *head, session)
        return True

    def _start(
        self,
        step: Step,
        lane: Lane,
        window: Window[Job],
        job: Job,
        kind: Kind,
        session: Session,
    ) -> None:
        """Start the first job of a lane, or propose it."""
        state = self._state
        window.pop()
        self._freed_places.took(lane)
        request = kind.rate_request(job.job_id, job.definition, is_retry=job.failures > 0)
        if request is None:
            self.take(step, job, kind, session)
        else:
            state.occupancy.hold(job, kind)
            candidate = Candidate(job, kind, session, request)
            state.proposals.add(candidate)
            step.candidates.append(candidate)
        self._ready.refill_if_low(lane, window)

    def take(self, step: Step, job: Job, kind: Kind, session: Session) -> None:
        """Lease a waiting job."""
        state = self._state
        if job.definition.expires_at is not None:
            state.expiring.discard(job.job_id)
        if job.was_delayed:
            state.delayed.discard(job.job_id)
        step.draft.open()
        self.grant(step.draft, step.pending, job, kind, session)
        step.draft.close(job, _SCHEDULED, by=session)


def _has_more(window: Window[Job]) -> bool:
    """Whether a lane holds jobs, or may find some in the store."""
    return window.first() is not None or window.wants_refill
