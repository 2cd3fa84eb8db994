"""Page tokens: where a list goes on, sealed so that a client can neither read a meaning into it
nor carry it to another tenant, list or filter.

Form: base64url(HMAC-SHA256 cut to 128 bits ‖ JSON of the cursor). The HMAC covers what the token
is bound to, which therefore needs no room in it.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.auth.keys import derived_secret

__all__ = ["PageTokenInvalid", "PageTokens"]

T = TypeVar("T")

_MAC_BYTES = 16
_TOKEN_CHARACTERS_MAX = 1_024


class PageTokenInvalid(Exception):
    """Not a token that was given for this tenant, list and filter."""


class PageTokens:
    """Seals and opens the cursors of one engine. ``bound_to`` is (tenant, list, filter …)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._secret = derived_secret(key, "jobengine page tokens")

    def seal(self, bound_to: Sequence[str], cursor: Any) -> str:
        """A token for a cursor (anything that JSON can hold)."""
        text = msgspec.json.encode(cursor)
        return base64.urlsafe_b64encode(self._mac(bound_to, text) + text).decode().rstrip("=")

    def open(self, bound_to: Sequence[str], token: str, kind: type[T]) -> T:
        """The cursor in a token. Raises `PageTokenInvalid`."""
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise PageTokenInvalid
        try:
            sealed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise PageTokenInvalid from None
        mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(bound_to, text)):
            raise PageTokenInvalid
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError:
            raise PageTokenInvalid from None

    def _mac(self, bound_to: Sequence[str], text: bytes) -> bytes:
        # Encoded as JSON, the parts cannot run into each other.
        bound = msgspec.json.encode(list(bound_to))
        return hmac.digest(self._secret, bound + b"\n" + text, hashlib.sha256)[:_MAC_BYTES]
