"""How the REST front reads and changes controls: sources, quotas, rates, blackouts and the rest.

I1  A control that is refused for what it is, is refused before it is sent, naming the field as the
    client wrote it.
I2  What is changed in part is changed as it was read: a revision goes with it. Without `If-Match`
    the change is made anew when somebody else was faster; with it, it is refused (412).

Not here: what a control looks like (`control_views`), who may change it (the table), what is in use
(the shard). Sources: RFC 9110 §8.8.3, §13.1.1.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from jobengine.domain.change import ControlRow
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Scope,
    control_name,
    decode_control,
    refuse_control,
)
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import to_rfc3339
from jobengine.http import pages
from jobengine.http.answer import JSON, Answer
from jobengine.http.first_answers import first_answer
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call
from jobengine.messages.admission import ChangeControl, ControlAnswer, Expect, GateKind, ReadGates
from jobengine.messages.answers import ControlFacts
from jobengine.wire.controls import PauseView, Removed
from jobengine.wire.rates import ThrottleView, WeightView

__all__ = [
    "CHANGED",
    "IF_MATCH",
    "MERGE_PATCH",
    "change",
    "changed_answer",
    "controls_page",
    "first_facts",
    "gates",
    "lift",
    "modify",
    "remove",
    "require",
    "set_pause",
    "tag",
]

IF_MATCH: Final = "If-Match"
CHANGED: Final = (ErrorCode.NOT_FOUND, ErrorCode.REVISION_MISMATCH)
MERGE_PATCH: Final = (JSON, "application/merge-patch+json")
_TRIES: Final = 5
_NAME_CHARACTERS_MAX: Final = 256
_facts: Final = msgspec.json.Decoder(ControlFacts)


async def change(
    call: Call[Any, Any],
    event: str,
    kind: ControlKind,
    name: str,
    control: Control | None,
    *,
    expect: Expect = "any",
    revision: int | None = None,
    force: bool = False,
) -> ControlAnswer:
    """Set a control, or take it away with None. Raises `RefusedError`."""
    gateway = call.front.gateway
    if control is not None:
        _check(control, gateway.clock.moment().at)
    return await gateway.change_control(
        call.tenant_id,
        lambda ask_id: ChangeControl(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            claim=call.claim,
            event=event,
            kind=kind,
            name=name,
            control=control,
            expect=expect,
            revision=revision,
            force=force,
        ),
    )


async def lift(
    call: Call[Any, Any], event: str, kind: ControlKind, name: str
) -> ControlAnswer | None:
    """Take a control away, whoever waits at it; None when there was none."""
    try:
        return await change(call, event, kind, name, None, force=True)
    except RefusedError as error:
        if error.refusal.code is ErrorCode.NOT_FOUND:
            return None
        raise


async def modify(
    call: Call[Any, Any],
    event: str,
    kind: ControlKind,
    parameter: str,
    changed: Callable[[Any], Control],
) -> ControlAnswer:
    """Put in place of the control that the path names what `changed` makes of it (I2)."""
    for left in reversed(range(_TRIES)):
        row = await require(call, kind, parameter)
        wanted = _wanted_revision(call, row)
        control = changed(decode_control(kind, bytes(row.body)))
        try:
            return await change(call, event, kind, row.name, control, revision=row.revision)
        except RefusedError as error:
            overtaken = error.refusal.code is ErrorCode.REVISION_MISMATCH
            if not overtaken or wanted is not None or not left:
                raise
    raise AssertionError("the last try returns or raises")


async def remove(
    call: Call[Any, Any], event: str, kind: ControlKind, parameter: str, *, force: bool
) -> Answer:
    """Take away the control that the path names, unless it is in use, and answer with its name."""
    row = await require(call, kind, parameter)
    revision = _wanted_revision(call, row)
    done = await change(call, event, kind, row.name, None, revision=revision, force=force)
    return json_answer(Removed(name=row.name, removed_at=to_rfc3339(done.facts.changed_at)))


async def set_pause(
    call: Call[Any, Any], scope: Scope, key: str, event: str, *, paused: bool
) -> Answer:
    """Pause a part of the tenant or resume it, and answer with how it then is."""
    name = control_name(scope, key)
    if paused:
        done: ControlAnswer | None = await change(
            call, event, "pause", name, Pause(key=key, scope=scope)
        )
    else:
        done = await lift(call, event, "pause", name)
    return changed_answer(PauseView(scope=cast(Any, scope), key=key or None, paused=paused), done)


def changed_answer(
    view: PauseView | ThrottleView | WeightView, done: ControlAnswer | None
) -> Answer:
    """The answer that shows what a change has left, with its revision if it changed anything."""
    if done is None:
        return json_answer(view)
    view.revision = done.facts.revision
    view.changed_at = to_rfc3339(done.facts.changed_at)
    return json_answer(view, replayed=done.replayed)


async def require(call: Call[Any, Any], kind: ControlKind, parameter: str) -> ControlRow:
    """The control that the path names, as it is stored. Raises `RefusedError`."""
    name, row = call.path[parameter], None
    if len(name) <= _NAME_CHARACTERS_MAX and name.isprintable():
        row = await call.front.gateway.store.control(call.tenant_id, kind, name)
    if row is None:
        message = f"no such {kind} here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": parameter}))
    return row


async def controls_page(
    call: Call[Any, None], kind: ControlKind
) -> tuple[list[ControlRow], str | None]:
    """One page of the tenant's controls of a kind, by name, and the token of the next."""
    size = call.query.page_size
    after = pages.after(call, str) or ""
    rows = await call.front.gateway.store.control_list(call.tenant_id, kind, after, size + 1)
    kept, cursor = pages.cut(rows, size, lambda row: row.name)
    return list(kept), pages.token(call, cursor)


async def first_facts(call: Call[Any, Any]) -> ControlFacts | None:
    """What was answered to this request before: also when what it names has gone meanwhile."""
    stored = await first_answer(call)
    return None if stored is None else _facts.decode(stored)


async def gates(
    call: Call[Any, Any], kinds: tuple[GateKind, ...], keys: list[str]
) -> dict[tuple[GateKind, str], Any]:
    """Where gates stand, by kind and key; those without a state are left out."""
    answer = await call.front.gateway.gates(
        call.tenant_id,
        lambda ask_id: ReadGates(ask_id=ask_id, tenant_id=call.tenant_id, kinds=kinds, keys=keys),
    )
    return {(facts.kind, facts.key): facts.state for facts in answer.gates}


def tag(revision: int) -> str:
    """The `ETag` of a control."""
    return f'"{revision}"'


def _check(control: Control, at: int) -> None:
    refusal = refuse_control(control, at)
    if refusal is not None:
        path = str(refusal.details["path"]).removeprefix("$.")
        raise RefusedError(Refusal(refusal.code, refusal.message, {"path": path}))


def _wanted_revision(call: Call[Any, Any], row: ControlRow) -> int | None:
    """The revision that `If-Match` asks for, which the row has; None when it does not matter."""
    said = call.headers.get(IF_MATCH)
    if said is None or said.strip() == "*":
        return None
    if tag(row.revision) in (one.strip() for one in said.split(",")):
        return row.revision
    raise RefusedError(
        Refusal(
            ErrorCode.REVISION_MISMATCH,
            f"{row.kind} {row.name!r} has revision {row.revision}; read it again and decide anew",
            {"path": IF_MATCH, "revision": row.revision},
        )
    )
