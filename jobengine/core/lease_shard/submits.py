"""Submits: new jobs of one tenant, created together.

I1  Of all requests with one unique key, exactly one creates the job; the others are given it.
I2  A request with an idempotency key takes effect once; its answer is stored in that commit.

A request that claims nothing is decided at once. One that does is decided when the store has said
what is taken already, together with what is still in flight here.

Not here: the keys themselves, and who waits for one (``claims``); making them all
(``creations``).
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from jobengine.core.lease_shard.claims import Claims, settle_claim
from jobengine.core.lease_shard.creations import Creations, unique_keys
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.slices import Slices
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.change import UniqueRow
from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job, State
from jobengine.domain.records import NewJob
from jobengine.messages.lease_shard import SubmitAnswer, SubmitJobs
from jobengine.messages.rate_bucket import RateRequest, Reserve, Reserved
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded

__all__ = ["Submitter"]
# Bound once: an enum looks its members up by name each time.
_SCHEDULED: Final = State.SCHEDULED


class Submitter:
    def __init__(self, state: ShardState, granter: Granter, slices: Slices) -> None:
        self._state = state
        self._granter = granter
        self.claims = Claims(state)
        self.creations = Creations(state, slices, granter, self.claims, self._create)
        self._reading: dict[int, SubmitJobs] = {}
        self._reserving: dict[int, tuple[SubmitJobs, dict[str, Job], list[RateRequest]]] = {}

    def submit(self, message: SubmitJobs) -> None:
        keys = unique_keys(message.jobs)
        if message.claim is None and not keys:
            self._create_or_reserve(message, {})
            return
        if self.claims.crowded(message.ask_id, message.tenant_id, keys):
            return
        if self.claims.waits(message.tenant_id, keys, message):
            return
        if not self.claims.take(message.ask_id, message.tenant_id, message.claim):
            return
        self.claims.hold_keys(message.tenant_id, keys)
        self._read(message, keys)

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Decide a request whose claims were read.

        Returns what may be handled again now, or None when the stamp is none of ours.
        """
        request = self._reading.pop(message.stamp, None)
        if request is None:
            return None
        claim = request.claim
        if claim is not None:
            settled = settle_claim(claim, message)
            if isinstance(settled, SubmitAnswer):
                backlog = self._state.backlogs.of(request.tenant_id)
                settled = msgspec.structs.replace(settled, backlog=backlog)
            if settled is not None:
                return self.creations.answer(request, settled)
        return self._create_or_reserve(request, message.holders)

    def reserved(self, message: Reserved, *, outdated: bool) -> list[Any] | None:
        """Create what waited for tokens; returns what may be handled again, None if not ours.

        ``outdated`` tokens are of limits that have changed: nothing starts with them.
        """
        waiting = self._reserving.pop(message.stamp, None)
        if waiting is None:
            return None
        request, holders, requests = waiting
        tokens = {
            each.job_id: each
            for each, denial in zip(requests, message.denials, strict=True)
            if denial is None
        }
        if outdated:
            self._granter.refund(request.tenant_id, list(tokens.values()))
            return self.creations.begin(request, holders)
        return self.creations.begin(request, holders, tokens, message.states)

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        request = self._reading.pop(stamp, None)
        if request is None:
            return None
        return self.creations.answer(request, refusal)

    def create(self, draft: Draft, pending: Pending, new: NewJob, tenant_id: str) -> Job:
        """Create one job in an open draft: held, waiting, or leased at once if it needs no tokens
        to start."""
        kind = self._state.kinds.of(tenant_id, new.definition)
        return self._create(draft, pending, new, kind)

    def _create(
        self,
        draft: Draft,
        pending: Pending,
        new: NewJob,
        kind: Kind,
        tokens: Collection[str] = (),
    ) -> Job:
        """Create one job of this kind in an open draft: held, waiting, or leased at once.

        ``tokens`` names the jobs whose tokens have been taken.
        """
        definition, tenant_id = new.definition, kind.lane.tenant_id
        at = draft.at
        job = Job(
            job_id=new.job_id,
            tenant_id=tenant_id,
            definition=definition,
            definition_json=new.definition_json,
            payload=new.payload,
            created_at=at,
            due_at=max(at, definition.not_before or 0),
        )
        draft.create(job)
        session = None
        if not definition.hold:
            job.scheduled_at = at
            draft.step(job, _SCHEDULED)
            if job.due_at <= at and (definition.expires_at or at + 1) > at:
                session = self._granter.on_arrival(job, kind, tokens)
        if session is not None:
            self._granter.grant(draft, pending, job, kind, session)
            draft.close(job, None, by=session)
        else:
            draft.close(job, None)
            pending.placed.append(job)
        if definition.unique_key is not None:
            window_us = definition.unique_window_us
            draft.changes.unique.append(
                UniqueRow(
                    tenant_id=tenant_id,
                    key=definition.unique_key,
                    job_id=job.job_id,
                    until_at=at + window_us if definition.unique_scope == "window" else None,
                )
            )
        return job

    def create_follow_ups(
        self,
        draft: Draft,
        pending: Pending,
        follow_ups: Sequence[NewJob],
        tenant_id: str,
        holders: dict[str, Job],
    ) -> None:
        """Create a report's follow-ups, but for those whose unique key is taken."""
        taken = dict(holders)
        for new in follow_ups:
            key = new.definition.unique_key
            if key is not None and key in taken:
                continue
            job = self.create(draft, pending, new, tenant_id)
            if key is not None:
                taken[key] = job

    def _read(self, request: SubmitJobs, keys: Sequence[str]) -> None:
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = request
        claim = request.claim
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=request.tenant_id,
                claims=ClaimsWanted(keys, () if claim is None else ((claim.key, claim.path),)),
                now_at=state.now.at,
            )
        )

    def _create_or_reserve(self, request: SubmitJobs, holders: dict[str, Job]) -> list[Any]:
        """Create at once, unless jobs could start at once that need tokens to."""
        requests = self._granter.tokens_on_arrival(request.tenant_id, request.jobs)
        if not requests:
            return self.creations.begin(request, holders)
        state = self._state
        stamp = state.stamp()
        self._reserving[stamp] = (request, holders, requests)
        reserve = Reserve(tenant_id=request.tenant_id, stamp=stamp, requests=requests)
        state.commands.extend(state.proposals.ask(reserve))
        return []
