"""Sources: upstreams, the rates at which jobs may talk to them, and what they have taught."""

from typing import Any, Final

from msgspec import UNSET

from jobengine.auth.scopes import Scope
from jobengine.domain.control import RatePolicy, Source, Throttle, control_name
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import Answer
from jobengine.http.control_collection import ControlCollection
from jobengine.http.control_views import (
    kept,
    rate_of,
    rate_patched,
    source_view,
    throttle_key,
    throttle_view,
)
from jobengine.http.controls import (
    change,
    changed_answer,
    first_facts,
    lift,
    require,
    set_pause,
)
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoBody, NoQuery, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting
from jobengine.wire.controls import PauseView
from jobengine.wire.rates import ThrottleView
from jobengine.wire.sources import SourcePatch, SourceRequest, SourceThrottle, SourceView

__all__ = ["ROUTES"]


SOURCES: Final = ControlCollection(
    kind="source",
    scope=Scope.OPERATE,
    shown=SourceView,
    view=source_view,
    live=("source", "breaker", "concurrency", "bucket"),
    keys_of=lambda name: (name, throttle_key(name)),
)


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
    return await SOURCES.create(call, body.source_id, source)


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

    return await SOURCES.update(call, changed)


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
    return changed_answer(ThrottleView(scope="source", key=source_id), lifted)


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
    if await first_facts(call) is not None:
        return call.path["sourceId"]
    return (await require(call, "source", "sourceId")).name


_ERRORS: Final = (*MISSING, ErrorCode.CAPACITY_EXCEEDED, *REPEATED)

ROUTES: Final = (
    *SOURCES.routes_of_all(
        create_source, SourceRequest, summary="Register an upstream that jobs talk to"
    ),
    *SOURCES.routes_of_one(
        update_source,
        SourcePatch,
        show_summary="Show one source, whether it is paused or throttled, its breaker, what runs",
        update_summary="Change a source by a JSON merge patch",
        delete_summary="Take a source away that no job waits or runs for",
    ),
    acting(
        "/sources/{sourceId}:pause",
        "pauseSource",
        "Let no job of a source start",
        pause_source,
        PauseView,
        errors=_ERRORS,
    ),
    acting(
        "/sources/{sourceId}:resume",
        "resumeSource",
        "Let jobs of a source start again",
        resume_source,
        PauseView,
        errors=_ERRORS,
    ),
    Route(
        method="POST",
        path="/sources/{sourceId}:throttle",
        name="throttleSource",
        summary="Set a rate beside a source's own, or lift it",
        handler=throttle_source,
        scopes=(Scope.OPERATE,),
        body=SourceThrottle,
        answers={200: ThrottleView},
        errors=_ERRORS,
    ),
)
