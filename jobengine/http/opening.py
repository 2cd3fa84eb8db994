"""The opening handshake of a WebSocket (RFC 6455 §4.2), on a request that has been read.

No extension is ever agreed to, so none is read.

Not here: whether the headers are those of a handshake at all (`http1`), credentials that are
offered as subprotocols (`streams/handshake`), frames (`wire/websocket_frames`).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Final

from jobengine.http.errors import invalid

__all__ = ["OFFERED", "Opening"]

OFFERED: Final = "Sec-WebSocket-Protocol"
_KEY: Final = "Sec-WebSocket-Key"
_KEY_BYTES: Final = 16
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opening:
    """One handshake, by its headers, whose names are in lower case. `offered`: the subprotocols, in
    order."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.offered: list[str] = []
        self._key = b""
        for name, value in headers:
            if name == OFFERED.lower().encode():
                self.offered += [one.strip() for one in value.decode("latin-1").split(",")]
            elif name == _KEY.lower().encode():
                self._key = value

    def check(self, subprotocol: str) -> None:
        """Raise the refusal of what cannot be answered by this subprotocol."""
        if subprotocol not in self.offered:
            raise invalid(OFFERED, f"offer {subprotocol}")
        try:
            size = len(base64.b64decode(self._key, validate=True))
        except binascii.Error:
            size = 0
        if size != _KEY_BYTES:
            raise invalid(_KEY, f"must be {_KEY_BYTES} bytes in base64")

    def answer_headers(self, subprotocol: str) -> list[tuple[bytes, bytes]]:
        """Of the answer 101."""
        digest = hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()
        return [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
            (b"sec-websocket-protocol", subprotocol.encode()),
        ]
