"""What a closed gate says of itself, in words that name what was seen, what is allowed and why."""

from typing import Final

from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.refill import TOKEN
from jobengine.domain.instant import to_rfc3339
from jobengine.messages.rate_bucket import Denial

__all__ = ["hour_denial", "nothing_denial", "number", "token_denial", "unknown"]

_MILLION: Final = 1_000_000


def number(micro: int) -> str:
    """Millionths as a decimal number, rounded down to two digits when it is 1 or more."""
    whole, part = divmod(micro, _MILLION)
    if whole:
        part = part // 10_000 * 10_000
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".") if part else str(whole)


def unknown(key: str) -> Denial:
    return Denial(
        gate="rate",
        key=key,
        observed="no limit",
        limit="a limit",
        opens_at=None,
        message=f"{key} is not configured, so nothing that needs it may start",
    )


def nothing_denial(bucket: Bucket) -> Denial:
    key = bucket.limit.key
    return Denial(
        gate=bucket.limit.gate,
        key=key,
        observed="no rate policy",
        limit="a rate policy",
        opens_at=None,
        message=f"{key} has no rate policy, and without one nothing starts: set its ratePolicy"
        " (rpm, burst)",
    )


def token_denial(bucket: Bucket, need: int, ahead: int, opens_at: int | None, drift: int) -> Denial:
    """``ahead``: units set aside for those that queue before."""
    limit = bucket.limit
    rate, burst = f"{number(bucket.rate())} a minute", f"{limit.burst or 0} at once"
    wanted = need // TOKEN
    if need > (limit.burst or 0) * TOKEN:
        why = f"it costs {wanted}, more than the burst of {limit.key} ever holds: raise the burst"
    elif opens_at is None:
        why = f"{limit.key} is refilled with nothing"
    elif bucket.settled_at < bucket.open_at:
        why = f"{limit.key} was pushed back: nothing starts before {_text(bucket.open_at, drift)}"
    elif ahead:
        why = f"{limit.key}: others that were first take what comes in"
    else:
        why = f"{limit.key} has too few tokens, {wanted} needed"
    learned = "" if bucket.learned is None else f", learned from {number(_configured(bucket))}"
    return Denial(
        gate=limit.gate,
        key=limit.key,
        observed=f"{number(bucket.units * _MILLION // TOKEN)} tokens",
        limit=f"{rate}{learned}, {burst}",
        opens_at=None if opens_at is None else opens_at + drift,
        message=why,
        of_request=need > (limit.burst or 0) * TOKEN,
    )


def hour_denial(bucket: Bucket, count: int, opens_at: int | None, drift: int) -> Denial:
    limit = bucket.limit
    why = f"{limit.key} had {count} starts in an hour"
    if opens_at is None:
        why = f"{limit.key} allows no start at all"
    return Denial(
        gate="quota_hour",
        key=limit.key,
        observed=f"{count} starts in an hour",
        limit=f"{limit.hour_max} starts in any hour",
        opens_at=None if opens_at is None else opens_at + drift,
        message=why,
    )


def _configured(bucket: Bucket) -> int:
    return bucket.limit.per_minute_micro or 0


def _text(at: int, drift: int) -> str:
    return to_rfc3339(at + drift)
