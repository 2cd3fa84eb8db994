"""The event feed on a bus: every event, in the order of its tenant, whatever is killed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from jobengine.bus.publisher import Publisher
from jobengine.domain.event import events_of
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.feeds import FeedCursor
from jobengine.store.memory import MemoryStore
from jobengine.store.port import Store
from tests.bus.conftest import Node, asking, open_node, until
from tests.bus.servers import Server

ODD = "a.b *>:é%"
ODD_TOKEN = "a%2Eb%20%2A%3E%3A%C3%A9%25"


async def ledger(store: Store, tenant_id: str) -> list[bytes]:
    """The bodies of all events of a tenant, from the ledger."""
    bodies: list[bytes] = []
    after_seq = 0
    while blocks := await store.blocks(tenant_id, after_seq, 1_000, 1 << 24):
        bodies += [event.body for block in blocks for event in events_of(block)]
        after_seq = blocks[-1].last_seq
    return bodies


def seqs(events: Sequence[dict[str, Any]]) -> list[int]:
    return [event["body"]["seq"] for event in events]


async def test_every_tenants_events_are_published_in_order_with_their_ids(server: Server) -> None:
    async with open_node(server.url) as node:
        for _ in range(5):
            for tenant_id in ("acme", "globex", ODD):
                await node.submit(tenant_id, 3)
        await node.published()
        for tenant_id, token in (("acme", "acme"), ("globex", "globex"), (ODD, ODD_TOKEN)):
            events = await server.events(token)
            assert seqs(events) == list(range(1, len(events) + 1))
            assert len(events) == len(await ledger(node.engine.store, tenant_id))
            assert {event["body"]["tenantId"] for event in events} == {tenant_id}
            assert all(event["type"] == event["body"]["eventType"] for event in events)
            if tenant_id != ODD:
                assert all(event["id"] == event["body"]["eventId"] for event in events)
            assert len({event["id"] for event in events}) == len(events)


async def test_tenants_that_are_not_named_are_not_published(server: Server) -> None:
    async with open_node(server.url, bus_tenants="acme, other") as node:
        await node.submit("globex")
        await node.submit("acme")
        await until(lambda: count(server, "acme"), len(await ledger(node.engine.store, "acme")))
    assert await count(server, "globex") == 0


async def count(server: Server, token: str) -> int:
    return len(await server.events(token))


async def test_a_bus_that_is_killed_in_mid_flow_misses_nothing_and_keeps_the_order(
    server: Server,
) -> None:
    async with open_node(server.url) as node, trio.open_nursery() as nursery:
        publisher = node.bus.publisher
        assert publisher is not None
        for tenant_id in ("acme", "globex"):
            nursery.start_soon(submit_often, node, tenant_id)
        for _ in range(2):
            await until(partial(has_published, publisher, publisher.published_total + 100), True)
            server.kill()
            await until(asking(lambda: node.bus.connected), False)
            server.start()
        await until(asking(lambda: len(nursery.child_tasks)), 0)
        await node.published()
        assert node.bus.connects_total >= 3
        for tenant_id in ("acme", "globex"):
            events = await server.events(tenant_id)
            assert seqs(events) == list(range(1, len(events) + 1))
            assert len(events) == len(await ledger(node.engine.store, tenant_id))


async def has_published(publisher: Publisher, count: int) -> bool:
    return publisher.published_total >= count


async def submit_often(node: Node, tenant_id: str) -> None:
    for _ in range(40):
        await node.submit(tenant_id, 20)
        await trio.sleep(0.005)


async def test_another_node_goes_on_at_the_stored_cursor(server: Server) -> None:
    store = MemoryStore()
    async with open_node(server.url, store) as node:
        await node.submit("acme", 5)
        await node.published()
    async with open_node("nats://127.0.0.1:1", store) as node:
        await node.submit("acme", 5)
        await node.submit("globex")
    already = await count(server, "acme")
    assert already > 0
    async with open_node(server.url, store) as node:
        await node.published()
        assert node.bus.publisher is not None
        published = node.bus.publisher.published_total
    everything = 0
    for tenant_id in ("acme", "globex"):
        events = len(await ledger(store, tenant_id))
        assert seqs(await server.events(tenant_id)) == list(range(1, events + 1))
        everything += events
    assert published == everything - already


class ForgetfulStore(MemoryStore):
    """Takes no cursor, as a node that dies before it has written one."""

    async def move_feed_cursors(self, cursors: Sequence[FeedCursor]) -> None:
        raise StoreUnavailableError("away")


async def test_events_that_were_confirmed_before_a_crash_are_not_there_twice(
    server: Server,
) -> None:
    forgetful = ForgetfulStore()
    async with open_node(server.url, forgetful) as node:
        await node.submit("acme", 300)
        await node.submit("globex", 10)
        for tenant_id in ("acme", "globex"):
            events = len(await ledger(forgetful, tenant_id))
            await until(partial(count, server, tenant_id), events)
    store = MemoryStore()
    store._tables = forgetful._tables
    async with open_node(server.url, store) as node:
        await node.submit("acme", 5)
        await node.published()
    for tenant_id in ("acme", "globex"):
        events = len(await ledger(store, tenant_id))
        assert seqs(await server.events(tenant_id)) == list(range(1, events + 1))


async def test_a_bus_that_is_away_at_the_start_is_waited_for(server: Server) -> None:
    server.kill()
    async with open_node(server.url) as node:
        await node.submit("acme")
        await until(asking(lambda: "cannot be reached" in node.bus.condition), True)
        server.start()
        await node.published()
        assert node.bus.condition.startswith("connected to ")
        assert await count(server, "acme") == len(await ledger(node.engine.store, "acme"))
