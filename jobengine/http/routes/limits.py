"""Rates of a tenant and its job types, shares of job types, and the breakers of sources."""

from collections.abc import Mapping
from typing import Any, Final

from jobengine.auth.scopes import Scope
from jobengine.domain.control import Throttle, Weight, control_name
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import rate_of, throttle_view, weight_view
from jobengine.http.controls import REPEATED, change, controls_page, gates, lift
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging, Route
from jobengine.messages.admission import BreakerVerb, OperateBreaker
from jobengine.wire.admission import (
    BreakerView,
    ThrottleRequest,
    ThrottleView,
    WeightRequest,
    WeightView,
)
from jobengine.wire.jobs import Page

__all__ = ["ROUTES"]


async def list_throttles(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "throttle")
    return page_answer([throttle_view(row) for row in rows], token)


async def set_throttle(call: Call[NoQuery, ThrottleRequest]) -> Answer:
    body, key = call.body, call.body.key or ""
    name = control_name(body.scope, key)
    if body.rate is not None:
        throttle = Throttle(key=key, rate=rate_of(body.rate, "rate."), scope=body.scope)
        done = await change(call, "throttle.set", "throttle", name, throttle)
        return json_answer(throttle_view(done.facts))
    lifted = await lift(call, "throttle.removed", "throttle", name)
    view = ThrottleView(scope=body.scope, key=body.key)
    if lifted is not None:
        view.revision = lifted.facts.revision
        view.changed_at = to_rfc3339(lifted.facts.changed_at)
    return json_answer(view)


async def list_weights(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "weight")
    return page_answer([weight_view(row) for row in rows], token)


async def set_weight(call: Call[NoQuery, WeightRequest]) -> Answer:
    body = call.body
    name = control_name("job_type", body.job_type)
    if body.weight is not None:
        weight = Weight(key=body.job_type, weight=body.weight)
        done = await change(call, "weight.set", "weight", name, weight)
        return json_answer(weight_view(done.facts))
    lifted = await lift(call, "weight.removed", "weight", name)
    view = WeightView(job_type=body.job_type, weight=1)
    if lifted is not None:
        view.revision = lifted.facts.revision
        view.changed_at = to_rfc3339(lifted.facts.changed_at)
    return json_answer(view)


async def list_breakers(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "source")
    live = await gates(call, ("breaker",), [row.name for row in rows])
    items = [_view(row.name, live.get(("breaker", row.name), {})) for row in rows]
    return page_answer(items, token)


async def open_breaker(call: Call[NoQuery, NoBody]) -> Answer:
    return await _operate(call, "open")


async def close_breaker(call: Call[NoQuery, NoBody]) -> Answer:
    return await _operate(call, "close")


async def release_breaker(call: Call[NoQuery, NoBody]) -> Answer:
    return await _operate(call, "release")


async def _operate(call: Call[NoQuery, NoBody], verb: BreakerVerb) -> Answer:
    source_id = call.path["sourceId"]
    answer = await call.front.gateway.gates(
        call.tenant_id,
        lambda ask_id: OperateBreaker(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            claim=call.claim,
            source_id=source_id,
            verb=verb,
        ),
    )
    state = next((facts.state for facts in answer.gates), {})
    return json_answer(_view(source_id, state), replayed=answer.replayed)


def _view(source_id: str, state: Mapping[str, Any]) -> BreakerView:
    """Of a breaker that has seen nothing bad, no state is kept."""
    moved = bool(state.get("cause"))
    return BreakerView(
        source_id=source_id,
        position=state.get("position", "closed"),
        cause=state.get("cause"),
        observed=state["observed"] if moved else None,
        limit=state["limit"] if moved else None,
        failures=state.get("failures", 0),
        outcomes=state.get("outcomes", 0),
        opened_at=_instant(state.get("opened_at")),
        opens_at=_instant(state.get("opens_at")),
        closed_at=_instant(state.get("closed_at")),
    )


def _instant(at: int | None) -> str | None:
    return to_rfc3339(at) if at else None


_READ = (Scope.READ,)
_QUOTA = (Scope.QUOTA,)


def _breaker_route(verb: str, summary: str, handler: Any) -> Route:
    return Route(
        method="POST",
        path=f"/breakers/{{sourceId}}:{verb}",
        name=f"{verb}Breaker",
        summary=summary,
        handler=handler,
        scopes=(Scope.OPERATE,),
        body=NoBody,
        body_optional=True,
        answers={200: BreakerView},
        errors=(ErrorCode.NOT_FOUND, *REPEATED),
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/throttles",
        name="listThrottles",
        summary="List the rates of the tenant, its job types and sources",
        handler=list_throttles,
        scopes=_READ,
        query=Paging,
        answers={200: Page[ThrottleView]},
    ),
    Route(
        method="PUT",
        path="/throttles",
        name="setThrottle",
        summary="Set the rate of the tenant, a job type or a source, or take it away",
        handler=set_throttle,
        scopes=_QUOTA,
        body=ThrottleRequest,
        answers={200: ThrottleView},
        errors=(ErrorCode.CAPACITY_EXCEEDED,),
    ),
    Route(
        method="GET",
        path="/weights",
        name="listWeights",
        summary="List the shares of job types that differ from 1",
        handler=list_weights,
        scopes=_READ,
        query=Paging,
        answers={200: Page[WeightView]},
    ),
    Route(
        method="PUT",
        path="/weights",
        name="setWeight",
        summary="Set the share of a job type against the others of its source",
        handler=set_weight,
        scopes=_QUOTA,
        body=WeightRequest,
        answers={200: WeightView},
        errors=(ErrorCode.CAPACITY_EXCEEDED,),
    ),
    Route(
        method="GET",
        path="/breakers",
        name="listBreakers",
        summary="List the circuit breakers of the sources, by source",
        handler=list_breakers,
        scopes=_READ,
        query=Paging,
        answers={200: Page[BreakerView]},
    ),
    _breaker_route("open", "Force a breaker open: nothing of its source starts", open_breaker),
    _breaker_route("close", "Force a breaker closed, whatever its source answers", close_breaker),
    _breaker_route("release", "Let a forced breaker judge by what it sees again", release_breaker),
)
