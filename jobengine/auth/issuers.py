"""Tokens of an external issuer: an identity provider whose public keys we were told of.

I1  A token counts only for the configured issuer and audience, under the algorithm of its key.
I2  Between a change of the keys and the next call lies no token that only an old key had signed.

Not here: where keys come from (`jwks_source`), revocation (`authenticator`).
"""

from typing import Any, Final

import attrs

from jobengine.auth.claims import ClaimNames, Identity, TokenInvalidError, identity_of
from jobengine.auth.jwk import VerifyingKey
from jobengine.auth.jwks_source import JwksSource
from jobengine.auth.seen import SeenTokens
from jobengine.auth.signatures import Unverified, signed_id, verified_claims
from jobengine.auth.tokens import ISSUER
from jobengine.domain.instant import SECOND, to_rfc3339

__all__ = ["ExternalIssuer", "IssuerRules"]

_REMEMBERED_MAX: Final = 4_096


@attrs.frozen(kw_only=True)
class IssuerRules:
    """``leeway_s``: how far the issuer's clock may be from ours."""

    issuer: str
    audience: str
    leeway_s: int = 30
    claims: ClaimNames = attrs.field(factory=ClaimNames)

    def __attrs_post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise ValueError("an external issuer needs an issuer and an audience")
        if self.issuer == ISSUER:
            raise ValueError(f"{ISSUER!r} is the issuer of the engine's own tokens")


class ExternalIssuer:
    """Verifies the tokens of one issuer. Belongs to one thread."""

    def __init__(self, rules: IssuerRules, source: JwksSource) -> None:
        self.rules = rules
        self.source = source
        self._seen = SeenTokens(_REMEMBERED_MAX)
        source.changed = self._seen.clear

    def recall(self, digest: bytes, now_at: int) -> Identity | None:
        """Whom a token with this SHA-256 speaks for, when it was verified not long ago."""
        return self._seen.find(digest, now_at)

    async def verify(self, token: str, digest: bytes, said: Unverified, now_at: int) -> Identity:
        """Whom the token speaks for, at this instant; waits for keys only when its key is unknown.

        Raises `TokenInvalidError`.
        """
        key = self._key(said)
        if key is None:
            await self.source.refresh_for_unknown_key()
            key = self._key(said)
        if key is None:
            raise TokenInvalidError(
                "the token names a key (kid) that its issuer does not publish"
                if self.source.keys
                else "the keys of the token's issuer are not available now"
            )
        if said.algorithm != key.algorithm:
            raise TokenInvalidError(
                f"the token is not signed with {key.algorithm}, as its key is for"
            )
        claims = verified_claims(token, key.algorithm, key.key)
        identity = self._identity(claims, signed_id(token), now_at)
        self._seen.remember(digest, identity, identity.expires_at)
        return identity

    def _key(self, said: Unverified) -> VerifyingKey | None:
        """The key that a token names; without a name, the only one of its algorithm."""
        if said.key_id:
            found = [key for key in self.source.keys if key.key_id == said.key_id]
        else:
            found = [key for key in self.source.keys if key.algorithm == said.algorithm]
        return found[0] if len(found) == 1 else None

    def _identity(self, claims: dict[str, Any], token_id: str, now_at: int) -> Identity:
        rules = self.rules
        if claims.get("iss") != rules.issuer:
            raise TokenInvalidError("the token has another issuer")
        audience = claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenInvalidError("the token is for another audience (aud)")
        identity = identity_of(
            claims,
            rules.claims,
            now_at,
            fallback_id=token_id,
            leeway_us=rules.leeway_s * SECOND,
            foreign_scopes=True,
        )
        if identity.expires_at <= now_at:
            ended_at = identity.expires_at - rules.leeway_s * SECOND
            raise TokenInvalidError(f"the token expired at {to_rfc3339(ended_at)}")
        return identity
