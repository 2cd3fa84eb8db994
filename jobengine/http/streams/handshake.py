"""The opening handshake of a stream's WebSocket (RFC 6455 §4.2), on a request that has been read.

A page cannot set headers on the handshake of a WebSocket, but it can offer subprotocols; so the
bearer and the tenant may be offered as such. They are never echoed.

I1  What is given in both ways, or twice, is refused: it means one thing.

Not here: whether the headers are those of a handshake at all (`http1`), frames (`socket_form`).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from jobengine.domain.errors import RefusedError
from jobengine.http.errors import invalid
from jobengine.wire.streams import STREAM_SUBPROTOCOL

__all__ = ["BEARER_PREFIX", "TENANT_PREFIX", "Handshake"]

BEARER_PREFIX: Final = "jobengine.bearer."
TENANT_PREFIX: Final = "jobengine.tenant."
"""What follows is the tenant's UTF-8 in base64url without padding."""

_OFFERED: Final = "Sec-WebSocket-Protocol"
_KEY: Final = "sec-websocket-key"
_KEY_BYTES: Final = 16
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handshake:
    """What the subprotocols of one handshake say. Raises `RefusedError` for contradictions."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        offered: list[str] = []
        self._key = ""
        given: set[str] = set()
        for name, value in headers:
            text = name.decode("latin-1")
            given.add(text)
            if text == _OFFERED.lower():
                offered += [one.strip() for one in value.decode("latin-1").split(",")]
            elif text == _KEY:
                self._key = value.decode("latin-1")
        self._offers_stream = STREAM_SUBPROTOCOL in offered
        self.credentials: dict[str, str] = {}
        """Headers by their lower-case names, as if they had been sent."""
        bearer = _only(offered, BEARER_PREFIX)
        if bearer is not None:
            self.credentials["authorization"] = f"Bearer {bearer}"
        tenant = _only(offered, TENANT_PREFIX)
        if tenant is not None:
            self.credentials["x-stella-tenant"] = _decoded(tenant)
        for repeated in sorted(self.credentials.keys() & given):
            raise _refused(f"gives what the header {repeated} gives too; give it once")

    def check(self) -> None:
        """Raise the refusal of what cannot be answered by this subprotocol."""
        if not self._offers_stream:
            raise _refused(f"offer {STREAM_SUBPROTOCOL}")
        try:
            size = len(base64.b64decode(self._key, validate=True))
        except binascii.Error:
            size = 0
        if size != _KEY_BYTES:
            raise invalid("Sec-WebSocket-Key", f"must be {_KEY_BYTES} bytes in base64")

    def answer_headers(self) -> list[tuple[bytes, bytes]]:
        """Of the answer 101."""
        digest = hashlib.sha1(self._key.encode() + _GUID, usedforsecurity=False).digest()
        return [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
            (b"sec-websocket-protocol", STREAM_SUBPROTOCOL.encode()),
        ]


def _only(offered: Sequence[str], prefix: str) -> str | None:
    found = [one.removeprefix(prefix) for one in offered if one.startswith(prefix)]
    if len(found) > 1:
        raise _refused(f"offers {prefix}… twice; give it once")
    return found[0] if found else None


def _decoded(text: str) -> str:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        message = f"{TENANT_PREFIX}… must be the tenant's UTF-8 in base64url, without padding"
        raise _refused(message) from None


def _refused(message: str) -> RefusedError:
    return invalid(_OFFERED, message)
