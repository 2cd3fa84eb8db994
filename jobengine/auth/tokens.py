"""The engine's own issuer: JWTs signed with its Ed25519 key (EdDSA, RFC 8037).

I1  A token counts only if it names a key of the ring (``kid``) and that key has signed it.
I2  Expiry is judged at every call by the caller's clock, for a token seen before as well; so is the
    time until which a retired key is accepted.
I3  No error and no log line holds a token or a part of one.

Not here: other issuers, API keys, revocation (`authenticator`), which tenant or scope a request
needs (the doors).
"""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jobengine.auth.claims import ClaimNames, Identity, TokenInvalidError, identity_of
from jobengine.auth.keys import KeyRing, key_id_of
from jobengine.auth.scopes import scopes_of
from jobengine.auth.seen import SeenTokens
from jobengine.auth.signatures import read_unverified, signed_id, verified_claims
from jobengine.domain.instant import SECOND, to_rfc3339

__all__ = ["ISSUER", "Identity", "TokenInvalidError", "Tokens"]

ISSUER: Final = "jobengine"
_ALGORITHM: Final = "EdDSA"
_TENANT_CHARACTERS_MAX: Final = 128
_SUBJECT_CHARACTERS_MAX: Final = 256
_FOR_EVER: Final = 1 << 62
_CLAIMS: Final = ClaimNames(scopes=("scope",), roles=("roles",), tenants=("tenants",))


class Tokens:
    """Issues and verifies tokens of one key ring. Belongs to one thread."""

    def __init__(self, key: Ed25519PrivateKey | KeyRing, remembered_max: int = 4_096) -> None:
        self._seen = SeenTokens(remembered_max)
        self._jwt = jwt.PyJWT()
        self._ring = KeyRing(key) if isinstance(key, Ed25519PrivateKey) else key
        self._accepted: dict[str, tuple[Ed25519PublicKey, int]] = {}
        self.take(self._ring)

    def take(self, ring: KeyRing) -> None:
        """Go on with these keys."""
        self._ring = ring
        accepted = {key_id_of(old.key): (old.key, old.until_at) for old in ring.retired}
        public = ring.signer.public_key()
        self._accepted = accepted | {key_id_of(public): (public, _FOR_EVER)}
        self._seen.clear()

    def ring(self) -> KeyRing:
        """The keys in use now."""
        return self._ring

    def jwks(self, now_at: int) -> dict[str, Any]:
        """The public keys that verify at this instant, as a JWK set."""
        return self._ring.jwks(now_at)

    def issue(
        self, tenant: str, scopes: Iterable[str], subject: str, ttl_s: int, now_at: int
    ) -> str:
        """A token for one tenant; ``scopes`` may name roles.

        Raises `ValueError` for an unknown scope, an empty or too long name, or a lifetime below one
        second.
        """
        if not 0 < len(tenant) <= _TENANT_CHARACTERS_MAX:
            raise ValueError("tenant: 1 to 128 characters")
        if not 0 < len(subject) <= _SUBJECT_CHARACTERS_MAX:
            raise ValueError("subject: 1 to 256 characters")
        if ttl_s < 1:
            raise ValueError("a token lives for one second at least")
        issued_s = now_at // SECOND
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "tenants": [tenant],
            "scope": " ".join(sorted(scopes_of(scopes))),
            "iat": issued_s,
            "exp": issued_s + ttl_s,
            "jti": secrets.token_hex(12),
        }
        signer = self._ring.signer
        headers = {"kid": key_id_of(signer.public_key())}
        return self._jwt.encode(claims, signer, algorithm=_ALGORITHM, headers=headers)

    def recall(self, digest: bytes, now_at: int) -> Identity | None:
        """Whom a token with this SHA-256 speaks for, when it was verified not long ago."""
        return self._seen.find(digest, now_at)

    def verify(self, token: str, now_at: int) -> Identity:
        """Whom the token speaks for, at this instant.

        Raises:
            TokenInvalidError: malformed, of another issuer, algorithm or key, expired, or not valid
                yet.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        identity = self._seen.find(digest, now_at)
        if identity is not None:
            return identity
        said = read_unverified(token)
        if said.issuer != ISSUER:
            raise TokenInvalidError("the token has another issuer")
        if not said.key_id:
            raise TokenInvalidError("the token's header names no key (kid)")
        key, until_at = self._accepted.get(said.key_id, (None, 0))
        if key is None:
            raise TokenInvalidError("the token names a key (kid) that is not this engine's")
        if until_at <= now_at:
            raise TokenInvalidError(f"the token's key was retired at {to_rfc3339(until_at)}")
        claims = verified_claims(token, _ALGORITHM, key)
        identity = identity_of(claims, _CLAIMS, now_at, fallback_id=signed_id(token))
        if identity.expires_at <= now_at:
            raise TokenInvalidError(f"the token expired at {to_rfc3339(identity.expires_at)}")
        self._seen.remember(digest, identity, min(identity.expires_at, until_at))
        return identity
