"""Webhooks set up over REST, and what then arrives at a receiver on loopback."""

import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from jobengine.auth.keys import KeyRing, load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.auth.vault import Vault
from jobengine.engine import open_engine
from jobengine.http.doors import Endpoint, open_doors
from jobengine.http.outgoing import policy_of
from jobengine.http.webhook_delivery import open_delivery
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from tests.http.conftest import BASE, SIGNED

ANYWHERE = Endpoint("127.0.0.1", 0)


@attrs.define
class Receiver:
    """Answers every POST with `status`, and keeps headers (names in lower case) and bodies."""

    url: str = ""
    status: int = 204
    posts: list[tuple[dict[str, str], bytes]] = attrs.field(factory=list)
    _posted: trio.Event = attrs.field(init=False, factory=trio.Event)

    def events(self) -> list[Any]:
        return [json.loads(body) for _, body in self.posts]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a post has made the condition true."""
        with trio.fail_after(30):
            while not condition():
                self._posted = trio.Event()
                await self._posted.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        read = b""
        async for data in stream:
            read += data
            head, _, body = read.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")[1:]
            headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
            if "content-length" in headers and len(body) >= int(headers["content-length"]):
                self.posts.append((headers, body))
                read = b""
                self._posted.set()
                await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)


@attrs.frozen
class Node:
    client: httpx.AsyncClient
    receiver: Receiver

    async def create(self, **fields: Any) -> dict[str, Any]:
        body = {"url": self.receiver.url, **fields}
        answer = await self.client.post("/webhooks", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def delivery(
        self, webhook_id: str, condition: Callable[[dict[str, Any]], object]
    ) -> dict[str, Any]:
        """How far a webhook has come, as soon as that is so."""
        with trio.fail_after(30):
            while True:
                shown = (await self.client.get(f"/webhooks/{webhook_id}")).json()
                found: dict[str, Any] = shown.get("delivery", {})
                if found and condition(found):
                    return found

    async def submit(self) -> None:
        assert (await self.client.post("/jobs", json={"jobType": "scan"})).status_code == 201


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(
            partial(trio.serve_tcp, receiver.serve, 0, host="127.0.0.1")
        )
        receiver.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/in"
        yield receiver
        nursery.cancel_scope.cancel()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    key, vault = load_or_create_key(tmp_path / "key.pem"), Vault(secrets.token_bytes(32))
    ring, policy = KeyRing(key), policy_of("127.0.0.1")
    async with (
        open_receiver() as receiver,
        open_delivery(policy, vault, lambda: ring, timeout_s=5.0, deliveries_max=4) as delivery,
        open_engine(MemoryStore(), Settings(shards=2), post_event=delivery.post) as engine,
        open_doors(
            engine,
            key,
            http=ANYWHERE,
            worker=ANYWHERE,
            drain_s=0.0,
            vault=vault,
            outgoing=policy,
        ) as doors,
    ):
        now_at = engine.clock.moment().at
        token = Tokens(key).issue("demo", tuple(Scope), "tester", 600, now_at)
        headers = {"Authorization": f"Bearer {token}", "X-Stella-Tenant": "demo", **SIGNED}
        async with httpx.AsyncClient(
            base_url=doors.http_url + BASE, headers=headers, trust_env=False
        ) as client:
            yield Node(client, receiver)


async def test_events_arrive_in_order_and_signed_with_the_secret_that_was_shown(
    node: Node,
) -> None:
    made = await node.create(types=["webhook.created", "job.*"])
    for _ in range(3):
        await node.submit()
    receiver = node.receiver
    await receiver.until(lambda: len(receiver.posts) == 7)
    seqs = [event["seq"] for event in receiver.events()]
    assert seqs == list(range(1, 8))
    assert [event["eventType"] for event in receiver.events()][:2] == [
        "webhook.created",
        "job.created",
    ]
    for headers, body in receiver.posts:
        signature = hmac.new(made["secret"].encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-jobengine-signature"] == f"sha256={signature}"
    delivery = await node.delivery(made["webhookId"], lambda found: not found["lag"])
    assert (delivery["deliveredSeq"], delivery["deliveredTotal"]) == (7, 7)
    assert (delivery["failures"], delivery["nextAt"]) == (0, None)
    assert [attempt["seq"] for attempt in delivery["recent"]] == seqs
    assert delivery["recent"][0]["httpStatus"] == 204


async def test_a_test_says_how_it_went_and_is_no_event_of_the_ledger(node: Node) -> None:
    webhook_id = (await node.create(types=["run.*"]))["webhookId"]
    path = f"/webhooks/{webhook_id}"
    await node.delivery(webhook_id, bool)
    tried = await node.client.post(f"{path}:test")
    assert tried.status_code == 200, tried.text
    went = tried.json()
    assert (went["delivered"], went["httpStatus"], went["seq"]) == (True, 204, 0)
    assert went["eventType"] == "webhook.test"
    assert went["tookMs"] > 0
    (event,) = node.receiver.events()
    assert event["eventType"] == "webhook.test"
    node.receiver.status = 503
    await node.client.post(f"{path}:pause")
    went = (await node.client.post(f"{path}:test")).json()
    assert (went["delivered"], went["httpStatus"]) == (False, 503)
    assert "503" in went["error"]
    assert (await node.client.get(path)).json()["revision"] == 2


async def test_what_fails_is_shown_with_when_it_is_tried_again_and_can_be_left_out(
    node: Node,
) -> None:
    receiver = node.receiver
    receiver.status = 500
    webhook_id = (await node.create(types=["job.created"]))["webhookId"]
    path = f"/webhooks/{webhook_id}"
    await node.submit()
    await receiver.until(lambda: receiver.posts)
    delivery = await node.delivery(webhook_id, lambda found: found["failures"])
    assert delivery["failingSince"] is not None
    assert delivery["nextAt"] is not None
    assert delivery["lag"] > 0
    assert (delivery["recent"][0]["httpStatus"], delivery["recent"][0]["number"]) == (500, 1)
    paused = (await node.client.post(f"{path}:pause")).json()
    assert paused["state"] == "paused"
    failed = receiver.events()[0]["seq"]
    receiver.status = 200
    await node.client.post(f"{path}:resume", json={"after": "now"})
    await node.submit()
    await receiver.until(lambda: receiver.events()[-1]["seq"] > failed)
    last = [event["seq"] for event in receiver.events() if event["seq"] > failed]
    assert len(last) == 1


async def test_a_new_secret_counts_at_once_and_a_deleted_webhook_gets_nothing(
    node: Node,
) -> None:
    receiver = node.receiver
    made = await node.create(types=["job.created"])
    path = f"/webhooks/{made['webhookId']}"
    await node.submit()
    await receiver.until(lambda: receiver.posts)
    rotated = (await node.client.post(f"{path}:rotateSecret")).json()
    assert rotated["secret"] != made["secret"]
    await node.submit()
    await receiver.until(lambda: len(receiver.posts) == 2)
    headers, body = receiver.posts[-1]
    signature = hmac.new(rotated["secret"].encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-jobengine-signature"] == f"sha256={signature}"
    await node.client.delete(path)
    other = await node.create(types=["job.created"])
    await node.submit()
    await receiver.until(lambda: len(receiver.posts) == 3)
    assert receiver.posts[-1][0]["x-jobengine-webhook-id"] == other["webhookId"]
