"""What browsers are told: which origins may read answers, and what a page may not do with them; and
what the settings make of the redactor.

Who asks is known by the Authorization header alone, never by a cookie, which is why a foreign page
cannot act in somebody's name (no CSRF) and why credentials are not a part of CORS here.

I1  Without an allowed origin no answer carries `Access-Control-…`; origins are compared whole.
I2  With allowed origins every answer says `Vary: Origin`, whether or not this one was allowed.
I3  `Strict-Transport-Security` is said over TLS alone (RFC 6797 §7.2), and of this host alone.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import attrs

from jobengine import __version__
from jobengine.domain.redaction import Redactor
from jobengine.settings import Settings

__all__ = ["SECURITY_HEADERS", "Cors", "origins_of", "redactor_of", "standing_headers"]

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer; a page that loads something states a policy of its own."""

_HSTS: Final = "max-age=31536000"

_METHODS: Final = "DELETE, GET, HEAD, PATCH, POST, PUT"
_ASKED: Final = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-None-Match, If-Range, "
    "Last-Event-ID, Range, Repr-Digest, traceparent, X-Correlation-Id, "
    "X-Stella-Operator-Reason, X-Stella-Operator-Ticket, X-Stella-Project, X-Stella-Tenant"
)
_TOLD: Final = (
    "Cache-Status, Content-Disposition, Content-Range, Deprecation, ETag, Idempotent-Replayed, "
    "Link, Location, Repr-Digest, Retry-After, Sunset, X-FirstSignal-Source, X-JobEngine-Backlog, "
    "X-JobEngine-Load, X-JobEngine-Version, X-Next-Page-Token, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
_PREFLIGHT_S: Final = "600"


def standing_headers(*, tls: bool) -> dict[str, str]:
    """Of every answer, whoever makes it; `tls`: this listener speaks nothing else."""
    headers = {**SECURITY_HEADERS, "X-JobEngine-Version": __version__}
    return headers | {"Strict-Transport-Security": _HSTS} if tls else headers


def origins_of(text: str) -> frozenset[str]:
    """The origins of a list with commas. Raises `ValueError` naming what is none."""
    origins = frozenset(one.strip() for one in text.split(",") if one.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if f"{parts.scheme}://{parts.netloc}" != origin or not _is_site(parts.scheme, parts.netloc):
            raise ValueError(f"{origin} is no origin, such as https://console.example.com")
    return origins


def _is_site(scheme: str, netloc: str) -> bool:
    return scheme in ("http", "https") and bool(netloc) and not set(netloc) & set("*@ ")


@attrs.frozen
class Cors:
    """`origins`: those whose pages may read answers, exactly as browsers send them."""

    origins: frozenset[str] = frozenset()

    def headers(self, header: Callable[[str], str | None]) -> dict[str, str]:
        """For the answer to any request."""
        if not self.origins:
            return {}
        origin = header("Origin")
        if origin not in self.origins or origin is None:
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _TOLD,
        }

    def preflight(self, header: Callable[[str], str | None]) -> dict[str, str] | None:
        """The headers that grant a preflight (beside `headers`); None when it is none of ours."""
        if header("Access-Control-Request-Method") is None or header("Origin") not in self.origins:
            return None
        return {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _ASKED,
            "Access-Control-Max-Age": _PREFLIGHT_S,
        }


def redactor_of(settings: Settings) -> Redactor:
    """The redactor that the settings ask for."""
    names = (name.strip() for name in (settings.redact_names or "").split(","))
    return Redactor(
        names=frozenset(name for name in names if name),
        shape=re.compile(settings.redact_pattern) if settings.redact_pattern else None,
        payloads=settings.redact_payloads == "on",
    )
