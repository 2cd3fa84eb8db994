"""Transfers: how many artifacts are on their way at once, and how many of them are one tenant's.

Slow clients of one tenant leave half of the room to everybody else (`core/room`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jobengine.core.room import Room
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError

__all__ = ["Transfers"]


class Transfers:
    """Lets transfers through, or refuses them at once; nothing waits here."""

    def __init__(self, transfers_max: int) -> None:
        self._room = Room(transfers_max)

    @contextmanager
    def one_of(self, tenant_id: str) -> Iterator[None]:
        """A transfer of a tenant, for as long as the block lasts. Raises `RefusedError`
        (`OVERLOADED`)."""
        self.require_free(tenant_id)
        with self._room.held_by(tenant_id):
            yield

    def require_free(self, tenant_id: str) -> None:
        """Raises `RefusedError` where a transfer of the tenant would be refused now."""
        if not self._room.is_full_for(tenant_id):
            return
        if self._room.is_full:
            message = "too many artifacts are on their way; come again"
        else:
            message = (
                f"the tenant's share is taken: {self._room.share_max} of its artifacts are on "
                "their way; come again"
            )
        raise RefusedError(Refusal(ErrorCode.OVERLOADED, message))
