"""Shapes of rates: policies, throttles, shares of job types, and the buckets that hold tokens.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from jobengine.wire.controls import Request, Shown, Weight
from jobengine.wire.fields import Instant, Name

__all__ = [
    "BucketRequest",
    "BucketSet",
    "BucketTokens",
    "BucketView",
    "RatePatch",
    "RatePolicy",
    "RateView",
    "ThrottleRequest",
    "ThrottleView",
    "WeightRequest",
    "WeightView",
]

ThrottleScope = Literal["tenant", "job_type", "source"]
_PerMinute = Annotated[float, Meta(ge=0.000001, le=60_000_000)]
_PerSecond = Annotated[float, Meta(ge=0.000001, le=1_000_000)]
_Burst = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Cooldown = Annotated[int, Meta(ge=0, le=86_400)]


class RatePolicy(Request, kw_only=True):
    """Tokens that come in, by `rpm` (a minute) or by `perSecond`; one of them. `burst` is how many
    may pile up: those of one second, and one at least, when it is left out. After a push-back of
    the upstream nothing starts for `cooldownSeconds`."""

    rpm: _PerMinute | None = None
    per_second: _PerSecond | None = None
    burst: _Burst | None = None
    cooldown_seconds: _Cooldown = 0


class RatePatch(Request, kw_only=True):
    """Changes of a rate policy; `rpm` takes the place of `perSecond`, and the reverse."""

    rpm: _PerMinute | UnsetType | None = UNSET
    per_second: _PerSecond | UnsetType | None = UNSET
    burst: _Burst | UnsetType | None = UNSET
    cooldown_seconds: _Cooldown | UnsetType | None = UNSET


class RateView(Shown, kw_only=True, omit_defaults=False):
    rpm: float
    burst: int
    cooldown_seconds: int


class ThrottleRequest(Request, kw_only=True):
    """The rate of the whole tenant (no `key`), a job type or a source; `null` takes it away."""

    scope: ThrottleScope
    key: Name | None = None
    rate: RatePolicy | None


class ThrottleView(Shown, kw_only=True):
    """Without `rate` there is none."""

    scope: ThrottleScope
    key: str | None = None
    rate: RateView | None = None
    revision: int | None = None
    changed_at: Instant | None = None


class WeightRequest(Request, kw_only=True):
    """The share of a job type against others of its source; `null` makes it 1 again."""

    job_type: Name
    weight: Weight | None


class WeightView(Shown, kw_only=True):
    job_type: str
    weight: int
    revision: int | None = None
    changed_at: Instant | None = None


class BucketTokens(Shown, kw_only=True, omit_defaults=False):
    tokens: float
    burst: int
    rpm: float


class BucketView(Shown, kw_only=True):
    """The tokens of a source's host, which all sources of that host share. `learnedRpm` is what
    push-backs or an operator (`pinned`: it stays) have taught and is below `configured`; `throttle`
    is the rate that an operator has set for this source beside it. `rpm` is in force: the least of
    them. Nothing starts before `openAt`. `retryBudget`: tokens for repeated attempts."""

    source_id: str
    key: str
    configured: RateView | None = None
    learned_rpm: float | None = None
    pinned: bool | None = None
    throttle: RateView | None = None
    rpm: float
    tokens: float
    open_at: Instant | None = None
    retry_budget: BucketTokens


class BucketRequest(Request, kw_only=True):
    """A rate a minute to go on from, or `null` to forget what was learned. `pinned`: push-backs do
    not change it."""

    learned_per_minute: _PerMinute | None
    pinned: bool = False


class BucketSet(Shown, kw_only=True, omit_defaults=False):
    source_id: str
    key: str
    learned_per_minute: float | None
    pinned: bool
