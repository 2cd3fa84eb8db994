"""Explain: every reason why a job does not start now, from the functions that would start it.

I1  The gates of a job are those that ``gates`` and the rate bucket close for it at this instant,
    with what comes before them (held, not due) and after them (nobody to take it, others first).
    So the list is empty if and only if the next granting step takes the job.
I2  Explaining changes nothing: it looks at windows, and only peeks at buckets.

Not here: how many jobs ahead are only in the store (the gateway asks for that).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import chain
from typing import Any

import attrs
import msgspec

from jobengine.core.lease_shard.closed_gate import ClosedGate
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.pending_gates import gate_of_pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.core.window import Key
from jobengine.domain.errors import Refusal
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import Job, State
from jobengine.domain.records import Lane
from jobengine.messages.admission import Explain, ExplainAnswer, Explanation, GateClosed
from jobengine.messages.rate_bucket import Denial, Peek, Peeked, RateRequest
from jobengine.messages.shard_commands import LoadSubjects, SubjectsLoaded

__all__ = ["Explainer"]


@attrs.frozen
class _Open:
    """An explanation that waits for its bucket; ``asked`` are the jobs that need tokens."""

    message: Explain
    jobs: Sequence[Job]
    asked: Sequence[str]


@attrs.frozen
class _LaneFacts:
    """The places of a lane's jobs in memory, in order; how many sessions take work of it, and
    whether any has a free slot."""

    keys: Sequence[Key]
    takers: int
    has_slot: bool

    def ahead(self, key: Key) -> int:
        """Jobs in memory that go first; parked ones wait for something of their own."""
        return bisect_left(self.keys, key)


class _Lanes:
    """What explanations of one tenant's jobs say of lanes, each looked at once."""

    def __init__(self, state: ShardState, tenant_id: str) -> None:
        self._state = state
        self._known: dict[Lane, _LaneFacts] = {}
        self._takers: dict[Any, list[Session]] = {}
        for session in state.sessions.of_tenant(tenant_id):
            self._takers.setdefault((session.queues, session.job_types), []).append(session)

    def facts(self, lane: Lane) -> _LaneFacts:
        found = self._known.get(lane)
        if found is None:
            window = self._state.lanes.get(lane)
            found = self._known[lane] = _LaneFacts(
                keys=() if window is None else sorted(window.all_keys()),
                takers=sum(len(alike) for alike in self._takers.values() if alike[0].takes(lane)),
                has_slot=self._state.sessions.has_slot(lane),
            )
        return found


class Explainer:
    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._reading: dict[int, Explain] = {}
        self._peeking: dict[int, _Open] = {}

    def explain(self, message: Explain) -> None:
        """Begin with the jobs as the store holds them."""
        state = self._state
        if message.queue is not None:
            message = msgspec.structs.replace(message, job_ids=self._first_of(message))
        stamp = state.stamp()
        self._reading[stamp] = message
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=message.tenant_id,
                job_ids=message.job_ids,
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Go on; None when the stamp is not ours."""
        asked = self._reading.pop(message.stamp, None)
        if asked is None:
            return None
        jobs = [message.jobs[job_id] for job_id in asked.job_ids if job_id in message.jobs]
        requests = [request for job in jobs if (request := self._request(job)) is not None]
        open_ = _Open(asked, jobs, [request.job_id for request in requests])
        if not requests:
            self._answer(open_, {})
            return []
        state = self._state
        stamp = state.stamp()
        self._peeking[stamp] = open_
        peek = Peek(tenant_id=asked.tenant_id, stamp=stamp, requests=requests)
        state.commands.extend(state.proposals.ask(peek))
        return []

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        asked = self._reading.pop(stamp, None)
        if asked is None:
            return None
        self._state.commands.append(Answer(asked.ask_id, refusal))
        return []

    def peeked(self, message: Peeked) -> None:
        self._state.proposals.answered(message.stamp)
        open_ = self._peeking.pop(message.stamp, None)
        if open_ is not None:
            self._answer(open_, dict(zip(open_.asked, message.denials, strict=True)))

    def _first_of(self, message: Explain) -> list[str]:
        """The jobs in memory that wait in a queue, in the order of their places."""
        state, tenant_id, queue = self._state, message.tenant_id, message.queue
        assert queue is not None
        lanes = state.lanes_by_topic.get((tenant_id, "queue", queue), ())
        parked = state.waiting_room.parked_keys(tenant_id, queue)
        keys = chain(parked, *(state.lanes[lane].all_keys() for lane in lanes))
        return [job_id for _, job_id in nsmallest(message.jobs_max, keys)]

    def _request(self, job: Job) -> RateRequest | None:
        if job.state is not State.SCHEDULED or self._starts(job):
            return None
        kind = self._state.kind_of(job)
        return kind.rate_request(job.job_id, job.definition, is_retry=job.failures > 0)

    def _starts(self, job: Job) -> bool:
        state = self._state
        return state.proposals.holds(job.job_id) or state.leases.of_job(job.job_id) is not None

    def _answer(self, open_: _Open, denials: dict[str, Sequence[Denial]]) -> None:
        lanes = _Lanes(self._state, open_.message.tenant_id)
        answer = ExplainAnswer(
            jobs=[self._explain(job, denials.get(job.job_id, ()), lanes) for job in open_.jobs]
        )
        self._state.commands.append(Answer(open_.message.ask_id, answer))

    def _explain(self, job: Job, denials: Sequence[Denial], lanes: _Lanes) -> Explanation:
        if self._starts(job):
            return Explanation(job_id=job.job_id, state=State.RUNNING, gates=())
        if job.state is State.PENDING:
            return Explanation(job_id=job.job_id, state=job.state, gates=(gate_of_pending(job),))
        if job.state is not State.SCHEDULED:
            return Explanation(job_id=job.job_id, state=job.state, gates=())
        state = self._state
        kind = state.kind_of(job)
        lane = kind.lane
        gates = [*self._not_due(job), *self._closed(job, kind), *map(_of_denial, denials)]
        if not gates:
            gates.extend(self._paced(job, lane))
        facts = lanes.facts(lane)
        ahead = facts.ahead(state.key_of(job))
        gates.extend(_workers(lane, facts, ahead))
        instants = [gate.opens_at for gate in gates]
        known = [at for at in instants if at is not None]
        return Explanation(
            job_id=job.job_id,
            state=job.state,
            gates=gates,
            place=(lane, state.key_of(job)[0]),
            position=ahead + 1,
            estimated_start_at=max(known) if known and len(known) == len(instants) else None,
        )

    def _not_due(self, job: Job) -> Iterator[GateClosed]:
        if job.due_at > self._state.now.at:
            why = "a retry waits for its backoff" if job.failures else "notBefore has not come"
            yield GateClosed(
                gate="not_before",
                key=job.job_id,
                observed=to_rfc3339(self._state.now.at),
                limit=to_rfc3339(job.due_at),
                message=why,
                opens_at=job.due_at,
            )

    def _closed(self, job: Job, kind: Kind) -> Iterator[GateClosed]:
        return map(_of_gate, self._state.gates.closed(job, kind, self._state.now.at))

    def _paced(self, job: Job, lane: Lane) -> Iterator[GateClosed]:
        """A lane waits with its first job, and one that was just denied tokens for a moment."""
        room = self._state.waiting_room
        closing = room.closing_of(lane) or room.parking_of(job.job_id)
        if closing is None:
            return
        (_, kind, key), opens_at = closing
        if kind == "rate":
            yield GateClosed(
                gate="rate",
                key=key,
                observed="denied just now",
                limit="looked at again shortly",
                message="tokens were missing a moment ago; the lane is looked at again shortly",
                opens_at=opens_at,
                opens_on=None if opens_at is not None else "a change of the limit",
            )
        else:
            yield GateClosed(
                gate="behind",
                key=lane.queue,
                observed=f"{kind} {key}".strip(),
                limit="open",
                message=f"the first job of its lane waits for {kind} {key}".strip(),
                opens_at=opens_at,
                opens_on=None if opens_at is not None else "the first job's start",
            )


def _workers(lane: Lane, facts: _LaneFacts, ahead: int) -> Iterator[GateClosed]:
    if not facts.takers:
        yield GateClosed(
            gate="no_worker",
            key=lane.queue,
            observed="0",
            limit="1",
            message=(
                f"no worker takes jobs of type {lane.job_type} from queue {lane.queue}; start one"
            ),
            opens_on="a worker that takes it",
        )
        return
    if facts.has_slot:
        return
    yield GateClosed(
        gate="no_slot",
        key=lane.queue,
        observed="0",
        limit="1",
        message=f"{facts.takers} workers take such jobs and none has a free slot",
        opens_on="a free slot",
    )
    if ahead:
        yield GateClosed(
            gate="behind",
            key=lane.queue,
            observed=str(ahead),
            limit="0",
            message=f"{ahead} jobs of its lane go first",
            opens_on="their start",
        )


def _of_gate(gate: ClosedGate) -> GateClosed:
    return GateClosed(
        gate=gate.gate,
        key=gate.key,
        observed=gate.observed,
        limit=gate.limit,
        message=gate.message,
        opens_at=gate.opens_at,
        opens_on=gate.opens_on,
    )


def _of_denial(denial: Denial) -> GateClosed:
    return GateClosed(
        gate=denial.gate,
        key=denial.key,
        observed=denial.observed,
        limit=denial.limit,
        message=denial.message,
        opens_at=denial.opens_at,
        opens_on=None if denial.opens_at is not None else "a change of the limit or the job",
    )
