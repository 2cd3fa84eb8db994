"""From a bearer to an identity, whatever kind of bearer it is, and whether it still counts.

I1  A bearer is judged by one issuer: the one it names. No other key is tried.
I2  A revocation counts for its tenant alone, from the moment it is known here, and is forgotten by
    the monotonic clock: a wall clock that is ahead for a moment brings no token back.

Not here: headers, tenants and scopes of a request (the doors), storage.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf

from jobengine.auth.apikeys import SCHEME, ApiKeys
from jobengine.auth.claims import Identity, TokenInvalidError
from jobengine.auth.issuers import ExternalIssuer
from jobengine.auth.signatures import read_unverified
from jobengine.auth.tokens import Tokens
from jobengine.domain.change import RevocationRow
from jobengine.domain.instant import SECOND, Moment

__all__ = ["Authenticator"]


class Authenticator:
    """Belongs to one thread."""

    def __init__(self, tokens: Tokens, issuers: Sequence[ExternalIssuer] = ()) -> None:
        self.tokens = tokens
        self.issuers = tuple(issuers)
        self.api_keys = ApiKeys()
        self._by_name = {issuer.rules.issuer: issuer for issuer in issuers}
        self._revoked: dict[tuple[str, str], float] = {}
        """Until when, in monotonic seconds."""
        self.endless: Counter[str] = Counter()
        """Revocations without an end, by tenant."""

    async def authenticate(self, bearer: str, now_at: int) -> Identity:
        """Whom the bearer speaks for, at this instant.

        Waits only for the keys of an external issuer, and only for a key not seen before. Raises
        `TokenInvalidError`.
        """
        if bearer.startswith(SCHEME):
            return self.api_keys.verify(bearer, now_at)
        if not self.issuers:
            return self.tokens.verify(bearer, now_at)
        digest = hashlib.sha256(bearer.encode("utf-8", "surrogateescape")).digest()
        identity = self._recall(digest, now_at)
        if identity is not None:
            return identity
        said = read_unverified(bearer)
        issuer = self._by_name.get(said.issuer)
        if issuer is None:
            return self.tokens.verify(bearer, now_at)
        return await issuer.verify(bearer, digest, said, now_at)

    def _recall(self, digest: bytes, now_at: int) -> Identity | None:
        found = self.tokens.recall(digest, now_at)
        for issuer in self.issuers:
            found = found or issuer.recall(digest, now_at)
        return found

    def revoke(self, rows: Iterable[RevocationRow], now: Moment) -> None:
        """These tokens count no more for their tenants."""
        for row in rows:
            left_s = inf if row.until_at is None else (row.until_at - now.at) / SECOND
            place = (row.tenant_id, row.token_id)
            self.endless[row.tenant_id] += (left_s == inf) - (self._revoked.get(place) == inf)
            self._revoked[place] = now.mono + left_s

    def forget_revoked(self, now: Moment) -> None:
        """Drop revocations that are over by now."""
        over = [key for key, until in self._revoked.items() if until <= now.mono]
        for key in over:
            del self._revoked[key]

    def check_revoked(self, identity: Identity, tenant_id: str) -> None:
        """Raises `TokenInvalidError` for a bearer that was revoked for this tenant."""
        if (tenant_id, identity.token_id) in self._revoked:
            raise TokenInvalidError("the token was revoked")
        if self.api_keys.is_revoked(tenant_id, identity):
            raise TokenInvalidError("the API key was revoked")
