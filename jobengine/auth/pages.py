"""Page tokens: where a list goes on, signed so that a client can neither make one up nor carry it
to another tenant, list or filter.

Form: base64url(Ed25519 signature ‖ JSON of the cursor). The signature covers what the token is
bound to, which therefore needs no room in it, behind words that no other signature of these keys
begins with.

I1  A token opens as long as the key that signed it is in the ring. It allows nothing by itself (who
    asks, and for which tenant, is judged at every request), so a retired key's date is of no
    concern here, and a list that is being read goes on across a rotation and a restart.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jobengine.auth.keys import KeyRing

__all__ = ["PageTokenInvalid", "PageTokens"]

T = TypeVar("T")

_PURPOSE: Final = b"jobengine page token\n"
_SIGNATURE_BYTES: Final = 64
_TOKEN_CHARACTERS_MAX: Final = 1_024


class PageTokenInvalid(Exception):
    """Not a token that was given for this tenant, list and filter."""


class PageTokens:
    """Seals and opens the cursors of one engine. ``ring`` gives its keys as they are now;
    ``bound_to`` is (tenant, list, filter …)."""

    def __init__(self, ring: Callable[[], KeyRing]) -> None:
        self._ring = ring

    def seal(self, bound_to: Sequence[str], cursor: Any) -> str:
        """A token for a cursor (anything that JSON can hold)."""
        text = msgspec.json.encode(cursor)
        signature = self._ring().signer.sign(_signed(bound_to, text))
        return base64.urlsafe_b64encode(signature + text).decode().rstrip("=")

    def open(self, bound_to: Sequence[str], token: str, kind: type[T]) -> T:
        """The cursor in a token. Raises `PageTokenInvalid`."""
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise PageTokenInvalid
        try:
            sealed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise PageTokenInvalid from None
        signature, text = sealed[:_SIGNATURE_BYTES], sealed[_SIGNATURE_BYTES:]
        signed = _signed(bound_to, text)
        if not any(_has_signed(key, signature, signed) for key in self._keys()):
            raise PageTokenInvalid
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError:
            raise PageTokenInvalid from None

    def _keys(self) -> Iterator[Ed25519PublicKey]:
        ring = self._ring()
        yield ring.signer.public_key()
        for old in reversed(ring.retired):
            yield old.key


def _signed(bound_to: Sequence[str], text: bytes) -> bytes:
    # Encoded as JSON, the parts cannot run into each other.
    return _PURPOSE + msgspec.json.encode(list(bound_to)) + b"\n" + text


def _has_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
