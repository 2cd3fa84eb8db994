"""Rates of a tenant and its job types, shares of job types, and the breakers of sources."""

from collections.abc import Mapping
from typing import Any, Final

from jobengine.auth.scopes import Scope
from jobengine.domain.control import Throttle, Weight, control_name
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import rate_of, throttle_view, weight_view
from jobengine.http.controls import change, changed_answer, controls_page, gates, lift
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.messages.admission import BreakerVerb, OperateBreaker
from jobengine.wire.jobs import Page
from jobengine.wire.rates import ThrottleRequest, ThrottleView, WeightRequest, WeightView
from jobengine.wire.sources import BreakerView

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
    return changed_answer(ThrottleView(scope=body.scope, key=body.key), lifted)


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
    return changed_answer(WeightView(job_type=body.job_type, weight=1), lifted)


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


_ERRORS: Final = (*MISSING, *REPEATED)

ROUTES: Final = (
    reading(
        "/throttles",
        "listThrottles",
        "List the rates of the tenant, its job types and sources",
        list_throttles,
        Page[ThrottleView],
        query=Paging,
    ),
    Route(
        method="PUT",
        path="/throttles",
        name="setThrottle",
        summary="Set the rate of the tenant, a job type or a source, or take it away",
        handler=set_throttle,
        scopes=(Scope.QUOTA,),
        body=ThrottleRequest,
        answers={200: ThrottleView},
        errors=(ErrorCode.CAPACITY_EXCEEDED,),
    ),
    reading(
        "/weights",
        "listWeights",
        "List the shares of job types that differ from 1",
        list_weights,
        Page[WeightView],
        query=Paging,
    ),
    Route(
        method="PUT",
        path="/weights",
        name="setWeight",
        summary="Set the share of a job type against the others of its source",
        handler=set_weight,
        scopes=(Scope.QUOTA,),
        body=WeightRequest,
        answers={200: WeightView},
        errors=(ErrorCode.CAPACITY_EXCEEDED,),
    ),
    reading(
        "/breakers",
        "listBreakers",
        "List the circuit breakers of the sources, by source",
        list_breakers,
        Page[BreakerView],
        query=Paging,
    ),
    acting(
        "/breakers/{sourceId}:open",
        "openBreaker",
        "Force a breaker open: nothing of its source starts",
        open_breaker,
        BreakerView,
        errors=_ERRORS,
    ),
    acting(
        "/breakers/{sourceId}:close",
        "closeBreaker",
        "Force a breaker closed, whatever its source answers",
        close_breaker,
        BreakerView,
        errors=_ERRORS,
    ),
    acting(
        "/breakers/{sourceId}:release",
        "releaseBreaker",
        "Let a forced breaker judge by what it sees again",
        release_breaker,
        BreakerView,
        errors=_ERRORS,
    ),
)
