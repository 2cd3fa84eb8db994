"""Registered documents at the door: what DAG templates and packs have in common.

I1  A version that is registered never changes, and is never taken away.

Not here: what a document says (``routes/dags``, ``routes/packs``), which version comes next (the
shard).
"""

from typing import Any, Final, TypeVar

import attrs
import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.change import RegistryRow
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import to_rfc3339
from jobengine.http import pages
from jobengine.http.route import Call
from jobengine.http.times import instant
from jobengine.messages.runs import (
    DisableDocument,
    DocumentFacts,
    RegisterDocument,
    RegistryAnswer,
)

__all__ = ["Documents", "Registered", "facts_of"]

_VERSION_DIGITS: Final = 9
_facts: Final = msgspec.json.Decoder(DocumentFacts)

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Registered:
    """``row`` with its body; ``existing``: it was registered before."""

    row: RegistryRow
    existing: bool
    replayed: bool


@attrs.frozen(kw_only=True)
class Documents:
    """Documents of one kind. ``noun`` is what a person calls one, ``parameter`` the name of its id
    in paths and requests."""

    kind: str
    noun: str
    parameter: str

    async def register(
        self, call: Call[Any, Any], name: str, version: int | None, body: bytes
    ) -> Registered:
        answer = await call.front.gateway.runs.document(
            call.tenant_id,
            lambda ask_id: RegisterDocument(
                ask_id=ask_id,
                tenant_id=call.tenant_id,
                actor=call.actor,
                kind=self.kind,
                name=name,
                version=version,
                digest=digest(body),
                body=body,
                claim=call.claim,
            ),
        )
        return Registered(
            row=await self._row_of(call, answer),
            existing=answer.existing,
            replayed=answer.replayed,
        )

    async def turn(self, call: Call[Any, Any], *, enable: bool) -> Registered:
        """Enable or disable the version that the path names."""
        row = await self.require(call)
        answer = await call.front.gateway.runs.document(
            call.tenant_id,
            lambda ask_id: DisableDocument(
                ask_id=ask_id,
                tenant_id=call.tenant_id,
                actor=call.actor,
                kind=self.kind,
                name=row.name,
                version=row.version,
                enable=enable,
                claim=call.claim,
            ),
        )
        return Registered(
            row=await self.require(call), existing=answer.existing, replayed=answer.replayed
        )

    async def require(self, call: Call[Any, Any]) -> RegistryRow:
        """The version that the path names, or a refusal."""
        name, version = call.path[self.parameter], call.path["version"]
        row = None
        if version.isascii() and version.isdecimal() and len(version) <= _VERSION_DIGITS:
            row = await call.front.gateway.store.registered(
                call.tenant_id, self.kind, name[:256], int(version)
            )
        if row is None:
            why = f"there is no such version of such a {self.noun} here"
            raise RefusedError(Refusal(ErrorCode.NOT_FOUND, why, {"path": self.parameter}))
        return row

    async def page(
        self, call: Call[Any, None], name: str | None
    ) -> tuple[list[RegistryRow], str | None]:
        """Versions of one document, or of all, and the token of the page behind them."""
        rows = await call.front.gateway.store.registry_list(
            call.tenant_id,
            self.kind,
            name,
            pages.after(call, tuple[str, int]),
            call.query.page_size + 1,
        )
        page, last = pages.cut(rows, call.query.page_size, lambda row: (row.name, row.version))
        return list(page), pages.token(call, last)

    async def _row_of(self, call: Call[Any, Any], answer: RegistryAnswer) -> RegistryRow:
        name, version = None, 0
        if answer.row is not None:
            if bytes(answer.row.body):
                return answer.row
            name, version = answer.row.name, answer.row.version
        elif answer.stored is not None:
            facts = _facts.decode(answer.stored)
            name, version = facts.name, facts.version
        assert name is not None, "an answer has a row, or what was kept of one"
        row = await call.front.gateway.store.registered(call.tenant_id, self.kind, name, version)
        assert row is not None, "versions are never taken away (I1)"
        return row


def facts_of(row: RegistryRow) -> dict[str, Any]:
    """What every view of a version shows of it, but for its name and its digest."""
    return {
        "version": row.version,
        "state": "disabled" if row.disabled_at else "enabled",
        "created_at": to_rfc3339(row.created_at or 0),
        "created_by": row.created_by or "",
        "disabled_at": instant(row.disabled_at or None),
    }
