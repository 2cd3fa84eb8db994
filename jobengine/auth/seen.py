"""Bearers that have been verified, so that a client pays for its signature once.

I1  A bearer is remembered by its SHA-256: memory holds none.
I2  Whoever changes what verifies (a key, an issuer) calls ``clear``.
"""

from collections import OrderedDict

from jobengine.auth.claims import Identity

__all__ = ["SeenTokens"]


class SeenTokens:
    """The ``remembered_max`` used last. Belongs to one thread."""

    def __init__(self, remembered_max: int) -> None:
        self._remembered_max = remembered_max
        self._known: OrderedDict[bytes, tuple[Identity, int]] = OrderedDict()

    def find(self, digest: bytes, now_at: int) -> Identity | None:
        """What was remembered, as long as it holds at this instant."""
        found = self._known.get(digest)
        if found is None:
            return None
        identity, until_at = found
        if until_at <= now_at:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return identity

    def remember(self, digest: bytes, identity: Identity, until_at: int) -> None:
        self._known[digest] = (identity, until_at)
        if len(self._known) > self._remembered_max:
            self._known.popitem(last=False)

    def clear(self) -> None:
        self._known.clear()
