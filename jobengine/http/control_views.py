"""What controls look like in REST, and what is made of a client's description of one.

An answer to a mutation is rendered from the facts of its commit, one to a read from the stored row:
the same function does both.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from msgspec import UNSET, UnsetType

from jobengine.domain.blackout import Blackout, OneOff, Recurring, Rule
from jobengine.domain.change import ControlRow
from jobengine.domain.control import (
    Control,
    ControlKind,
    Quota,
    RatePolicy,
    Source,
    Throttle,
    Weight,
    control_name,
    decode_control,
)
from jobengine.domain.instant import SECOND, from_rfc3339, to_rfc3339
from jobengine.http.errors import invalid
from jobengine.messages.answers import ControlFacts
from jobengine.wire import rates as wire
from jobengine.wire.blackouts import BlackoutView, CronRule, OneOffRule
from jobengine.wire.quotas import QuotaView
from jobengine.wire.rates import RatePatch, RateView, ThrottleView, WeightView
from jobengine.wire.sources import SourceView

__all__ = [
    "MICRO",
    "blackout_view",
    "bucket_rate",
    "calendar_of",
    "control_in",
    "kept",
    "quota_view",
    "rate_of",
    "rate_patched",
    "rate_view",
    "source_view",
    "throttle_key",
    "throttle_standing",
    "throttle_view",
    "weight_view",
]

T = TypeVar("T")
MICRO: Final = 1_000_000

Kept = ControlRow | ControlFacts


def control_in(found: Kept) -> Control:
    """The document of a row or of facts; there must be one."""
    body = found.body if isinstance(found, ControlRow) else found.control
    return decode_control(cast(ControlKind, found.kind), bytes(body))


def kept(value: T | UnsetType, present: T) -> T:
    """What a merge patch makes of a member: what it says, or what was there."""
    return present if value is UNSET else value


# ---- rates


def rate_of(asked: wire.RatePolicy, path: str) -> RatePolicy:
    """Raises `RefusedError`, naming the field below `path`."""
    if (asked.rpm is None) == (asked.per_second is None):
        raise invalid(f"{path}rpm", "or perSecond is needed, and one of them only")
    per_minute = asked.rpm if asked.rpm is not None else (asked.per_second or 0.0) * 60
    return RatePolicy(
        per_minute_micro=max(1, round(per_minute * MICRO)),
        burst=asked.burst or max(1, math.ceil(per_minute / 60)),
        cooldown_us=asked.cooldown_seconds * SECOND,
    )


def rate_patched(present: RatePolicy | None, patch: RatePatch, path: str) -> RatePolicy:
    """Raises `RefusedError`, as `rate_of`."""
    if patch.rpm is UNSET and patch.per_second is UNSET and present is not None:
        patch = RatePatch(
            rpm=present.per_minute_micro / MICRO,
            burst=patch.burst,
            cooldown_seconds=patch.cooldown_seconds,
        )
    cooldown_us = 0 if present is None else present.cooldown_us
    asked = wire.RatePolicy(
        rpm=kept(patch.rpm, None),
        per_second=kept(patch.per_second, None),
        burst=kept(patch.burst, None if present is None else present.burst),
        cooldown_seconds=kept(patch.cooldown_seconds, cooldown_us // SECOND) or 0,
    )
    return rate_of(asked, path)


def rate_view(rate: RatePolicy) -> RateView:
    return RateView(
        rpm=rate.per_minute_micro / MICRO,
        burst=rate.burst,
        cooldown_seconds=rate.cooldown_us // SECOND,
    )


# ---- views


def source_view(found: Kept, live: Mapping[tuple[Any, str], Any] | None = None) -> SourceView:
    """`live`: where the source's gates stand, by kind and id, in an answer to a read."""
    source = cast(Source, control_in(found))
    view = SourceView(
        source_id=found.name,
        source_type=source.source_type,
        host=source.host,
        connector_id=source.connector_id,
        capabilities=list(source.capabilities),
        auth_ref=source.auth_ref,
        rate_policy=None if source.rate_policy is None else rate_view(source.rate_policy),
        lock_key=source.lock_key,
        max_active=source.max_active,
        weight=source.weight,
        **_changed(found),
    )
    if live is not None:
        view.throttle = throttle_standing(live, found.name)
        state = live.get(("source", found.name), {})
        view.paused = state.get("paused", False)
        view.running = state.get("running", 0)
        view.breaker = live.get(("breaker", found.name), {}).get("position", "closed")
        view.running_max = live.get(("concurrency", found.name), {}).get("limit")
    return view


def throttle_key(source_id: str) -> str:
    """The key of the bucket of a source's throttle."""
    return f"throttle:{control_name('source', source_id)}"


def throttle_standing(live: Mapping[tuple[Any, str], Any], source_id: str) -> RateView | None:
    """The throttle of a source as its bucket says, where it has one."""
    bucket = live.get(("bucket", throttle_key(source_id)))
    return None if bucket is None else bucket_rate(bucket)


def bucket_rate(bucket: Mapping[str, Any]) -> RateView:
    """What a bucket with a rate was set to."""
    return rate_view(
        RatePolicy(
            per_minute_micro=bucket["perMinuteMicro"],
            burst=bucket["burst"] or 0,
            cooldown_us=bucket["cooldownUs"],
        )
    )


def quota_view(found: Kept) -> QuotaView:
    quota = cast(Quota, control_in(found))
    return QuotaView(
        quota_id=found.name,
        scope=cast(Any, quota.scope),
        key=quota.key or None,
        max_active=quota.max_active,
        max_per_hour=quota.max_per_hour,
        burst=quota.burst,
        paused=quota.paused,
        **_changed(found),
    )


def throttle_view(found: Kept) -> ThrottleView:
    throttle = cast(Throttle, control_in(found))
    return ThrottleView(
        scope=cast(Any, throttle.scope),
        key=throttle.key or None,
        rate=rate_view(throttle.rate),
        **_changed(found),
    )


def weight_view(found: Kept) -> WeightView:
    weight = cast(Weight, control_in(found))
    return WeightView(job_type=weight.key, weight=weight.weight, **_changed(found))


def blackout_view(found: Kept) -> BlackoutView:
    blackout = cast(Blackout, control_in(found))
    return BlackoutView(
        blackout_id=found.name,
        scope=cast(Any, str(blackout.scope)),
        key=blackout.key or None,
        calendar=[_rule_view(rule) for rule in blackout.calendar],
        drain=blackout.drain,
        reason=blackout.reason,
        **_changed(found),
    )


def calendar_of(rules: list[OneOffRule | CronRule]) -> tuple[Rule, ...]:
    """Raises `RefusedError` for an instant that is none."""
    return tuple(_rule(f"calendar[{number}]", rule) for number, rule in enumerate(rules))


def _rule(path: str, rule: OneOffRule | CronRule) -> Rule:
    if isinstance(rule, CronRule):
        return Recurring(cron=rule.cron, duration_us=rule.duration_seconds * SECOND, zone=rule.zone)
    return OneOff(
        start_at=_instant(f"{path}.startAt", rule.start_at),
        end_at=_instant(f"{path}.endAt", rule.end_at),
    )


def _rule_view(rule: Rule) -> OneOffRule | CronRule:
    if isinstance(rule, Recurring):
        return CronRule(rule.cron, rule.duration_us // SECOND, rule.zone)
    return OneOffRule(to_rfc3339(rule.start_at), to_rfc3339(rule.end_at))


def _instant(path: str, text: str) -> int:
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise invalid(path, str(error)) from None


def _changed(found: Kept) -> dict[str, Any]:
    at = found.at if isinstance(found, ControlRow) else found.changed_at
    return {"revision": found.revision, "changed_at": to_rfc3339(at)}
