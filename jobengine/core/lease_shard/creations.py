"""Creations: the jobs of a submit, made in one draft.

I1  The jobs of a request are created in one commit, or none of them is.
I2  A request with which more jobs of its tenant would wait than may, or in more lanes, is refused
    whole, as if all of its new jobs had to wait. Repeats, jobs that exist and follow-ups of a
    report always pass.

Not here: what a request claims (``claims``), how many jobs are made in one go (``slices``).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from jobengine.core.lease_shard.alike_starts import AlikeStarts
from jobengine.core.lease_shard.claims import Claims, store_claim
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.lane_limit import refuse_lanes
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.slices import Slices, Steps
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job
from jobengine.domain.records import NewJob
from jobengine.messages.answers import facts_of_submit
from jobengine.messages.lease_shard import JobOutcome, SubmitAnswer, SubmitJobs
from jobengine.messages.rate_bucket import BucketState, RateRequest

__all__ = ["Creations", "unique_keys"]

_ALIKE_OF_STRIDE: Final = 8
"""So many jobs that are decided together take as long as one by itself."""

Create: TypeAlias = Callable[[Draft, Pending, NewJob, Kind, Collection[str]], Job]


@attrs.define(eq=False)
class _Creation:
    """A request whose jobs are being made. ``taken``: who holds each unique key; ``tokens``: taken
    for jobs that may start at once, and ``buckets`` where that left theirs."""

    request: SubmitJobs
    draft: Draft
    taken: dict[str, Job]
    tokens: Mapping[str, RateRequest]
    buckets: Mapping[str, BucketState]
    pending: Pending = attrs.field(factory=Pending)
    outcomes: list[JobOutcome] = attrs.field(factory=list)
    jobs: list[Job | None] = attrs.field(factory=list)


class Creations:
    """``create`` makes one job in an open draft."""

    def __init__(
        self,
        state: ShardState,
        slices: Slices,
        granter: Granter,
        claims: Claims,
        create: Create,
    ) -> None:
        self._state = state
        self._slices = slices
        self._granter = granter
        self._claims = claims
        self._create = create
        self._alike = AlikeStarts(state, ReadyLanes(state))

    def begin(
        self,
        request: SubmitJobs,
        holders: Mapping[str, Job],
        tokens: Mapping[str, RateRequest] | None = None,
        buckets: Mapping[str, BucketState] | None = None,
    ) -> list[Any]:
        """Make a request's jobs, or the first of them; what may be handled again now."""
        state, tenant_id = self._state, request.tenant_id
        tokens = tokens or {}
        full = self._backlog_full(request, holders) or refuse_lanes(
            state, tenant_id, request.jobs, holders
        )
        if full is not None:
            self._granter.refund(tenant_id, list(tokens.values()))
            return self.answer(request, full)
        draft = state.draft(tenant_id, request.actor)
        creation = _Creation(request, draft, dict(holders), tokens, buckets or {})
        return self._slices.begin(tenant_id, draft.at, self._make(creation))

    def answer(self, request: SubmitJobs, value: Any) -> list[Any]:
        """Answer without a commit and let go of the keys; returns what had waited for them."""
        tenant_id = request.tenant_id
        self._state.commands.append(Answer(request.ask_id, value))
        if request.claim is not None:
            self._claims.release([(tenant_id, request.claim.key, request.claim.path)])
        return self._claims.release_keys([(tenant_id, key) for key in unique_keys(request.jobs)])

    def _make(self, creation: _Creation) -> Steps:
        """Make the jobs of a request, in their order."""
        request = creation.request
        tenant_id, jobs = request.tenant_id, request.jobs
        stride = self._state.limits.stride(len(jobs))
        number = decided = 0
        while number < len(jobs):
            if decided >= stride:
                decided = 0
                yield
            alike = self._alike.count(tenant_id, jobs, number, _ALIKE_OF_STRIDE * stride)
            if alike:
                self._make_alike(creation, jobs[number : number + alike])
            else:
                self._make_one(creation, jobs[number])
            number += max(1, alike)
            decided += max(1, alike // _ALIKE_OF_STRIDE)
        return lambda: self._finish(creation)

    def _make_alike(self, creation: _Creation, new: Sequence[NewJob]) -> None:
        creation.jobs += self._alike.create(
            creation.draft, creation.pending, creation.request.tenant_id, new
        )
        creation.outcomes += [JobOutcome(outcome="created", job_id=each.job_id) for each in new]

    def _make_one(self, creation: _Creation, new: NewJob) -> None:
        taken, outcomes = creation.taken, creation.outcomes
        kind = self._state.kinds.of(creation.request.tenant_id, new.definition)
        key = new.definition.unique_key
        job = taken.get(key) if key is not None else None
        if job is not None:
            outcomes.append(JobOutcome(outcome="existing", job_id=job.job_id))
        elif (refusal := self._refuse_cost(kind, new)) is not None:
            outcomes.append(JobOutcome(outcome="rejected", refusal=refusal))
        else:
            job = self._create(creation.draft, creation.pending, new, kind, creation.tokens)
            outcomes.append(JobOutcome(outcome="created", job_id=job.job_id))
            if key is not None:
                taken[key] = job
        creation.jobs.append(job)

    def _finish(self, creation: _Creation) -> list[Any]:
        """Send the draft of a request whose jobs are made on its way."""
        state, request = self._state, creation.request
        draft, pending, tenant_id = creation.draft, creation.pending, request.tenant_id
        if creation.tokens:
            self._settle_tokens(creation)
        pending.unique_keys = [(tenant_id, key) for key in unique_keys(request.jobs)]
        outcomes, jobs = creation.outcomes, creation.jobs
        stored = None
        if request.claim is not None:
            stored = facts_of_submit(outcomes, jobs)
            store_claim(draft, pending, tenant_id, request.claim, stored)
        backlog = state.backlogs.of(tenant_id) + draft.waiting
        answer = SubmitAnswer(outcomes=outcomes, jobs=jobs, stored=stored, backlog=backlog)
        if draft.empty:
            return self.answer(request, answer)
        pending.answers.append((request.ask_id, answer))
        state.commit(draft, pending)
        return []

    def _settle_tokens(self, creation: _Creation) -> None:
        """Store where the buckets stand, and give back what no job has used."""
        started = {lease.job.job_id for lease in creation.pending.grants}
        if started:
            self._state.keep_buckets(creation.draft, creation.buckets)
        unused = [request for job_id, request in creation.tokens.items() if job_id not in started]
        self._granter.refund(creation.request.tenant_id, unused)

    def _refuse_cost(self, kind: Kind, new: NewJob) -> Refusal | None:
        rules = kind.rules
        if rules is None or new.definition.cost <= rules.cost_max:
            return None
        return self._state.gates.refuse_cost(new.definition, kind.lane)

    def _backlog_full(self, request: SubmitJobs, holders: Mapping[str, Job]) -> Refusal | None:
        """Why the new jobs of a request may not wait (I2), or None."""
        backlog = self._state.backlogs.of(request.tenant_id)
        jobs_max = self._state.limits.tenant_backlog_jobs_max
        if backlog + len(request.jobs) <= jobs_max:
            return None
        keys = [key for key in unique_keys(request.jobs) if key not in holders]
        keyless = sum(new.definition.unique_key is None for new in request.jobs)
        new_jobs = keyless + len(keys)
        return self._state.backlogs.refuse(request.tenant_id, new_jobs, jobs_max)


def unique_keys(jobs: Sequence[NewJob]) -> list[str]:
    """The unique keys that jobs name, each once, in order."""
    keys = [key for new in jobs if (key := new.definition.unique_key) is not None]
    return list(dict.fromkeys(keys)) if len(keys) > 1 else keys
