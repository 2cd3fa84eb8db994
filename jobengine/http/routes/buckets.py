"""Buckets of sources: the tokens of their hosts, and what push-backs or an operator have taught."""

from typing import Any, Final

from jobengine.auth.scopes import Scope
from jobengine.domain.control import Source
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.control_views import (
    MICRO,
    bucket_rate,
    control_in,
    throttle_key,
    throttle_standing,
)
from jobengine.http.controls import gates, require
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoQuery, Route
from jobengine.http.route_shapes import MISSING, reading
from jobengine.messages.admission import LearnRate
from jobengine.wire.rates import BucketRequest, BucketSet, BucketTokens, BucketView

__all__ = ["ROUTES"]


async def show_bucket(call: Call[NoQuery, None]) -> Answer:
    row = await require(call, "source", "sourceId")
    source = control_in(row)
    assert isinstance(source, Source)
    policy, key, beside = source.rate_policy, _bucket_key(row.name, source), throttle_key(row.name)
    held = await gates(call, ("bucket",), [key, f"retry:{row.name}", beside])
    bucket = held.get(("bucket", key), _NOTHING)
    budget = held.get(("bucket", f"retry:{row.name}"), _NOTHING)
    asked_of = [bucket, held.get(("bucket", beside), bucket)]
    learned, open_at = bucket["learnedMicro"], max(each["openAt"] or 0 for each in asked_of)
    return json_answer(
        BucketView(
            source_id=row.name,
            key=key,
            configured=None if policy is None or bucket is _NOTHING else bucket_rate(bucket),
            learned_rpm=None if learned is None else learned / MICRO,
            pinned=bucket["pinned"] if learned is not None else None,
            throttle=throttle_standing(held, row.name),
            rpm=min(each["refillMicro"] for each in asked_of) / MICRO,
            tokens=bucket["tokensMicro"] / MICRO,
            open_at=to_rfc3339(open_at) if open_at else None,
            retry_budget=BucketTokens(
                tokens=budget["tokensMicro"] / MICRO,
                burst=budget["burst"] or 0,
                rpm=budget["refillMicro"] / MICRO,
            ),
        )
    )


async def set_bucket(call: Call[NoQuery, BucketRequest]) -> Answer:
    row = await require(call, "source", "sourceId")
    source, body = control_in(row), call.body
    assert isinstance(source, Source)
    policy, asked = source.rate_policy, body.learned_per_minute
    if policy is None:
        raise invalid("ratePolicy", f"source {row.name} has none, so nothing is learned; set one")
    micro = None if asked is None else max(1, round(asked * MICRO))
    if micro is not None and micro > policy.per_minute_micro:
        most = policy.per_minute_micro / MICRO
        raise invalid("learnedPerMinute", f"is at most the {most:g} of the source's ratePolicy")
    if micro is None and body.pinned:
        raise invalid("pinned", "goes with a rate; give learnedPerMinute or leave it out")
    await call.front.gateway.gates(
        call.tenant_id,
        lambda ask_id: LearnRate(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            source_id=row.name,
            learned_micro=micro,
            pinned=body.pinned,
        ),
    )
    return json_answer(
        BucketSet(
            source_id=row.name,
            key=_bucket_key(row.name, source),
            learned_per_minute=asked,
            pinned=body.pinned,
        )
    )


_NOTHING: Final[dict[str, Any]] = {
    "perMinuteMicro": None,
    "burst": None,
    "cooldownUs": 0,
    "tokensMicro": 0,
    "refillMicro": 0,
    "learnedMicro": None,
    "pinned": False,
    "openAt": None,
}
"""A bucket that is not there."""


def _bucket_key(source_id: str, source: Source) -> str:
    return f"source:{source_id}" if source.rate_policy is None else f"host:{source.host}"


ROUTES: Final = (
    reading(
        "/sources/{sourceId}/bucket",
        "getSourceBucket",
        "Show the tokens of a source's host, and what its push-backs have taught",
        show_bucket,
        BucketView,
        errors=MISSING,
    ),
    Route(
        method="PUT",
        path="/sources/{sourceId}/bucket",
        name="setSourceBucket",
        summary="Set the rate that a source's push-backs have taught, or forget it",
        handler=set_bucket,
        scopes=(Scope.OPERATE,),
        body=BucketRequest,
        answers={200: BucketSet},
        errors=MISSING,
    ),
)
