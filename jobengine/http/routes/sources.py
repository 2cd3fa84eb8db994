"""Sources: upstreams, the rates at which jobs may talk to them, and what they have taught."""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from jobengine.auth.scopes import Scope
from jobengine.domain.control import RatePolicy, Source, Throttle, control_name
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import (
    kept,
    rate_of,
    rate_patched,
    source_view,
    throttle_view,
)
from jobengine.http.controls import (
    CHANGED,
    CREATED,
    IF_MATCH,
    MERGE_PATCH,
    REPEATED,
    change,
    controls_page,
    first_answer,
    gates,
    lift,
    modify,
    remove,
    require,
    set_pause,
    tag,
)
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, Route
from jobengine.wire.admission import (
    PauseView,
    Removed,
    SourcePatch,
    SourceRequest,
    SourceThrottle,
    SourceView,
    ThrottleView,
)
from jobengine.wire.jobs import Page

__all__ = ["ROUTES", "RemoveQuery"]


class RemoveQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`force`: also what is in use."""

    force: bool = False


async def create_source(call: Call[NoQuery, SourceRequest]) -> Answer:
    body = call.body
    source = Source(
        auth_ref=_reference(call, body.auth_ref),
        capabilities=tuple(body.capabilities),
        connector_id=body.connector_id,
        host=body.host.lower(),
        lock_key=body.lock_key,
        max_active=body.max_active,
        rate_policy=None if body.rate_policy is None else rate_of(body.rate_policy, "ratePolicy."),
        source_type=body.source_type,
        weight=body.weight,
    )
    done = await change(call, "source.created", "source", body.source_id, source, expect="absent")
    return json_answer(
        source_view(done.facts),
        200 if done.replayed else 201,
        replayed=done.replayed,
        Location=f"{BASE}/sources/{done.facts.name}",
        ETag=tag(done.facts.revision),
    )


async def list_sources(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "source")
    live = await gates(call, ("source", "breaker", "concurrency"), [row.name for row in rows])
    return page_answer([source_view(row, live) for row in rows], token)


async def show_source(call: Call[NoQuery, None]) -> Answer:
    row = await require(call, "source", "sourceId")
    live = await gates(call, ("source", "breaker", "concurrency"), [row.name])
    return json_answer(source_view(row, live), ETag=tag(row.revision))


async def update_source(call: Call[NoQuery, SourcePatch]) -> Answer:
    patch = call.body
    reference = patch.auth_ref
    if reference is not UNSET:
        _reference(call, reference)

    def changed(present: Source) -> Source:
        return Source(
            auth_ref=kept(patch.auth_ref, present.auth_ref),
            capabilities=_capabilities(patch, present),
            connector_id=kept(patch.connector_id, present.connector_id),
            host=kept(patch.host, present.host).lower(),
            lock_key=kept(patch.lock_key, present.lock_key),
            max_active=kept(patch.max_active, present.max_active),
            rate_policy=_policy(patch, present.rate_policy),
            source_type=kept(patch.source_type, present.source_type),
            weight=kept(patch.weight, present.weight) or 1,
        )

    done = await modify(call, "source.updated", "source", "sourceId", changed)
    return json_answer(source_view(done.facts), ETag=tag(done.facts.revision))


async def delete_source(call: Call[RemoveQuery, None]) -> Answer:
    return await remove(call, "source.deleted", "source", "sourceId", force=call.query.force)


async def pause_source(call: Call[NoQuery, NoBody]) -> Answer:
    source_id = await _source_id(call)
    return await set_pause(call, "source", source_id, "source.paused", paused=True)


async def resume_source(call: Call[NoQuery, NoBody]) -> Answer:
    source_id = await _source_id(call)
    return await set_pause(call, "source", source_id, "source.resumed", paused=False)


async def throttle_source(call: Call[NoQuery, SourceThrottle]) -> Answer:
    source_id, body = await _source_id(call), call.body
    name = control_name("source", source_id)
    if body.rate is UNSET:
        rate = rate_of(body, "")
        throttle = Throttle(key=source_id, rate=rate, scope="source")
        done = await change(call, "source.throttled", "throttle", name, throttle)
        return json_answer(throttle_view(done.facts), replayed=done.replayed)
    if body.rpm is not None or body.per_second is not None:
        raise invalid("rate", "lifts the throttle; leave out either this or rpm and perSecond")
    lifted = await lift(call, "source.unthrottled", "throttle", name)
    view = ThrottleView(scope="source", key=source_id)
    if lifted is None:
        return json_answer(view)
    view.revision = lifted.facts.revision
    view.changed_at = to_rfc3339(lifted.facts.changed_at)
    return json_answer(view, replayed=lifted.replayed)


def _capabilities(patch: SourcePatch, present: Source) -> tuple[str, ...]:
    asked = patch.capabilities
    return present.capabilities if asked is UNSET else tuple(asked or ())


def _policy(patch: SourcePatch, present: RatePolicy | None) -> RatePolicy | None:
    asked = patch.rate_policy
    if asked is UNSET:
        return present
    return None if asked is None else rate_patched(present, asked, "ratePolicy.")


def _reference(call: Call[Any, Any], text: str | None) -> str | None:
    """The name of a secret. A secret in its place is refused without being repeated."""
    name = "" if text is None else text.partition(":")[2]
    if call.front.redactor.text(name) != name:
        raise invalid("authRef", "looks like a secret; store it elsewhere and name it, as env:NAME")
    return text


async def _source_id(call: Call[Any, Any]) -> str:
    """The source that the path names, which is there, or was when this was answered before."""
    if await first_answer(call) is not None:
        return call.path["sourceId"]
    return (await require(call, "source", "sourceId")).name


_READ = (Scope.READ,)
_OPERATE = (Scope.OPERATE,)
_MISSING = (ErrorCode.NOT_FOUND,)


def _operation(verb: str, summary: str, handler: Any, body: Any, answer: Any) -> Route:
    return Route(
        method="POST",
        path=f"/sources/{{sourceId}}:{verb}",
        name=f"{verb}Source",
        summary=summary,
        handler=handler,
        scopes=_OPERATE,
        body=body,
        body_optional=body is NoBody,
        answers={200: answer},
        errors=(*_MISSING, ErrorCode.CAPACITY_EXCEEDED, *REPEATED),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/sources",
        name="createSource",
        summary="Register an upstream that jobs talk to",
        handler=create_source,
        scopes=_OPERATE,
        body=SourceRequest,
        answers={201: SourceView, 200: SourceView},
        answer_headers=("ETag",),
        location=True,
        errors=CREATED,
    ),
    Route(
        method="GET",
        path="/sources",
        name="listSources",
        summary="List the sources, by id",
        handler=list_sources,
        scopes=_READ,
        query=Paging,
        answers={200: Page[SourceView]},
    ),
    Route(
        method="GET",
        path="/sources/{sourceId}",
        name="getSource",
        summary="Show one source, whether it is paused, its breaker and what runs",
        handler=show_source,
        scopes=_READ,
        answers={200: SourceView},
        answer_headers=("ETag",),
        errors=_MISSING,
    ),
    Route(
        method="PATCH",
        path="/sources/{sourceId}",
        name="updateSource",
        summary="Change a source by a JSON merge patch",
        handler=update_source,
        scopes=_OPERATE,
        body=SourcePatch,
        consumes=MERGE_PATCH,
        headers=(IF_MATCH,),
        answers={200: SourceView},
        answer_headers=("ETag",),
        errors=CHANGED,
    ),
    Route(
        method="DELETE",
        path="/sources/{sourceId}",
        name="deleteSource",
        summary="Take a source away that no job waits or runs for",
        handler=delete_source,
        scopes=_OPERATE,
        query=RemoveQuery,
        headers=(IF_MATCH,),
        answers={200: Removed},
        errors=(*CHANGED, ErrorCode.IN_USE),
    ),
    _operation("pause", "Let no job of a source start", pause_source, NoBody, PauseView),
    _operation("resume", "Let jobs of a source start again", resume_source, NoBody, PauseView),
    _operation(
        "throttle",
        "Set a rate beside a source's own, or lift it",
        throttle_source,
        SourceThrottle,
        ThrottleView,
    ),
)
