"""What a connection to a bus can do, in words that both kinds share.

A link lives as long as its connection. Every method raises `BusAwayError`, after which the link is
of no more use; one that is cancelled, too.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from jobengine.domain.event import Event

__all__ = ["Link", "OpenLink", "Taken"]


@attrs.frozen(kw_only=True)
class Taken:
    """A request for a job, as it came. `source` is where it came from, for people; `message_id` is
    the same each time the message is delivered and that of no other message of the source."""

    handle: str
    source: str
    message_id: str
    body: bytes
    tenant_id: str | None = None
    traceparent: str | None = None


class Link(Protocol):
    async def publish(self, tenant_id: str, events: Sequence[Event]) -> int:
        """Publish events of a tenant, a run of them that follow each other; returns how many, from
        the first on, are confirmed: one at least. No later event is there before an earlier one."""
        ...

    async def take(self, within_s: float) -> Sequence[Taken]:
        """Requests for jobs that are waiting; none when there was none within this time."""
        ...

    async def done(self, taken: Sequence[Taken]) -> None:
        """These are not to be delivered again."""
        ...

    async def later(self, taken: Sequence[Taken]) -> None:
        """These are to be delivered again, after a pause."""
        ...

    async def bury(self, letters: Sequence[tuple[Taken, bytes]]) -> None:
        """Set aside what is said of these; returns when that is safe."""
        ...


class OpenLink(Protocol):
    """Connects, and makes what is missing on the server. Raises `BusAwayError`, perhaps in a group,
    also within the block when the connection ends."""

    def __call__(self) -> AbstractAsyncContextManager[Link]: ...
