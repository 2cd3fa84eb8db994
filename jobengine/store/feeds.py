"""What the engine asks of its store about feeds: consumers of the tenants' events whose cursors
outlive the process.

A *feed* is named `webhook:{webhookId}` or `bus:{name}`; it has a cursor in each tenant that it
reads. Cursors are no part of the ledger and are written beside `commit`, after the consumer has
confirmed.

I1  A cursor never moves back, whoever writes late.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

__all__ = ["FeedBehind", "FeedCursor", "FeedStore"]


class FeedCursor(msgspec.Struct, frozen=True, kw_only=True):
    """All events up to `seq` have been confirmed. `note` is JSON that only the feed understands; of
    two notes with the same seq the later stays."""

    tenant_id: str
    feed: str
    seq: int
    note: bytes = b"{}"
    at: int = 0


class FeedBehind(msgspec.Struct, frozen=True):
    """A tenant whose ledger goes on behind the cursor of a feed; `seq` is 0 without a cursor."""

    tenant_id: str
    seq: int
    last_seq: int


class FeedStore(Protocol):
    async def feed_cursors(self, tenant_id: str, feeds: Sequence[str]) -> Sequence[FeedCursor]:
        """The cursors that exist of those named, in no order of note."""

    async def move_feed_cursors(self, cursors: Sequence[FeedCursor]) -> None:
        """Write cursors, of any tenants, in one statement (I1)."""

    async def feeds_behind(
        self, feed: str, after_tenant: str, tenants_max: int
    ) -> Sequence[FeedBehind]:
        """Tenants that a feed has to go on with, by tenant id, after one."""

    async def forget_feed(self, tenant_id: str, feed: str) -> None:
        """Drop a cursor; nothing happens when there is none."""
