"""Administration: what is changed of a tenant and of no job, recorded in its ledger like all else.

Whoever asks has decided what the change is (a key made or revoked, a token revoked, a redrive that
begins, pauses or ends); here it gets its place among the tenant's changes, its entry, and its
answer after the commit.

I1  Rows are additions under names that nobody else has, or changes that may be repeated, so that no
    state needs to be read first and no commit of them is stale.

Not here: secrets (the door keeps them), whether a bearer counts (``auth``).
"""

import msgspec

from jobengine.core.lease_shard.claimed_changes import ClaimedChanges
from jobengine.core.lease_shard.claims import store_claim
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.roster import Roster
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.domain.errors import Refusal
from jobengine.messages.lease_shard import AdministerAnswer, AdministerTenant, DrainWorker

__all__ = ["Administrator"]


class Administrator:
    def __init__(self, state: ShardState, submitter: Submitter, roster: Roster) -> None:
        self._state = state
        self._roster = roster
        self._changes = ClaimedChanges[AdministerTenant | DrainWorker](
            state, submitter, self._commit, _replay
        )
        self.administer = self._changes.begin
        self.loaded = self._changes.loaded
        self.read_failed = self._changes.read_failed

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
                self._changes.answer(message, worker)
                return
            stored = facts = msgspec.json.encode(worker)
        if message.claim is not None:
            store_claim(draft, pending, message.tenant_id, message.claim, facts)
        pending.answers.append((message.ask_id, AdministerAnswer(stored=stored)))
        state.commit(draft, pending)


def _replay(_: AdministerTenant | DrainWorker, stored: bytes | None) -> AdministerAnswer:
    return AdministerAnswer(stored=stored, replayed=True)


def _write(draft: Draft, message: AdministerTenant) -> None:
    draft.remark(message.kind, message.data)
    for kind, data in message.also:
        draft.remark(kind, data)
    draft.changes.api_keys.extend(message.api_keys)
    draft.changes.revocations.extend(message.revocations)
    draft.changes.redrives.extend(message.redrives)
    draft.changes.webhooks.extend(message.webhooks)
