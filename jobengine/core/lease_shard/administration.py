"""Administration: what is changed of a tenant and of no job, recorded in its ledger like all else.

Whoever asks has decided what the change is (a key made or revoked, a token revoked, a redrive that
begins, pauses or ends); here it gets its
place among the tenant's changes, its entry, and its answer after the commit.

I1  Rows are additions under names that nobody else has, or changes that may be repeated, so that no
    state needs to be read first and no commit of them is stale.

Not here: secrets (the door keeps them), whether a bearer counts (``auth``).
"""

from typing import Any

import msgspec

from jobengine.core.lease_shard.claims import settle_claim, store_claim
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.roster import Roster
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.lease_shard import AdministerAnswer, AdministerTenant, DrainWorker
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded

__all__ = ["Administrator"]


class Administrator:
    def __init__(self, state: ShardState, submitter: Submitter, roster: Roster) -> None:
        self._state = state
        self._submitter = submitter
        self._roster = roster
        self._reading: dict[int, AdministerTenant | DrainWorker] = {}

    def administer(self, message: AdministerTenant | DrainWorker) -> None:
        """Begin a change: at once, or when it is known that its claim is new."""
        claim = message.claim
        if claim is None:
            self._commit(message)
            return
        if not self._submitter.claims.take(message.ask_id, message.tenant_id, claim):
            return
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = message
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=message.tenant_id,
                claims=ClaimsWanted(idempotency=((claim.key, claim.path),)),
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Go on; None when the stamp is not ours."""
        request = self._reading.pop(message.stamp, None)
        if request is None:
            return None
        assert request.claim is not None
        settled = settle_claim(request.claim, message)
        if settled is None:
            self._commit(request)
        elif isinstance(settled, Refusal):
            self._answer(request, settled)
        else:
            self._answer(request, AdministerAnswer(stored=settled.stored, replayed=True))
        return []

    def read_failed(self, stamp: int) -> list[Any] | None:
        request = self._reading.pop(stamp, None)
        if request is None:
            return None
        refusal = Refusal(ErrorCode.STORE_UNAVAILABLE, "the database does not answer; retry later")
        self._answer(request, refusal)
        return []

    def _commit(self, message: AdministerTenant | DrainWorker) -> None:
        state = self._state
        draft, pending = state.draft(message.tenant_id, message.actor), Pending()
        stored = None
        if isinstance(message, AdministerTenant):
            facts = message.facts
            _write(draft, message)
        else:
            worker = self._roster.drain(draft, pending, message)
            if isinstance(worker, Refusal):
                self._answer(message, worker)
                return
            stored = facts = msgspec.json.encode(worker)
        if message.claim is not None:
            store_claim(draft, pending, message.tenant_id, message.claim, facts)
        pending.answers.append((message.ask_id, AdministerAnswer(stored=stored)))
        state.commit(draft, pending)

    def _answer(
        self, message: AdministerTenant | DrainWorker, value: Refusal | AdministerAnswer
    ) -> None:
        """Answer without a commit."""
        self._state.commands.append(Answer(message.ask_id, value))
        claim = message.claim
        if claim is not None:
            self._submitter.claims.release([(message.tenant_id, claim.key, claim.path)])


def _write(draft: Draft, message: AdministerTenant) -> None:
    draft.remark(message.kind, message.data)
    draft.changes.api_keys.extend(message.api_keys)
    draft.changes.revocations.extend(message.revocations)
    draft.changes.redrives.extend(message.redrives)
