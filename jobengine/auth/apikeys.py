"""API keys: bearers for machines that outlive a token, kept only as digests.

Form: ``jek_<prefix>_<secret>``; the prefix is public and names the key, the secret holds 256 bits.

I1  What is stored is the SHA-256 of the whole key. A slow hash would protect a secret that somebody
    could guess; 256 random bits cannot be guessed at any speed, and a slow hash at every request
    would be a gift to whoever wants to keep the engine busy.
I2  Digests are compared in constant time, and an unknown prefix costs as much as a wrong secret.

Not here: who may make one (the doors), how it is stored (``store``).
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Final

import attrs

from jobengine.auth.claims import Identity, TokenInvalidError
from jobengine.domain.change import ApiKeyRow
from jobengine.domain.instant import DAY, to_rfc3339

__all__ = ["SCHEME", "ApiKeys", "NewApiKey", "new_api_key"]

SCHEME: Final = "jek_"
_FORM: Final = re.compile(r"jek_([a-z2-7]{16})_[A-Za-z0-9_-]{43}")
_PREFIX_BYTES: Final = 10
_SECRET_BYTES: Final = 32
_NEVER: Final = 253_402_300_799_000_000
_NOBODYS: Final = "0" * 64


@attrs.frozen
class NewApiKey:
    """``text`` is shown once and never again; ``digest`` is what is kept."""

    text: str = attrs.field(repr=False)
    prefix: str
    digest: str


def new_api_key() -> NewApiKey:
    prefix = base64.b32encode(secrets.token_bytes(_PREFIX_BYTES)).decode().lower()
    text = f"{SCHEME}{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewApiKey(text, prefix, _digest(text))


class ApiKeys:
    """The keys of an installation, in memory. Belongs to one thread."""

    def __init__(self) -> None:
        self._rows: dict[str, ApiKeyRow] = {}
        self.live: Counter[str] = Counter()
        """Keys that are not revoked, by tenant."""
        self._used: dict[tuple[str, str], int] = {}

    def take(self, rows: Iterable[ApiKeyRow]) -> None:
        """These keys are as their rows say."""
        for row in rows:
            before = self._rows.get(row.prefix)
            was_live = before is not None and before.revoked_at is None
            self.live[row.tenant_id] += (row.revoked_at is None) - was_live
            self._rows[row.prefix] = row

    def take_used(self) -> dict[tuple[str, str], int]:
        """The (tenant, prefix) of keys used on a day for the first time, with the day's start.

        Each is handed out once.
        """
        used, self._used = self._used, {}
        return used

    def verify(self, text: str, now_at: int) -> Identity:
        """Whom the key speaks for, at this instant. Raises `TokenInvalidError`."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise TokenInvalidError("the API key is malformed")
        row = self._rows.get(match[1])
        kept = _NOBODYS if row is None else row.digest or _NOBODYS
        if not hmac.compare_digest(kept, _digest(text)) or row is None:
            raise TokenInvalidError("the API key is not known here")
        if row.revoked_at is not None:
            raise TokenInvalidError(f"the API key was revoked at {to_rfc3339(row.revoked_at)}")
        if row.expires_at is not None and row.expires_at <= now_at:
            raise TokenInvalidError(f"the API key expired at {to_rfc3339(row.expires_at)}")
        self._note_use(row, now_at)
        return Identity(
            subject=_subject(row.prefix),
            tenants=frozenset({row.tenant_id}),
            scopes=frozenset(row.scopes),
            token_id=row.prefix,
            expires_at=_NEVER if row.expires_at is None else row.expires_at,
        )

    def is_revoked(self, tenant_id: str, identity: Identity) -> bool:
        """Whether this identity is that of a key of the tenant which was revoked meanwhile."""
        row = self._rows.get(identity.token_id)
        return (
            row is not None
            and row.revoked_at is not None
            and row.tenant_id == tenant_id
            and identity.subject == _subject(row.prefix)
        )

    def _note_use(self, row: ApiKeyRow, now_at: int) -> None:
        today = now_at - now_at % DAY
        if row.last_used_day_at is None or row.last_used_day_at < today:
            row.last_used_day_at = today
            self._used[row.tenant_id, row.prefix] = today


def _subject(prefix: str) -> str:
    return f"apikey:{prefix}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
