"""Bearer tokens: JWTs (RFC 7519) signed with the engine's Ed25519 key (EdDSA, RFC 8037).

I1  A token counts only if it names the algorithm EdDSA and this key has signed it.
I2  Expiry is judged at every call by the caller's clock, for a token seen before as well.
I3  No error and no log line holds a token or a part of one.

A verified token is remembered by its digest, so that a client pays for its signature once.

Not here: which tenant or scope a request needs (the doors).
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.auth.scopes import scopes_of
from jobengine.domain.instant import SECOND, to_rfc3339

__all__ = ["Identity", "TokenInvalid", "Tokens"]

_ALGORITHM: Final = "EdDSA"
_ISSUER: Final = "jobengine"
_TOKEN_CHARACTERS_MAX: Final = 8_192
_TENANT_CHARACTERS_MAX: Final = 128
_EXP_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""


class TokenInvalid(Exception):
    """The token proves nothing; the message says why without quoting it."""


@attrs.frozen(kw_only=True)
class Identity:
    """Whom a token speaks for. ``expires_at``: UTC microseconds."""

    subject: str
    tenants: frozenset[str]
    scopes: frozenset[str]
    token_id: str
    expires_at: int


class Tokens:
    """Issues and verifies tokens of one key. Belongs to one thread."""

    def __init__(self, key: Ed25519PrivateKey, remembered_max: int = 4_096) -> None:
        self._private = key
        self._public = key.public_key()
        self._key_id = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]
        self._jwt = jwt.PyJWT()
        self._remembered_max = remembered_max
        self._known: OrderedDict[bytes, Identity] = OrderedDict()

    def issue(
        self, tenant: str, scopes: Iterable[str], subject: str, ttl_s: int, now_at: int
    ) -> str:
        """A token for one tenant; ``scopes`` may name roles.

        Raises `ValueError` for an unknown scope, an empty name, or a lifetime below one second.
        """
        if not tenant or len(tenant) > _TENANT_CHARACTERS_MAX or not subject:
            raise ValueError("tenant (at most 128 characters) and subject must not be empty")
        if ttl_s < 1:
            raise ValueError("a token lives for one second at least")
        issued_s = now_at // SECOND
        claims = {
            "iss": _ISSUER,
            "sub": subject,
            "tenants": [tenant],
            "scope": " ".join(sorted(scopes_of(scopes))),
            "iat": issued_s,
            "exp": issued_s + ttl_s,
            "jti": secrets.token_hex(12),
        }
        return self._jwt.encode(
            claims, self._private, algorithm=_ALGORITHM, headers={"kid": self._key_id}
        )

    def verify(self, token: str, now_at: int) -> Identity:
        """Whom the token speaks for, at this instant.

        Raises:
            TokenInvalid: malformed, of another algorithm or key, expired, or not valid yet.
        """
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise TokenInvalid("the token is too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        identity = self._known.get(digest)
        if identity is None:
            identity = _identity(self._claims(token), now_at)
            self._remember(digest, identity)
        else:
            self._known.move_to_end(digest)
        if identity.expires_at <= now_at:
            self._known.pop(digest, None)
            raise TokenInvalid(f"the token expired at {to_rfc3339(identity.expires_at)}")
        return identity

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._known[digest] = identity
        if len(self._known) > self._remembered_max:
            self._known.popitem(last=False)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            # PyJWT would ask the system's clock; instants are judged here, by the caller's.
            claims: dict[str, Any] = self._jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={
                    "require": ["exp", "iss", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidAlgorithmError:
            raise TokenInvalid(f"the token is not signed with {_ALGORITHM}") from None
        except jwt.InvalidSignatureError:
            raise TokenInvalid("the token is not signed by this engine's key") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenInvalid(f"the token lacks the claim {error.claim}") from None
        except jwt.InvalidIssuerError:
            raise TokenInvalid("the token has another issuer") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise TokenInvalid("the token is malformed") from None
        return claims


def _identity(claims: dict[str, Any], now_at: int) -> Identity:
    not_before = claims.get("nbf", 0)
    if type(not_before) is not int or not_before * SECOND > now_at:
        raise TokenInvalid("the token is not valid yet")
    expires = claims["exp"]
    if type(expires) is not int or not 0 <= expires <= _EXP_MAX:
        raise TokenInvalid("the claim exp is not a number of seconds since 1970")
    scope = claims.get("scope", "")
    roles = claims.get("roles", [])
    tenants = claims.get("tenants", [])
    if not isinstance(scope, str) or not _are_names(roles) or not _are_names(tenants):
        raise TokenInvalid("the claims scope, roles or tenants have another form")
    try:
        scopes = scopes_of([*scope.split(), *roles])
    except ValueError:
        raise TokenInvalid("the token names an unknown scope or role") from None
    return Identity(
        subject=str(claims["sub"]),
        tenants=frozenset(tenants),
        scopes=scopes,
        token_id=str(claims.get("jti", "")),
        expires_at=expires * SECOND,
    )


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
