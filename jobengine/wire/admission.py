"""Shapes of admission: sources, quotas, rates, blackouts, pauses, and why a job does not start.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A patch is a JSON merge patch: what it leaves out stays, `null` takes away.
I3  A mutation answers with what it set and nothing that moves by itself, so that its repetition
    under an idempotency key is the same answer.

Source: RFC 7396.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobengine.wire.fields import Instant, Key, Name, Text

__all__ = [
    "BlackoutPatch",
    "BlackoutPreview",
    "BlackoutRequest",
    "BlackoutView",
    "BlackoutWindow",
    "BreakerView",
    "BucketRequest",
    "BucketSet",
    "BucketTokens",
    "BucketView",
    "ClosedGates",
    "CronRule",
    "GateView",
    "JobExplanation",
    "OneOffRule",
    "PauseView",
    "QueueExplanation",
    "QuotaPatch",
    "QuotaRequest",
    "QuotaUse",
    "QuotaView",
    "RatePatch",
    "RatePolicy",
    "RateView",
    "Removed",
    "Slug",
    "SourcePatch",
    "SourceRequest",
    "SourceThrottle",
    "SourceView",
    "ThrottleRequest",
    "ThrottleView",
    "WeightRequest",
    "WeightView",
]

Slug = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$(?!\n)")
]
QuotaScope = Literal["tenant", "project", "job_type"]
ThrottleScope = Literal["tenant", "job_type", "source"]
BlackoutScopeName = Literal["tenant", "source", "job_type"]
BreakerPosition = Literal["closed", "open", "half_open", "forced_open", "forced_closed"]

_Host = Annotated[str, Meta(min_length=1, max_length=260)]
_AuthRef = Annotated[str, Meta(min_length=1, max_length=256)]
_Capabilities = Annotated[list[Name], Meta(max_length=64)]
_Count = Annotated[int, Meta(ge=1, le=10_000_000)]
_Weight = Annotated[int, Meta(ge=1, le=1_000)]
_PerMinute = Annotated[float, Meta(ge=0.000001, le=60_000_000)]
_PerSecond = Annotated[float, Meta(ge=0.000001, le=1_000_000)]
_Burst = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Cooldown = Annotated[int, Meta(ge=0, le=86_400)]
_Duration = Annotated[int, Meta(ge=1, le=366 * 86_400)]


class _Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    pass


class _Shown(msgspec.Struct, omit_defaults=True, rename="camel"):
    pass


class Removed(_Shown, kw_only=True):
    """What was taken away, by its id."""

    name: str
    removed_at: Instant


# ---- rates


class RatePolicy(_Request, kw_only=True):
    """Tokens that come in, by `rpm` (a minute) or by `perSecond`; one of them. `burst` is how many
    may pile up: those of one second, and one at least, when it is left out. After a push-back of
    the upstream nothing starts for `cooldownSeconds`."""

    rpm: _PerMinute | None = None
    per_second: _PerSecond | None = None
    burst: _Burst | None = None
    cooldown_seconds: _Cooldown = 0


class RatePatch(_Request, kw_only=True):
    """Changes of a rate policy; `rpm` takes the place of `perSecond`, and the reverse."""

    rpm: _PerMinute | UnsetType | None = UNSET
    per_second: _PerSecond | UnsetType | None = UNSET
    burst: _Burst | UnsetType | None = UNSET
    cooldown_seconds: _Cooldown | UnsetType | None = UNSET


class RateView(_Shown, kw_only=True, omit_defaults=False):
    rpm: float
    burst: int
    cooldown_seconds: int


class ThrottleRequest(_Request, kw_only=True):
    """The rate of the whole tenant (no `key`), a job type or a source; `null` takes it away."""

    scope: ThrottleScope
    key: Name | None = None
    rate: RatePolicy | None


class ThrottleView(_Shown, kw_only=True):
    """Without `rate` there is none."""

    scope: ThrottleScope
    key: str | None = None
    rate: RateView | None = None
    revision: int | None = None
    changed_at: Instant | None = None


class WeightRequest(_Request, kw_only=True):
    """The share of a job type against others of its source; `null` makes it 1 again."""

    job_type: Name
    weight: _Weight | None


class WeightView(_Shown, kw_only=True):
    job_type: str
    weight: int
    revision: int | None = None
    changed_at: Instant | None = None


# ---- sources


class SourceRequest(_Request, kw_only=True):
    """An upstream that jobs talk to; they name it as their `sourceId`. Without `ratePolicy` they do
    not start. Jobs of sources with one `lockKey` run one at a time. `authRef` names a secret
    (`env:NAME`, `file:PATH`, `secret:NAME`, `vault:PATH`) and is none."""

    source_id: Slug
    source_type: Name
    host: _Host
    connector_id: Name | None = None
    capabilities: _Capabilities = []
    auth_ref: _AuthRef | None = None
    rate_policy: RatePolicy | None = None
    lock_key: Name | None = None
    max_active: _Count | None = None
    weight: _Weight = 1


class SourcePatch(_Request, kw_only=True):
    """A JSON merge patch of a source."""

    source_type: Name | UnsetType = UNSET
    host: _Host | UnsetType = UNSET
    connector_id: Name | UnsetType | None = UNSET
    capabilities: _Capabilities | UnsetType | None = UNSET
    auth_ref: _AuthRef | UnsetType | None = UNSET
    rate_policy: RatePatch | UnsetType | None = UNSET
    lock_key: Name | UnsetType | None = UNSET
    max_active: _Count | UnsetType | None = UNSET
    weight: _Weight | UnsetType | None = UNSET


class SourceView(_Shown, kw_only=True):
    """A source. What moves by itself is in answers to reads only: `paused`, `breaker`, `running`
    and `runningMax`, the most that may run while it is slow or failing."""

    source_id: str
    source_type: str
    host: str
    connector_id: str | None = None
    capabilities: list[str] = []
    auth_ref: str | None = None
    rate_policy: RateView | None = None
    lock_key: str | None = None
    max_active: int | None = None
    weight: int
    revision: int
    changed_at: Instant
    paused: bool | None = None
    breaker: BreakerPosition | None = None
    running: int | None = None
    running_max: int | None = None


class SourceThrottle(RatePolicy, kw_only=True):
    """A rate of the source beside its own policy; `{"rate": null}` lifts it."""

    rate: UnsetType | None = UNSET


class BucketTokens(_Shown, kw_only=True, omit_defaults=False):
    tokens: float
    burst: int
    rpm: float


class BucketView(_Shown, kw_only=True):
    """The tokens of a source's host, which all sources of that host share. `learnedRpm` is what
    push-backs or an operator (`pinned`: it stays) have taught and is below `configured`; `rpm` is
    in force. Nothing starts before `openAt`. `retryBudget`: tokens for repeated attempts."""

    source_id: str
    key: str
    configured: RateView | None = None
    learned_rpm: float | None = None
    pinned: bool | None = None
    rpm: float
    tokens: float
    open_at: Instant | None = None
    retry_budget: BucketTokens


class BucketRequest(_Request, kw_only=True):
    """A rate a minute to go on from, or `null` to forget what was learned. `pinned`: push-backs do
    not change it."""

    learned_per_minute: _PerMinute | None
    pinned: bool = False


class BucketSet(_Shown, kw_only=True, omit_defaults=False):
    source_id: str
    key: str
    learned_per_minute: float | None
    pinned: bool


class BreakerView(_Shown, kw_only=True):
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


# ---- quotas


class QuotaRequest(_Request, kw_only=True):
    """At most `maxActive` jobs run and `maxPerHour` start in any hour, in the whole tenant (no
    `key`), a project or a job type; `burst` bounds starts at once and lets them come evenly.
    Without `quotaId` one is made up."""

    quota_id: Slug | None = None
    scope: QuotaScope
    key: Key | None = None
    max_active: _Count | None = None
    max_per_hour: _Count | None = None
    burst: _Count | None = None
    paused: bool = False


class QuotaPatch(_Request, kw_only=True):
    """A JSON merge patch of a quota; what it is about stays."""

    max_active: _Count | UnsetType | None = UNSET
    max_per_hour: _Count | UnsetType | None = UNSET
    burst: _Count | UnsetType | None = UNSET


class QuotaView(_Shown, kw_only=True):
    quota_id: str
    scope: QuotaScope
    key: str | None = None
    max_active: int | None = None
    max_per_hour: int | None = None
    burst: int | None = None
    paused: bool
    revision: int
    changed_at: Instant


class QuotaUse(_Shown, kw_only=True):
    """How much of a quota is used. `waiting`: single jobs, and groups of jobs of one queue, job
    type and source, that it keeps from starting now."""

    quota_id: str
    scope: QuotaScope
    key: str | None = None
    paused: bool
    running: int
    max_active: int | None = None
    starts_this_hour: int | None = None
    max_per_hour: int | None = None
    waiting: int


# ---- blackouts and pauses


class OneOffRule(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="one_off"
):
    """One window: from `startAt` up to `endAt`."""

    start_at: Instant
    end_at: Instant


class CronRule(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="recurring"
):
    """A window begins whenever `cron` (five fields) fires in `zone` (IANA) and lasts so long."""

    cron: Annotated[str, Meta(min_length=1, max_length=128)]
    duration_seconds: _Duration
    zone: Annotated[str, Meta(min_length=1, max_length=64)]


_Calendar = Annotated[list[OneOffRule | CronRule], Meta(min_length=1, max_length=64)]


class BlackoutRequest(_Request, kw_only=True):
    """When nothing starts in the whole tenant (no `key`), a source or a job type. `drain` asks what
    runs to stop when a window begins. `reason` is that of the request when it is left out; without
    `blackoutId` one is made up."""

    blackout_id: Slug | None = None
    scope: BlackoutScopeName
    key: Name | None = None
    calendar: _Calendar
    drain: bool = False
    reason: Text | None = None


class BlackoutPatch(_Request, kw_only=True):
    """A JSON merge patch of a blackout; what it is about stays, the calendar is replaced whole."""

    calendar: _Calendar | UnsetType = UNSET
    drain: bool | UnsetType | None = UNSET
    reason: Text | UnsetType = UNSET


class BlackoutView(_Shown, kw_only=True):
    blackout_id: str
    scope: BlackoutScopeName
    key: str | None = None
    calendar: list[OneOffRule | CronRule]
    drain: bool
    reason: str
    revision: int
    changed_at: Instant


class BlackoutWindow(_Shown, kw_only=True, omit_defaults=False):
    start_at: Instant
    end_at: Instant


class BlackoutPreview(_Shown, kw_only=True):
    """The next windows in their order; the one that is in force now is the first."""

    blackout_id: str
    in_force: bool
    windows: list[BlackoutWindow]


class PauseView(_Shown, kw_only=True):
    """Whether nothing of this part may start: the whole tenant (no `key`), a queue or a source."""

    scope: Literal["tenant", "queue", "source"]
    key: str | None = None
    paused: bool
    revision: int | None = None
    changed_at: Instant | None = None


# ---- explain


class GateView(_Shown, kw_only=True):
    """A gate that is closed: what was seen against which limit, and when (`opensAt`) or by what
    (`opensOn`) it opens."""

    gate: str
    key: str
    observed: str
    limit: str
    opens_at: Instant | None = None
    opens_on: str | None = None
    message: str


class JobExplanation(_Shown, kw_only=True):
    """Why a job does not start: every closed gate, none when the next step takes it. `position` is
    its place among the jobs of its queue, job type and source; 1 goes first."""

    job_id: str
    state: str
    gates: list[GateView]
    position: int | None = None
    estimated_start_at: Instant | None = None


class ClosedGates(_Shown, kw_only=True, omit_defaults=False):
    gate: str
    key: str
    jobs: int


class QueueExplanation(_Shown, kw_only=True, omit_defaults=False):
    """The first waiting jobs of a queue in their order, and how many of them each gate keeps."""

    queue: str
    items: list[JobExplanation]
    closed: list[ClosedGates]
