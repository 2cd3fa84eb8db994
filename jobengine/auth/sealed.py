"""Sealed values: what a client is given to bring back, signed so that nobody else can make one up
or carry it to where it is not meant for.

Form: base64url(Ed25519 signature ‖ JSON of the value). The signature covers the purpose and what
the value is bound to as well, which therefore need no room in it; no other signature of these keys
begins with those words.

I1  A seal opens as long as the key that made it is in the ring, whatever date a retired key bears:
    what is in use goes on across a rotation and a restart.
I2  A seal of one purpose opens for no other, and bound to one thing for no other.

Not here: what a value allows (whoever opens it), tokens that speak for somebody (``tokens``).
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jobengine.auth.keys import KeyRing

__all__ = ["CALLBACKS", "PAGES", "Seal", "SealBrokenError"]

T = TypeVar("T")

PAGES: Final = "page token"
"""Where a list goes on; bound to tenant, list and filter."""
CALLBACKS: Final = "callback"
"""Which node of which run a call from outside may end; the value says it all."""

_SIGNATURE_BYTES: Final = 64
_CHARACTERS_MAX: Final = 16_384
"""Above what the longest name that a list is sorted by comes to, its characters escaped; heads of
requests are bounded at twice that."""


class SealBrokenError(Exception):
    """Not a seal of this engine, for this purpose and what it is to be bound to."""


class Seal:
    """Seals and opens values for one purpose. ``ring`` gives the keys as they are now."""

    def __init__(self, ring: Callable[[], KeyRing], purpose: str) -> None:
        self._ring = ring
        self._head = f"jobengine {purpose}\n".encode()

    def seal(self, bound_to: Sequence[str], value: Any) -> str:
        """A text for a value (anything that JSON can hold)."""
        text = msgspec.json.encode(value)
        signature = self._ring().signer.sign(self._signed(bound_to, text))
        return base64.urlsafe_b64encode(signature + text).decode().rstrip("=")

    def open(self, bound_to: Sequence[str], sealed: str, kind: type[T]) -> T:
        """The value in a text. Raises `SealBrokenError`."""
        if len(sealed) > _CHARACTERS_MAX:
            raise SealBrokenError
        try:
            whole = base64.urlsafe_b64decode(sealed.encode("ascii") + b"=" * (-len(sealed) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise SealBrokenError from None
        signature, text = whole[:_SIGNATURE_BYTES], whole[_SIGNATURE_BYTES:]
        signed = self._signed(bound_to, text)
        if not any(_has_signed(key, signature, signed) for key in self._keys()):
            raise SealBrokenError
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError:
            raise SealBrokenError from None

    def _keys(self) -> Iterator[Ed25519PublicKey]:
        ring = self._ring()
        yield ring.signer.public_key()
        for old in reversed(ring.retired):
            yield old.key

    def _signed(self, bound_to: Sequence[str], text: bytes) -> bytes:
        # Encoded as JSON, the parts cannot run into each other.
        return self._head + msgspec.json.encode(list(bound_to)) + b"\n" + text


def _has_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
