"""Registered documents: DAG templates and packs, by name and version.

I1  A version, once registered, never changes; versions of a name only grow.
I2  One change of a document's name is under way at a time, so each sees all before it.

Not here: what a document says (the doors), who uses it.
"""

from typing import Any, Final

import msgspec

from jobengine.core.lease_shard.claims import Claims, settle_claim, store_claim
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import RegistryRow
from jobengine.domain.entry import NO_DATA
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.runs import (
    DisableDocument,
    DocumentFacts,
    RegisterDocument,
    RegistryAnswer,
)
from jobengine.messages.shard_commands import (
    ClaimsWanted,
    DocumentWanted,
    LoadSubjects,
    SubjectsLoaded,
)

__all__ = ["Registrar"]

_Change = RegisterDocument | DisableDocument
_encode: Final = msgspec.json.Encoder(order="sorted").encode


class Registrar:
    def __init__(self, state: ShardState, claims: Claims) -> None:
        self._state = state
        self._claims = claims
        self._reading: dict[int, _Change] = {}

    def change(self, message: _Change) -> None:
        """Begin: the versions that there are have to be read."""
        tenant_id, claim = message.tenant_id, message.claim
        keys = [_name_key(message)]
        if self._claims.crowded(message.ask_id, tenant_id, keys):
            return
        if self._claims.waits(tenant_id, keys, message):
            return
        if not self._claims.take(message.ask_id, tenant_id, claim):
            return
        self._claims.hold_keys(tenant_id, keys)
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = message
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=tenant_id,
                claims=ClaimsWanted(
                    idempotency=() if claim is None else ((claim.key, claim.path),)
                ),
                document=DocumentWanted(message.kind, message.name, message.version),
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Decide; returns what may be handled again now, or None when the stamp is not ours."""
        change = self._reading.pop(message.stamp, None)
        if change is None:
            return None
        if change.claim is not None:
            settled = settle_claim(change.claim, message)
            if isinstance(settled, Refusal):
                return self._answer(change, settled)
            if settled is not None:
                answer = RegistryAnswer(row=None, stored=settled.stored, replayed=True)
                return self._answer(change, answer)
        if isinstance(change, RegisterDocument):
            return self._register(change, message)
        return self._disable(change, message.version)

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        change = self._reading.pop(stamp, None)
        if change is None:
            return None
        return self._answer(change, refusal)

    def _register(self, change: RegisterDocument, read: SubjectsLoaded) -> list[Any]:
        newest = 0 if read.newest is None else read.newest.version
        version = change.version or newest + 1
        known = read.version
        if known is not None:
            if known.digest == change.digest:
                return self._settle(change, known, None)
            return self._answer(
                change,
                Refusal(
                    ErrorCode.ALREADY_EXISTS,
                    f"version: {change.name} has another document as version {version}; "
                    f"register this one as version {newest + 1}",
                    {"path": "version", "version": version, "newest": newest},
                ),
            )
        if version <= newest:
            return self._answer(
                change,
                Refusal(
                    ErrorCode.INVALID_FIELD,
                    f"version: {change.name} is at version {newest} already, and versions only "
                    f"grow; register this one as version {newest + 1}",
                    {"path": "version", "version": version, "newest": newest},
                ),
            )
        row = RegistryRow(
            tenant_id=change.tenant_id,
            kind=change.kind,
            name=change.name,
            version=version,
            digest=change.digest,
            body=msgspec.Raw(change.body),
            created_at=self._state.now.at,
            created_by=change.actor.subject,
        )
        return self._settle(change, row, row)

    def _disable(self, change: DisableDocument, known: RegistryRow | None) -> list[Any]:
        if known is None:
            return self._answer(
                change,
                Refusal(
                    ErrorCode.NOT_FOUND,
                    f"no version {change.version} of {change.kind} {change.name} here",
                    {"kind": change.kind, "name": change.name, "version": change.version},
                ),
            )
        if (not known.disabled_at) == change.enable:
            return self._settle(change, known, None)
        disabled_at = 0 if change.enable else self._state.now.at
        after = msgspec.structs.replace(known, disabled_at=disabled_at or None)
        written = msgspec.structs.replace(
            known,
            digest=None,
            body=NO_DATA,
            created_at=None,
            created_by=None,
            disabled_at=disabled_at,
        )
        return self._settle(change, after, written)

    def _settle(self, change: _Change, row: RegistryRow, written: RegistryRow | None) -> list[Any]:
        """Answer with ``row``, after the commit where there is something to be ``written``."""
        answer = RegistryAnswer(row=row, existing=written is None)
        if written is None and change.claim is None:
            return self._answer(change, answer)
        draft, pending = self._state.draft(change.tenant_id, change.actor), Pending()
        if written is not None:
            data = {"digest": row.digest, "name": row.name, "version": row.version}
            draft.remark(f"{change.kind}.{_verb_of(change)}", canonical_of(data))
            draft.changes.registry.append(written)
        if change.claim is not None:
            facts = _encode(_facts_of(row, existing=written is None))
            store_claim(draft, pending, change.tenant_id, change.claim, facts)
            answer = msgspec.structs.replace(answer, stored=facts)
        pending.unique_keys = [(change.tenant_id, _name_key(change))]
        pending.answers.append((change.ask_id, answer))
        self._state.commit(draft, pending)
        return []

    def _answer(self, change: _Change, value: Any) -> list[Any]:
        """Answer without a commit; returns what had waited for the document's name."""
        self._state.commands.append(Answer(change.ask_id, value))
        tenant_id = change.tenant_id
        if change.claim is not None:
            self._claims.release([(tenant_id, change.claim.key, change.claim.path)])
        return self._claims.release_keys([(tenant_id, _name_key(change))])


def _name_key(change: _Change) -> str:
    """What stands for a document among the unique keys; theirs hold no U+0000."""
    return f"\0document:{change.kind}:{change.name}"


def _verb_of(change: _Change) -> str:
    if isinstance(change, RegisterDocument):
        return "registered"
    return "enabled" if change.enable else "disabled"


def _facts_of(row: RegistryRow, *, existing: bool) -> DocumentFacts:
    return DocumentFacts(
        created_at=row.created_at or 0,
        created_by=row.created_by or "",
        digest=row.digest or "",
        disabled_at=row.disabled_at,
        existing=existing,
        kind=row.kind,
        name=row.name,
        version=row.version,
    )
