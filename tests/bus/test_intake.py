"""Job requests from a bus: one job each, however often they are delivered; bad ones aside."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import trio

from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import Head
from jobengine.messages.lease_shard import Actor, CancelJob
from jobengine.store.memory import MemoryStore
from tests.bus.conftest import Node, asking, open_node, until
from tests.bus.servers import Server, free_port

JOB = b'{"jobType":"scan","payload":{"n":1}}'


async def job_count(node: Node, tenant_id: str = "acme") -> int:
    return len(await node.jobs(tenant_id))


async def test_a_request_becomes_one_job_and_is_then_done(server: Server) -> None:
    async with open_node(server.url, bus_tenants="acme") as node:
        await _ready(node)
        await server.request("acme", JOB)
        await until(partial(job_count, node), 1)
        await until(server.requests_left, 0)
        (job,) = await node.jobs("acme")
        assert (job.definition.job_type, job.payload) == ("scan", b'{"n":1}')
        assert await server.letters() == []


async def test_an_envelope_says_what_rest_takes_from_headers(server: Server) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    envelope = {
        "tenantId": "acme",
        "projectId": "p1",
        "correlationId": "c1",
        "idempotencyKey": "mine",
        "traceparent": traceparent,
        "job": {"jobType": "scan"},
    }
    async with open_node(server.url, bus_tenants="acme") as node:
        await _ready(node)
        # Two messages, one request: the key is the producer's.
        for _ in range(2):
            await server.request("acme", json.dumps(envelope).encode())
        await until(server.requests_left, 0)
        assert await server.letters() == []
        await until(partial(job_count, node), 1)
        (job,) = await node.jobs("acme")
        about = job.definition
        assert (about.project_id, about.correlation_id) == ("p1", "c1")
        assert about.traceparent == traceparent
        # The same key for something else is refused.
        envelope["job"] = {"jobType": "other"}
        await server.request("acme", json.dumps(envelope).encode())
        await until(partial(codes, server), ["IDEMPOTENCY_MISMATCH"])


async def test_a_message_id_makes_one_job_of_a_request_that_was_sent_twice(server: Server) -> None:
    async with open_node(server.url, bus_tenants="acme") as node:
        await _ready(node)
        for _ in range(2):
            await server.request("acme", JOB, message_id="once")
        await server.request("acme", JOB, message_id="another")
        await until(partial(job_count, node), 2)
        await until(server.requests_left, 0)
        assert await job_count(node) == 2


class KillingStore(MemoryStore):
    """Kills the bus with the commit of a job, so that nothing of it can be acknowledged."""

    def __init__(self, kill: Callable[[], None]) -> None:
        super().__init__()
        self.may_kill = trio.Event()
        self._kill = kill

    async def commit(self, batch: CommitBatch) -> None:
        if any(change.rows for change in batch.changes):
            await self.may_kill.wait()
            self._kill()
        await super().commit(batch)


async def test_a_request_whose_acknowledgement_was_lost_makes_no_second_job(
    server: Server,
) -> None:
    store = KillingStore(server.kill)
    settings: dict[str, Any] = {"bus_tenants": "acme", "bus_events": "off", "ask_timeout_s": 1.0}
    async with open_node(server.url, store, **settings) as node:
        await _ready(node)
        await server.request("acme", JOB)
        store.may_kill.set()
        await until(partial(job_count, node), 1)
        assert await _left_where_no_engine_looks(server) == 1
        server.start()
        server.wait()
        await until(server.requests_left, 0)
        assert await job_count(node) == 1
        intake = node.bus.intake
        assert intake is not None
        await until(asking(lambda: intake.taken_total), 1)


async def test_requests_survive_a_bus_that_is_killed_again_and_again(server: Server) -> None:
    async with open_node(server.url, bus_tenants="acme") as node:
        await _ready(node)
        for number in range(30):
            await server.request("acme", JOB, message_id=str(number))
            if number % 10 == 9:
                server.kill()
                server.start()
                server.wait()
        await until(partial(job_count, node), 30)
        await until(server.requests_left, 0)
        assert await server.letters() == []


async def test_requests_that_can_never_be_jobs_are_set_aside_with_the_reason(
    server: Server,
) -> None:
    bad: dict[str, bytes] = {
        "BAD_JSON": b"{not JSON \xff",
        "INVALID_FIELD": b'{"jobType":"scan","surprise":1}',
        "PAYLOAD_TOO_LARGE": b'{"jobType":"scan","payload":{"x":"%b"}}' % (b"x" * 300_000),
    }
    async with open_node(server.url, bus_tenants="acme") as node:
        await _ready(node)
        for body in bad.values():
            await server.request("acme", body)
        await server.request("acme", b'{"jobType":"%b"}' % (b"y" * 600_000))
        await server.request("acme", b'{"tenantId":"globex","job":{"jobType":"scan"}}')
        await server.request("globex", JOB)
        await server.request("acme", JOB)
        await until(partial(job_count, node), 1)
        await until(server.requests_left, 0)
        letters = await server.letters()
    assert sorted(letter["code"] for letter in letters) == sorted(
        [*bad, "PAYLOAD_TOO_LARGE", "INVALID_FIELD", "TENANT_FORBIDDEN"]
    )
    by_code = {letter["code"]: letter for letter in letters}
    letter = by_code["BAD_JSON"]
    assert letter["body"].startswith("{not JSON")
    assert letter["bodyBytes"] == len(bad["BAD_JSON"])
    assert letter["bodyDigest"].startswith("sha256:")
    assert letter["source"].startswith("jobengine")
    assert all(len(letter["body"]) <= 65_536 for letter in letters)
    assert by_code["TENANT_FORBIDDEN"]["tenantId"] == "globex"


async def test_what_can_be_no_tenant_is_set_aside_and_others_go_on(server: Server) -> None:
    async with open_node(server.url) as node:
        await _ready(node)
        await node.submit("acme")
        await server.request("%00", JOB, tenant="\0")
        await server.request("x" * 257, JOB)
        await server.request("acme", JOB)
        await until(partial(job_count, node), 2)
        await until(partial(codes, server), ["INVALID_FIELD"] * 2)
        await until(server.requests_left, 0)


class PoisonedStore(MemoryStore):
    """Fails on one tenant, and on whatever it is asked for together with it."""

    async def heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        asked = list(tenant_ids)
        if "poison" in asked:
            raise ZeroDivisionError
        return await super().heads(asked)


async def test_a_tenant_that_the_store_fails_on_stops_nobody_else(server: Server) -> None:
    async with open_node(server.url, PoisonedStore()) as node:
        await node.submit("acme")
        await _ready(node)
        await server.request("poison", JOB)
        await until(partial(deferred, node), True)
        await server.request("acme", JOB)
        await until(partial(job_count, node), 2)
        await until(server.requests_left, 1)
        assert node.bus.connects_total == 1
        assert await server.letters() == []


async def test_a_tenant_that_has_done_nothing_yet_may_not_submit_unless_it_is_named(
    server: Server,
) -> None:
    async with open_node(server.url) as node:
        await _ready(node)
        await server.request("acme", JOB)
        await until(partial(codes, server), ["TENANT_FORBIDDEN"])
        await node.submit("acme")
        await server.request("acme", JOB)
        await until(partial(job_count, node), 2)
        await server.request("_system", JOB)
        await until(partial(codes, server), ["TENANT_FORBIDDEN"] * 2)


async def test_what_there_is_no_room_for_comes_again_and_others_go_on(server: Server) -> None:
    settings: dict[str, Any] = {"tenant_backlog_jobs_max": 1, "bus_tenants": "acme,globex"}
    async with open_node(server.url, **settings) as node:
        await _ready(node)
        await server.request("acme", JOB)
        await until(partial(job_count, node), 1)
        await server.request("acme", JOB)
        await until(partial(deferred, node), True)
        await server.request("globex", JOB)
        await until(partial(job_count, node, "globex"), 1)
        (job,) = await node.jobs("acme")
        await node.engine.gateway.operate(
            "acme",
            lambda ask_id: CancelJob(
                ask_id=ask_id, tenant_id="acme", actor=Actor("tester"), job_id=job.job_id
            ),
        )
        await until(partial(job_count, node), 2)
        await until(server.requests_left, 0)
        assert await server.letters() == []


async def test_what_another_node_left_unfinished_is_taken_over(server: Server) -> None:
    """The first node hangs in its database; another one, with a database of its own, does not."""
    settings: dict[str, Any] = {"bus_tenants": "acme", "node_id": "a", "ask_timeout_s": 1.0}
    async with open_node(server.url, HangingStore(), **settings) as node:
        await _ready(node)
        await server.request("acme", JOB)
        store = node.engine.store
        assert isinstance(store, HangingStore)
        with trio.fail_after(60):
            await store.hangs.wait()
        async with open_node(server.url, bus_tenants="acme", node_id="b") as other:
            await until(partial(job_count, other), 1)
        store.go_on.set()


class HangingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.hangs = trio.Event()
        self.go_on = trio.Event()

    async def commit(self, batch: CommitBatch) -> None:
        if any(change.rows for change in batch.changes):
            self.hangs.set()
            await self.go_on.wait()
        await super().commit(batch)


async def codes(server: Server) -> list[str]:
    return sorted(letter["code"] for letter in await server.letters())


async def deferred(node: Node) -> bool:
    assert node.bus.intake is not None
    return node.bus.intake.deferred_total > 0


async def _ready(node: Node) -> None:
    """Streams and groups are there."""
    await until(asking(lambda: node.bus.connected), True)


async def _left_where_no_engine_looks(server: Server) -> int:
    """What the bus, which is down, holds unfinished; read before any engine can go on with it."""
    address, server.port = server.port, free_port()
    server.start()
    server.wait()
    left = await server.requests_left()
    server.kill()
    server.port = address
    return left
