"""Whom a bearer's claims speak for: subject, tenants, scopes, and from when until when.

I1  Several claims that name tenants must agree: what all of them name is allowed, never their sum.
I2  Instants are judged by the caller's clock; a claim of another form than its own is refused.
I3  A message names the claim at fault and never quotes a value of it.

Sources: RFC 7519 §4 (claims), RFC 8693 §4.2 (``scope``), RFC 9068 (access tokens).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from jobengine.auth.scopes import ROLES, Scope, scopes_of
from jobengine.domain.instant import SECOND, to_rfc3339

__all__ = ["ClaimNames", "Identity", "TokenInvalidError", "identity_of"]

_EXP_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""
_NAMES_MAX: Final = 1_000
_NAME_CHARACTERS_MAX: Final = 256
_KNOWN: Final = frozenset({*map(str, Scope), *ROLES})


class TokenInvalidError(Exception):
    """The bearer proves nothing; the message says why without quoting it."""


@attrs.frozen(kw_only=True)
class Identity:
    """Whom a bearer speaks for. ``expires_at``: UTC microseconds."""

    subject: str
    tenants: frozenset[str]
    scopes: frozenset[str]
    token_id: str
    expires_at: int


@attrs.frozen(kw_only=True)
class ClaimNames:
    """Where an issuer says what; every claim that is there counts."""

    scopes: Sequence[str] = ("scope", "scp")
    roles: Sequence[str] = ("roles",)
    tenants: Sequence[str] = ("tenant", "tenants", "stella:tenant")


def identity_of(
    claims: Mapping[str, Any],
    names: ClaimNames,
    now_at: int,
    *,
    fallback_id: str,
    leeway_us: int = 0,
    foreign_scopes: bool = False,
) -> Identity:
    """The identity that verified claims give.

    ``fallback_id`` names a token without ``jti``. With ``foreign_scopes`` names that are no scope
    of ours are passed over, as an issuer for many services uses them; else they are refused.

    Raises `TokenInvalidError`; expiry is left to the caller, who judges it at every use.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _NAME_CHARACTERS_MAX:
        raise TokenInvalidError("the claim sub is not a text of 1 to 256 characters")
    expires_at = _instant(claims, "exp")
    if expires_at is None:
        raise TokenInvalidError("the token lacks the claim exp")
    not_before_at = _instant(claims, "nbf")
    if not_before_at is not None and not_before_at > now_at + leeway_us:
        raise TokenInvalidError(f"the token is not valid before {to_rfc3339(not_before_at)}")
    given = _names(claims, (*names.scopes, *names.roles))
    try:
        scopes = scopes_of(name for name in given if not foreign_scopes or name in _KNOWN)
    except ValueError:
        raise TokenInvalidError("the token names an unknown scope or role") from None
    token_id = claims.get("jti")
    if token_id is not None and (
        not isinstance(token_id, str) or not 0 < len(token_id) <= _NAME_CHARACTERS_MAX
    ):
        raise TokenInvalidError("the claim jti is not a text of 1 to 256 characters")
    return Identity(
        subject=subject,
        tenants=_tenants(claims, names.tenants),
        scopes=scopes,
        token_id=token_id or fallback_id,
        expires_at=expires_at + leeway_us,
    )


def _instant(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate as microseconds. RFC 7519 allows fractions, which some issuers send."""
    value = claims.get(name)
    if value is None:
        return None
    # A comparison with NaN is false, so NaN and the infinities are refused here too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _EXP_MAX:
        raise TokenInvalidError(f"the claim {name} is not a number of seconds since 1970")
    return round(value * SECOND)


def _names(claims: Mapping[str, Any], of: Sequence[str]) -> list[str]:
    found: list[str] = []
    for claim in of:
        value = claims.get(claim)
        if value is not None:
            found += _listed(value.split() if isinstance(value, str) else value, claim)
    return found


def _tenants(claims: Mapping[str, Any], of: Sequence[str]) -> frozenset[str]:
    said = []
    for claim in of:
        value = claims.get(claim)
        if value is not None:
            said.append(frozenset(_listed([value] if isinstance(value, str) else value, claim)))
    if not said:
        return frozenset()
    allowed = frozenset.intersection(*said)
    if not allowed and any(said):
        raise TokenInvalidError("the claims that name tenants disagree")
    return allowed


def _listed(value: object, claim: str) -> list[str]:
    if (
        not isinstance(value, list)
        or len(value) > _NAMES_MAX
        or not all(
            isinstance(name, str) and 0 < len(name) <= _NAME_CHARACTERS_MAX for name in value
        )
    ):
        raise TokenInvalidError(f"the claim {claim} is not a text or a list of texts")
    return value
