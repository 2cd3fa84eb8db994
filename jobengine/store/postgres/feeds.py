"""Cursors of feeds on PostgreSQL."""

from collections.abc import Sequence
from typing import Protocol

from jobengine.store.feeds import FeedBehind, FeedCursor
from jobengine.store.postgres.fetching import Rows

__all__ = ["PostgresFeeds"]


class PostgresFeeds(Rows, Protocol):
    """`jobengine.store.feeds.FeedStore`, for a store that can fetch."""

    async def feed_cursors(self, tenant_id: str, feeds: Sequence[str]) -> Sequence[FeedCursor]:
        rows = await self._fetch_of(tenant_id, "feed_cursors_of_tenant", feeds=list(feeds))
        return [
            FeedCursor(tenant_id=tenant, feed=feed, seq=seq, note=note, at=at)
            for tenant, feed, seq, note, at in rows
        ]

    async def move_feed_cursors(self, cursors: Sequence[FeedCursor]) -> None:
        moved: dict[tuple[str, str], FeedCursor] = {}
        for cursor in cursors:
            key = (cursor.tenant_id, cursor.feed)
            if key not in moved or cursor.seq >= moved[key].seq:
                moved[key] = cursor
        await self._fetch(
            "move_feed_cursors",
            tenant_ids=[cursor.tenant_id for cursor in moved.values()],
            feeds=[cursor.feed for cursor in moved.values()],
            seqs=[cursor.seq for cursor in moved.values()],
            notes=[cursor.note.decode() for cursor in moved.values()],
            ats=[cursor.at for cursor in moved.values()],
        )

    async def feeds_behind(
        self, feed: str, after_tenant: str, tenants_max: int
    ) -> Sequence[FeedBehind]:
        rows = await self._fetch(
            "feeds_behind", feed=feed, after_tenant=after_tenant, tenants_max=tenants_max
        )
        return [FeedBehind(*row) for row in rows]

    async def forget_feed(self, tenant_id: str, feed: str) -> None:
        await self._fetch("forget_feed", tenant_id=tenant_id, feed=feed)
