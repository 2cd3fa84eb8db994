"""Limits of requests at the doors: who is counted, and how a refusal reads.

I1  Only a verified token or address is counted, so that nobody can use up another's requests.
I2  A request above a limit is refused before its body is read.

Not here: buckets (``core/request_limit``), workers' connections and frames (`worker_limits`), how
many connections and bytes there may be (`server`, `worker_door`).
"""

import math

import attrs

from jobengine.actors.node_state import LoadState
from jobengine.core.request_limit import Rate, RequestLimit, Verdict, take_of_all
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.settings import Settings

__all__ = [
    "RateLimits",
    "RequestGate",
    "headers_of",
    "headers_of_load",
    "rate_limits_of",
    "refusal_of",
]


@attrs.frozen(kw_only=True)
class RateLimits:
    """`token`, `tenant`: requests over HTTP. `connections`: handshakes of workers by token.
    `frames`: frames of one session."""

    token: Rate = attrs.field(default=Rate(2_500, 5_000))
    tenant: Rate = attrs.field(default=Rate(5_000, 10_000))
    connections: Rate = attrs.field(default=Rate(500, 5_000))
    frames: Rate = attrs.field(default=Rate(10_000, 40_000))


def rate_limits_of(settings: Settings) -> RateLimits:
    """The limits that the settings ask for."""
    return RateLimits(
        token=Rate(settings.token_requests_per_s, settings.token_requests_burst),
        tenant=Rate(settings.tenant_requests_per_s, settings.tenant_requests_burst),
        connections=Rate(settings.token_connections_per_s, settings.token_connections_burst),
        frames=Rate(settings.session_frames_per_s, settings.session_frames_burst),
    )


class RequestGate:
    """Counts requests by token and by tenant."""

    def __init__(self, limits: RateLimits) -> None:
        self._tokens = RequestLimit(limits.token)
        self._tenants = RequestLimit(limits.tenant)

    def take(self, token: str, tenant_id: str, mono: float) -> Verdict:
        """The verdict nearer to its limit, of the token's and the tenant's."""
        verdicts = take_of_all([(self._tokens, token), (self._tenants, tenant_id)], mono)
        return min(verdicts, key=lambda one: (one.granted, one.remaining, -one.retry_s))


def headers_of(verdict: Verdict) -> dict[str, str]:
    """What a client is told of the limit; `Reset` is in seconds from now."""
    return {
        "X-RateLimit-Limit": str(verdict.limit),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Reset": str(math.ceil(verdict.full_s)),
    }


def headers_of_load(load: LoadState) -> dict[str, str]:
    """What a producer is told of the load; nothing while it is normal."""
    return {} if load.level == "normal" else {"X-JobEngine-Load": load.level}


def refusal_of(verdict: Verdict, what: str) -> RefusedError:
    """To raise when `what` was not granted."""
    after_s = max(1, math.ceil(verdict.retry_s))
    return RefusedError(
        Refusal(
            ErrorCode.RATE_LIMITED,
            f"too many {what}; come again in {after_s} s",
            {"retryAfterSeconds": after_s},
        )
    )
