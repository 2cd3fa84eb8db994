"""Shapes of sources: the upstreams that jobs talk to, their throttles and circuit breakers.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A patch is a JSON merge patch: what it leaves out stays, `null` takes away.
I3  A mutation answers with what it set and nothing that moves by itself, so that its repetition
    under an idempotency key is the same answer.

Source: RFC 7396.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobengine.wire.controls import Count, Request, Shown, Slug, Weight
from jobengine.wire.fields import Instant, Name
from jobengine.wire.rates import RatePatch, RatePolicy, RateView

__all__ = [
    "BreakerView",
    "SourcePatch",
    "SourceRequest",
    "SourceThrottle",
    "SourceView",
]

BreakerPosition = Literal["closed", "open", "half_open", "forced_open", "forced_closed"]
_Host = Annotated[str, Meta(min_length=1, max_length=260)]
_AuthRef = Annotated[str, Meta(min_length=1, max_length=256)]
_Capabilities = Annotated[list[Name], Meta(max_length=64)]


class SourceRequest(Request, kw_only=True):
    """An upstream that jobs talk to; they name it as their `sourceId`. Without `ratePolicy` they do
    not start. Jobs of sources with one `lockKey` run one at a time. `authRef` names a secret
    (`env:NAME`, `file:PATH`, `secret:NAME`, `vault:PATH`) and is none."""

    source_id: Slug
    source_type: Name
    host: _Host
    connector_id: Name | None = None
    capabilities: _Capabilities = msgspec.field(default_factory=list)
    auth_ref: _AuthRef | None = None
    rate_policy: RatePolicy | None = None
    lock_key: Name | None = None
    max_active: Count | None = None
    weight: Weight = 1


class SourcePatch(Request, kw_only=True):
    """A JSON merge patch of a source."""

    source_type: Name | UnsetType = UNSET
    host: _Host | UnsetType = UNSET
    connector_id: Name | UnsetType | None = UNSET
    capabilities: _Capabilities | UnsetType | None = UNSET
    auth_ref: _AuthRef | UnsetType | None = UNSET
    rate_policy: RatePatch | UnsetType | None = UNSET
    lock_key: Name | UnsetType | None = UNSET
    max_active: Count | UnsetType | None = UNSET
    weight: Weight | UnsetType | None = UNSET


class SourceView(Shown, kw_only=True):
    """A source. What moves by itself or is set apart is in answers to reads only: `paused`,
    `throttle`, the rate that an operator has set beside its own, `breaker`, `running` and
    `runningMax`, the most that may run while it is slow or failing."""

    source_id: str
    source_type: str
    host: str
    connector_id: str | None = None
    capabilities: list[str] = msgspec.field(default_factory=list)
    auth_ref: str | None = None
    rate_policy: RateView | None = None
    lock_key: str | None = None
    max_active: int | None = None
    weight: int
    revision: int
    changed_at: Instant
    paused: bool | None = None
    throttle: RateView | None = None
    breaker: BreakerPosition | None = None
    running: int | None = None
    running_max: int | None = None


class SourceThrottle(RatePolicy, kw_only=True):
    """A rate of the source beside its own policy; `{"rate": null}` lifts it."""

    rate: UnsetType | None = UNSET


class BreakerView(Shown, kw_only=True):
    """The circuit breaker of a source. `failures` of `outcomes` in the last minute were bad;
    `cause` is why it moved last, with what was `observed` against which `limit`."""

    source_id: str
    position: BreakerPosition
    cause: str | None = None
    observed: int | None = None
    limit: int | None = None
    failures: int
    outcomes: int
    opened_at: Instant | None = None
    opens_at: Instant | None = None
    closed_at: Instant | None = None
