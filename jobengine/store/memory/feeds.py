"""Cursors of feeds in memory: what the database is held against."""

from collections.abc import Sequence

import trio

from jobengine.store.feeds import FeedBehind, FeedCursor
from jobengine.store.memory.tables import Tables

__all__ = ["MemoryFeeds"]


class MemoryFeeds:
    """`jobengine.store.feeds.FeedStore` over the tables of a memory store."""

    _tables: Tables

    async def feed_cursors(self, tenant_id: str, feeds: Sequence[str]) -> Sequence[FeedCursor]:
        await trio.lowlevel.checkpoint()
        kept = self._tables.feed_cursors
        return [kept[tenant_id, feed] for feed in dict.fromkeys(feeds) if (tenant_id, feed) in kept]

    async def move_feed_cursors(self, cursors: Sequence[FeedCursor]) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._tables.feed_cursors
        for cursor in cursors:
            key = (cursor.tenant_id, cursor.feed)
            if key not in kept or cursor.seq >= kept[key].seq:
                kept[key] = cursor

    async def feeds_behind(
        self, feed: str, after_tenant: str, tenants_max: int
    ) -> Sequence[FeedBehind]:
        await trio.lowlevel.checkpoint()
        behind = []
        for tenant_id, head in sorted(self._tables.heads.items(), key=lambda item: item[0]):
            cursor = self._tables.feed_cursors.get((tenant_id, feed))
            seq = 0 if cursor is None else cursor.seq
            if tenant_id > after_tenant and seq < head.next_seq - 1:
                behind.append(FeedBehind(tenant_id, seq, head.next_seq - 1))
        return behind[:tenants_max]

    async def forget_feed(self, tenant_id: str, feed: str) -> None:
        await trio.lowlevel.checkpoint()
        self._tables.feed_cursors.pop((tenant_id, feed), None)
