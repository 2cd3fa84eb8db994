"""Collections of controls: sources, quotas and blackouts are created, listed, shown, changed and
taken away alike.

A module of a kind says what its requests mean and what else may be done with one. Not here: how a
control is read and changed (`controls`), what it looks like (`control_views`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.change import ControlRow
from jobengine.domain.control import Control, ControlKind
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import Answer
from jobengine.http.controls import (
    CHANGED,
    IF_MATCH,
    MERGE_PATCH,
    change,
    controls_page,
    gates,
    modify,
    remove,
    require,
    tag,
)
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, Handler, Paging, Route
from jobengine.http.route_shapes import MISSING, REPEATED, reading
from jobengine.messages.admission import GateKind
from jobengine.wire.controls import Removed
from jobengine.wire.jobs import Page

__all__ = ["ControlCollection", "RemoveQuery"]

_TAGGED: Final = ("ETag",)


class RemoveQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`force`: also what is in use."""

    force: bool = False


@attrs.frozen(kw_only=True)
class ControlCollection:
    """All controls of a kind. `scope` is that of changes; `view` makes a `shown` of a row or of the
    facts of a change. In answers to reads it is given as well where the gates of these kinds stand
    (`live`), whose keys are those that `keys_of` makes of the name."""

    kind: ControlKind
    scope: Scope
    shown: type[msgspec.Struct]
    view: Callable[..., msgspec.Struct]
    live: tuple[GateKind, ...] = ()
    keys_of: Callable[[str], Iterable[str]] = lambda name: (name,)

    @property
    def path(self) -> str:
        return f"/{self.kind}s"

    @property
    def parameter(self) -> str:
        return f"{self.kind}Id"

    async def create(self, call: Call[Any, Any], name: str, control: Control) -> Answer:
        """Set up a control that is not there yet."""
        event = f"{self.kind}.created"
        done = await change(call, event, self.kind, name, control, expect="absent")
        return json_answer(
            self.view(done.facts),
            200 if done.replayed else 201,
            replayed=done.replayed,
            Location=f"{BASE}{self.path}/{done.facts.name}",
            ETag=tag(done.facts.revision),
        )

    async def update(
        self, call: Call[Any, Any], changed: Callable[[Any], Control], event: str = "updated"
    ) -> Answer:
        """Put in place of the control that the path names what `changed` makes of it."""
        done = await modify(call, f"{self.kind}.{event}", self.kind, self.parameter, changed)
        return json_answer(
            self.view(done.facts), replayed=done.replayed, ETag=tag(done.facts.revision)
        )

    def routes_of_all(
        self, create: Handler, request: type[msgspec.Struct], *, summary: str
    ) -> tuple[Route, ...]:
        """To create one, and to list them."""
        kind = self.kind
        return (
            Route(
                method="POST",
                path=self.path,
                name=f"create{kind.capitalize()}",
                summary=summary,
                handler=create,
                scopes=(self.scope,),
                body=request,
                answers={201: self.shown, 200: self.shown},
                answer_headers=_TAGGED,
                location=True,
                errors=(ErrorCode.ALREADY_EXISTS, ErrorCode.CAPACITY_EXCEEDED, *REPEATED),
            ),
            reading(
                self.path,
                f"list{kind.capitalize()}s",
                f"List the {kind}s, by id",
                self._list,
                Page[self.shown],  # type: ignore[name-defined]
                query=Paging,
            ),
        )

    def routes_of_one(
        self,
        update: Handler,
        patch: type[msgspec.Struct],
        *,
        show_summary: str,
        update_summary: str,
        delete_summary: str,
    ) -> tuple[Route, ...]:
        """To show, change and delete the one that the path names."""
        path, name = f"{self.path}/{{{self.parameter}}}", self.kind.capitalize()
        return (
            reading(
                path,
                f"get{name}",
                show_summary,
                self._show,
                self.shown,
                errors=MISSING,
                answer_headers=_TAGGED,
            ),
            Route(
                method="PATCH",
                path=path,
                name=f"update{name}",
                summary=update_summary,
                handler=update,
                scopes=(self.scope,),
                body=patch,
                consumes=MERGE_PATCH,
                headers=(IF_MATCH,),
                answers={200: self.shown},
                answer_headers=_TAGGED,
                errors=CHANGED,
            ),
            Route(
                method="DELETE",
                path=path,
                name=f"delete{name}",
                summary=delete_summary,
                handler=self._delete,
                scopes=(self.scope,),
                query=RemoveQuery,
                headers=(IF_MATCH,),
                answers={200: Removed},
                errors=(*CHANGED, ErrorCode.IN_USE),
            ),
        )

    async def _list(self, call: Call[Paging, None]) -> Answer:
        rows, token = await controls_page(call, self.kind)
        return page_answer(await self._read(call, rows), token)

    async def _show(self, call: Call[Any, None]) -> Answer:
        row = await require(call, self.kind, self.parameter)
        (view,) = await self._read(call, [row])
        return json_answer(view, ETag=tag(row.revision))

    async def _delete(self, call: Call[RemoveQuery, None]) -> Answer:
        event, force = f"{self.kind}.deleted", call.query.force
        return await remove(call, event, self.kind, self.parameter, force=force)

    async def _read(self, call: Call[Any, Any], rows: Sequence[ControlRow]) -> list[msgspec.Struct]:
        if not self.live:
            return [self.view(row) for row in rows]
        keys = [key for row in rows for key in self.keys_of(row.name)]
        standing = await gates(call, self.live, keys)
        return [self.view(row, standing) for row in rows]
