"""Cursors of feeds: they move on, never back, and tell which tenants wait."""

from jobengine.store.feeds import FeedBehind, FeedCursor
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe

FEED = "bus:nats"


def cursor(
    seq: int, *, tenant_id: str = TENANT, feed: str = FEED, note: bytes = b"{}"
) -> FeedCursor:
    return FeedCursor(tenant_id=tenant_id, feed=feed, seq=seq, note=note, at=NOW + seq)


async def kept(store: Store, tenant_id: str = TENANT, feed: str = FEED) -> FeedCursor | None:
    found = await store.feed_cursors(tenant_id, [feed])
    return found[0] if found else None


async def test_cursors_are_read_as_they_were_written(store: Store) -> None:
    mine = cursor(3, note=b'{"failures": 1,  "x":"\\u00e4"}')
    other = cursor(5, feed="webhook:1")
    elsewhere = cursor(7, tenant_id="a tenant.*")
    await store.move_feed_cursors([mine, other, elsewhere])
    found = await store.feed_cursors(TENANT, [FEED, "webhook:1", FEED, "nobody's"])
    assert sorted(found, key=lambda each: each.seq) == [mine, other]
    assert await kept(store, "a tenant.*") == elsewhere
    assert await store.feed_cursors(TENANT, []) == []


async def test_a_cursor_never_moves_back(store: Store) -> None:
    await store.move_feed_cursors([cursor(5, note=b'{"n":1}')])
    await store.move_feed_cursors([cursor(4, note=b'{"n":2}')])
    assert await kept(store) == cursor(5, note=b'{"n":1}')
    await store.move_feed_cursors([cursor(7), cursor(9, note=b'{"n":3}'), cursor(8)])
    assert await kept(store) == cursor(9, note=b'{"n":3}')


async def test_of_two_notes_with_one_seq_the_later_stays(store: Store) -> None:
    await store.move_feed_cursors([cursor(5, note=b'{"n":1}')])
    await store.move_feed_cursors([cursor(5, note=b'{"n":2}')])
    assert await kept(store) == cursor(5, note=b'{"n":2}')
    await store.move_feed_cursors([cursor(5, note=b'{"n":3}'), cursor(5, note=b'{"n":4}')])
    assert await kept(store) == cursor(5, note=b'{"n":4}')


async def test_writing_no_cursor_changes_nothing(store: Store) -> None:
    await store.move_feed_cursors([])
    assert await kept(store) is None


async def test_tenants_behind_are_told_in_pages(store: Store, scribe: Scribe) -> None:
    for tenant_id in ("B", "a", "c", "d"):
        await scribe.aside(tenant_id=tenant_id)
        await scribe.aside(tenant_id=tenant_id)
    await store.move_feed_cursors(
        [
            cursor(1, tenant_id="a"),
            cursor(2, tenant_id="c"),
            cursor(2, tenant_id="d", feed="bus:valkey"),
        ]
    )
    assert await store.feeds_behind(FEED, "", 2) == [FeedBehind("B", 0, 2), FeedBehind("a", 1, 2)]
    assert await store.feeds_behind(FEED, "a", 2) == [FeedBehind("d", 0, 2)]
    assert await store.feeds_behind(FEED, "d", 2) == []


async def test_a_forgotten_feed_starts_anew(store: Store, scribe: Scribe) -> None:
    await scribe.aside()
    await store.move_feed_cursors([cursor(9), cursor(9, feed="webhook:1")])
    assert await store.feeds_behind(FEED, "", 9) == []
    await store.forget_feed(TENANT, FEED)
    await store.forget_feed(TENANT, FEED)
    assert await kept(store) is None
    assert await kept(store, feed="webhook:1") == cursor(9, feed="webhook:1")
    assert await store.feeds_behind(FEED, "", 9) == [FeedBehind(TENANT, 0, 1)]
    await store.move_feed_cursors([cursor(1)])
    assert await kept(store) == cursor(1)
