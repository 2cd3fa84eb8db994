"""What the handshake of a stream's WebSocket says beside what every handshake does.

A page cannot set headers on the handshake of a WebSocket, but it can offer subprotocols; so the
bearer and the tenant may be offered as such. They are never echoed.

I1  What is given in both ways, or twice, is refused: it means one thing.

Not here: what is answered to a handshake (`opening`), frames (`socket_form`).
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from jobengine.domain.errors import RefusedError
from jobengine.http.errors import invalid
from jobengine.http.opening import OFFERED, Opening
from jobengine.wire.streams import STREAM_SUBPROTOCOL

__all__ = ["BEARER_PREFIX", "TENANT_PREFIX", "Handshake"]

BEARER_PREFIX: Final = "jobengine.bearer."
TENANT_PREFIX: Final = "jobengine.tenant."
"""What follows is the tenant's UTF-8 in base64url without padding."""


class Handshake:
    """What the subprotocols of one handshake say. Raises `RefusedError` for contradictions."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._opening = Opening(headers)
        offered = self._opening.offered
        given = {name.decode("latin-1") for name, _ in headers}
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
        """Raise the refusal of what cannot be answered as a stream."""
        self._opening.check(STREAM_SUBPROTOCOL)

    def answer_headers(self) -> list[tuple[bytes, bytes]]:
        """Of the answer 101."""
        return self._opening.answer_headers(STREAM_SUBPROTOCOL)


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
    return invalid(OFFERED, message)
