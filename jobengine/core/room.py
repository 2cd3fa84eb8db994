"""Room for a bounded number of things that are held for a while, shared by those who hold them.

I1  At most `places_max` are held, and at most half of them by one owner: whoever takes all that it
    can get leaves the other half to everybody else.
I2  Only owners that hold something are kept, so there are no more than places.

Not here: what is held (streams, sessions, connections, transfers).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError

__all__ = ["Room"]

_RETRY_AFTER_S: Final = 5


class Room:
    """An owner is a tenant, or the address of a peer. Nothing waits here."""

    __slots__ = ("_by_owner", "places_max", "share_max", "taken")

    def __init__(self, places_max: int) -> None:
        self.places_max = places_max
        self.share_max = max(1, places_max // 2)
        self.taken = 0
        self._by_owner: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        return self.taken >= self.places_max

    def is_full_for(self, owner: str) -> bool:
        """Whether this owner would go beyond a bound with one more (I1)."""
        return self.is_full or self._by_owner[owner] >= self.share_max

    def require(self, tenant_id: str, things: str) -> None:
        """Raises `RefusedError` (`OVERLOADED`) where one more of the tenant has no room; `things`
        is what is held."""
        if not self.is_full_for(tenant_id):
            return
        if self.is_full:
            message = f"this node serves {self.places_max} {things} already; retry later"
        else:
            message = (
                f"the tenant's share is taken: this node serves {self.share_max} of its {things} "
                "already; close one or retry later"
            )
        details = {"retryAfterSeconds": _RETRY_AFTER_S}
        raise RefusedError(Refusal(ErrorCode.OVERLOADED, message, details))

    def enter(self, owner: str) -> None:
        """The caller has asked whether there is room."""
        self.taken += 1
        self._by_owner[owner] += 1

    def leave(self, owner: str) -> None:
        self.taken -= 1
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    @contextmanager
    def held_by(self, owner: str) -> Iterator[None]:
        """A place, for as long as the block lasts."""
        self.enter(owner)
        try:
            yield
        finally:
            self.leave(owner)
