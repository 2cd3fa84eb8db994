"""Addresses of ``callback`` nodes: made for templates and lists, opened when somebody calls.

An address is the engine's URL and a sealed place in a run (``auth/sealed``). Whoever has it may end
that one node, once, and do nothing else; it needs no token beside it.

I1  An address is good for as long as its node is open and the key that signed it is in the ring.
I2  Addresses begin with the public URL where one is set, else with that of the HTTP listener; what
    is made before the listener is there has a path only.

Not here: the call itself (``routes/run_nodes``).
"""

from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from jobengine.auth.keys import KeyRing
from jobengine.auth.sealed import CALLBACKS, Seal, SealBrokenError
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError

__all__ = ["PATH", "CallbackPlace", "Callbacks", "public_url_of"]

PATH: Final = "/api/v1/jobengine/callbacks"


class CallbackPlace(NamedTuple):
    """The node that an address is of."""

    tenant_id: str
    run_id: str
    key: str


class Callbacks:
    """Belongs to one node. ``ring`` gives the engine's keys as they are now."""

    def __init__(self, ring: Callable[[], KeyRing], public_url: str | None = None) -> None:
        self._seal = Seal(ring, CALLBACKS)
        self._is_public = public_url is not None
        self._url = public_url or ""

    def serve_at(self, url: str, ring: Callable[[], KeyRing]) -> None:
        """From now on calls are taken at this URL, and signed and checked by this ring."""
        self._seal = Seal(ring, CALLBACKS)
        if not self._is_public:
            self._url = url

    def address(self, tenant_id: str, run_id: str, key: str) -> str:
        """Where this node is ended."""
        return f"{self._url}{PATH}/{self._seal.seal((), (tenant_id, run_id, key))}"

    def opened(self, token: str) -> CallbackPlace:
        """The node that the last part of an address names. Raises ``RefusedError`` (403)."""
        try:
            return CallbackPlace(*self._seal.open((), token, tuple[str, str, str]))
        except SealBrokenError:
            why = "this address was not signed by this engine; call it exactly as it was given"
            refusal = Refusal(ErrorCode.CALLBACK_INVALID, why, {"path": "token"})
            raise RefusedError(refusal) from None


def public_url_of(text: str) -> str:
    """A URL that addresses can begin with. Raises ``ValueError``."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is no http or https URL, such as https://jobs.example.com")
    if parts.username or parts.password:
        raise ValueError("holds a user or password; leave them out")
    return text.rstrip("/")
