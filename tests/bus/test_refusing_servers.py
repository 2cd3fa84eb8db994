"""Servers that refuse: what they refuse is told, waited for, and then there in order."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from jobengine.bus import BusUnusableError, metrics_of_bus, open_bus
from jobengine.domain.redaction import Redactor
from jobengine.messages.lease_shard import Actor
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import new_job
from tests.bus.conftest import Node, asking, open_node, until
from tests.bus.servers import NatsServer, Server, ValkeyServer, running
from tests.bus.test_publishing import ledger, seqs
from tests.http.certificates import Authority

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


async def submit_of_sizes(node: Node, lengths: list[int]) -> None:
    """One commit of jobs whose events are longer by so much."""
    gateway = node.engine.gateway
    jobs = [
        new_job(JobRequest(job_type="scan", labels={}, correlation_id="c" * length), job_id)
        for length, job_id in zip(lengths, gateway.new_job_ids(len(lengths)), strict=True)
    ]
    await gateway.submit("acme", Actor("tester"), jobs)


async def told(node: Node, words: str) -> None:
    await until(asking(lambda: words in node.bus.condition), True)


async def test_no_event_is_stored_behind_one_that_was_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    async with open_node("nats://127.0.0.1:1", store) as node:
        await submit_of_sizes(node, [1, 1, 256, 1, 1, 256, 1])
    bodies = await ledger(store, "acme")
    fits = min(map(len, bodies)) + 160
    large = [len(body) > fits for body in bodies]
    with running("nats", tmp_path) as server:
        assert isinstance(server, NatsServer)
        config: dict[str, Any] = {"name": "jobengine_events", "subjects": ["jobengine.events.>"]}

        async def make(stream_api: Any) -> None:
            await stream_api.add_stream(**config, max_msg_size=fits)

        async def lift(stream_api: Any) -> None:
            await stream_api.update_stream(**config, max_msg_size=-1)

        await server._do(make)
        async with open_node(server.url, store) as node:
            await told(node, "message size exceeds")
            assert len(await server.events("acme")) == large.index(True)
            assert not all(large[large.index(True) :])
            await server._do(lift)
            await node.published()
        assert seqs(await server.events("acme")) == list(range(1, len(bodies) + 1))


async def test_order_holds_while_somebody_else_writes_to_the_stream(tmp_path: Path) -> None:
    with running("nats", tmp_path) as server:
        assert isinstance(server, NatsServer)

        async def write(stream_api: Any) -> None:
            for number in range(200):
                headers = {"Nats-Msg-Id": f"other-{number}"}
                await stream_api.publish("jobengine.events.other.x", b"{}", headers=headers)

        async with open_node(server.url) as node:
            await node.submit("acme")
            await node.published()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server._do, write)
                for _ in range(20):
                    await node.submit("acme", 50)
            await node.published()
            events = len(await ledger(node.engine.store, "acme"))
            assert seqs(await server.events("acme")) == list(range(1, events + 1))


async def test_an_event_too_large_for_the_server_is_announced_without_its_data(
    tmp_path: Path,
) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 2800\n")
    with running("nats", tmp_path, "-c", str(config)) as server:
        async with open_node(server.url) as node:
            await submit_of_sizes(node, [1, 256, 1])
            await node.published()
            bodies = await ledger(node.engine.store, "acme")
        events = await server.events("acme")
    assert seqs(events) == list(range(1, len(bodies) + 1))
    omitted = [event["body"] for event in events if "omittedBytes" in event["body"]]
    assert omitted
    assert len(omitted) < len(bodies)
    for stub in omitted:
        whole = json.loads(bodies[stub["seq"] - 1])
        assert stub["omittedBytes"] == len(bodies[stub["seq"] - 1])
        assert (stub["eventId"], stub["eventType"]) == (whole["eventId"], whole["eventType"])


async def test_a_stream_of_somebody_else_is_told_of_and_nothing_is_lost(tmp_path: Path) -> None:
    with running("valkey", tmp_path) as server:
        assert isinstance(server, ValkeyServer)
        await server._do("XADD", "jobengine:events:acme", "*", "id", "theirs")
        async with open_node(server.url) as node:
            await node.submit("acme")
            await told(node, "not this tenant's events")
            await server._do("DEL", "jobengine:events:acme")
            await node.published()
            events = len(await ledger(node.engine.store, "acme"))
            assert seqs(await server.events("acme")) == list(range(1, events + 1))


async def test_valkey_keeps_about_as_many_events_as_it_is_told_to(tmp_path: Path) -> None:
    with running("valkey", tmp_path) as server:
        async with open_node(server.url, bus_stream_events_max=100) as node:
            await node.submit("acme", 1_000)
            await node.published()
            last = len(await ledger(node.engine.store, "acme"))
        kept = seqs(await server.events("acme"))
    assert 100 <= len(kept) < 400
    assert kept == list(range(last - len(kept) + 1, last + 1))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nats", ["--user", "me", "--pass", "p@ss"]),
        ("valkey", ["--requirepass", "p@ss"]),
    ],
)
async def test_a_password_opens_a_bus_and_a_wrong_one_is_told_of(
    tmp_path: Path, kind: str, options: list[str]
) -> None:
    user = "me" if kind == "nats" else ""
    with running(kind, tmp_path, *options) as server:
        place = f"127.0.0.1:{server.port}"
        async with open_node(f"{kind}://{user}:p%40ss@{place}") as node:
            await node.submit("acme")
            await node.published()
        async with open_node(f"{kind}://{user}:wrong@{place}") as node:
            await told(node, "Authorization Violation" if kind == "nats" else "WRONGPASS")
            assert "wrong@" not in node.bus.condition


async def test_a_server_without_jetstream_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsServer, "plain", True)
    with running("nats", tmp_path) as server:
        async with open_node(server.url) as node:
            await told(node, "is JetStream enabled?")


async def test_the_bus_is_reached_over_tls_by_whoever_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("bus")
    files = ["--tlscert", str(pair.certificate), "--tlskey", str(pair.key)]
    with running("nats", tmp_path, "--tls", *files) as server:
        url = f"tls://127.0.0.1:{server.port}"
        async with open_node(url) as node:
            await told(node, "no TLS with 127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with open_node(url) as node:
            await node.submit("acme")
            await node.published()
            assert node.bus.condition.startswith("connected to nats+tls://")


async def test_something_else_behind_the_address_is_told_of(tmp_path: Path) -> None:
    with running("nats", tmp_path) as server:
        async with open_node(f"valkey://127.0.0.1:{server.port}") as node:
            await told(node, "the server speaks another protocol")
            assert not node.bus.connected


async def test_a_bus_that_nothing_would_use_is_refused_at_the_start() -> None:
    settings = Settings(shards=2, bus_url="nats://h", bus_events="off", bus_jobs="off")
    async with memory_engine(settings=settings) as engine:
        with pytest.raises(BusUnusableError, match="bus_events or bus_jobs"):
            async with open_bus(engine, Redactor()):
                pytest.fail("it opened")


async def test_without_an_address_there_is_no_bus() -> None:
    async with memory_engine() as engine, open_bus(engine, Redactor()) as bus:
        assert bus is None
        assert list(metrics_of_bus(None)()) == []


async def test_metrics_count_what_went_through(server: Server) -> None:
    async with open_node(server.url, bus_tenants="acme") as node:
        await node.submit("acme", 3)
        await node.published()
        await server.request("acme", b"nonsense")
        await until(asking(lambda: node.bus.intake and node.bus.intake.dead_total), 1)
        values = {
            sample.name: sample.value
            for family in metrics_of_bus(node.bus)()
            for sample in family.samples
        }
    told = set(re.findall(r"`(jobengine_bus_\w+)`", OPERATIONS.read_text()))
    assert told == {name for name in values if not name.endswith("_created")}
    assert values["jobengine_bus_connected"] == 1
    assert values["jobengine_bus_published_total"] >= 3
    assert values["jobengine_bus_tenants_behind"] == 0
    assert values["jobengine_bus_events_behind"] == 0
    assert values["jobengine_bus_taken_total"] == 0
    assert values["jobengine_bus_dead_total"] == 1
