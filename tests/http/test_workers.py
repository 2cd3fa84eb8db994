"""Workers as an operator sees them, from the frames of real ones."""

from typing import Any

import httpx
import msgspec
import pytest
from trio_websocket import WebSocketConnection

from tests.http.conftest import SIGNED
from tests.http.opened import hear, opened, say


async def greet(socket: WebSocketConnection, worker_id: str, **fields: Any) -> None:
    given = {"queues": ["q"], "capacity": 3, "taskRunnerId": "host-1", **fields}
    await say(socket, {"op": "hello", "workerId": worker_id, **given})
    await hear(socket, "welcome")


async def drain(client: httpx.AsyncClient, worker_id: str, **options: Any) -> httpx.Response:
    headers = {**SIGNED, **options.pop("headers", {})}
    return await client.post(f"/workers/{worker_id}:drain", headers=headers, **options)


async def test_attached_workers_are_listed_with_what_they_hold() -> None:
    async with opened() as node, node.worker() as socket:
        client = node.client
        assert (await client.get("/workers")).json() == {"items": [], "nextPageToken": None}
        await greet(socket, "w-1")
        await say(socket, {"op": "credit", "slots": 2})
        await client.post("/jobs", json={"jobType": "scan", "queue": "q"})
        await hear(socket, "lease")
        (worker,) = (await client.get("/workers")).json()["items"]
        instants = {name: worker.pop(name) for name in ("connectedAt", "lastHeartbeatAt")}
        assert all(text.endswith("Z") for text in instants.values())
        assert instants["connectedAt"] <= instants["lastHeartbeatAt"]
        assert worker == {
            "workerId": "w-1",
            "taskRunnerId": "host-1",
            "queues": ["q"],
            "jobTypes": [],
            "capacity": 3,
            "leases": 1,
            "credit": 1,
            "draining": False,
            "sessions": 1,
        }
        shown = (await client.get("/workers/w-1")).json()
        assert shown == {**worker, **instants}
        assert (await client.get("/workers/w-2")).status_code == 404


async def test_connections_of_one_worker_are_one_and_producers_and_claims_are_none() -> None:
    async with (
        opened() as node,
        node.worker() as first,
        node.worker() as second,
        node.worker() as producer,
    ):
        await greet(first, "w-1")
        await greet(second, "w-1", queues=["r"])
        await greet(producer, "p-1", queues=[], capacity=0)
        claim = {"workerId": "curl", "queues": ["q"], "max": 1, "waitSeconds": 0}
        assert (await node.client.post("/worker/claim", json=claim)).status_code == 200
        (worker,) = (await node.client.get("/workers")).json()["items"]
        assert (worker["workerId"], worker["sessions"], worker["capacity"]) == ("w-1", 2, 6)
        assert worker["queues"] == ["q", "r"]


async def test_workers_are_paged_by_id() -> None:
    names = ["a", "b", "c"]
    async with (
        opened() as node,
        node.worker() as one,
        node.worker() as two,
        node.worker() as three,
    ):
        for socket, name in zip((one, two, three), reversed(names), strict=True):
            await greet(socket, name)
        first = (await node.client.get("/workers?pageSize=2")).json()
        token = first["nextPageToken"]
        last = (await node.client.get(f"/workers?pageSize=2&pageToken={token}")).json()
        assert [each["workerId"] for each in first["items"] + last["items"]] == names
        assert last["nextPageToken"] is None


async def test_a_drained_worker_is_told_and_gets_no_more_leases() -> None:
    async with opened() as node, node.worker() as socket, node.worker() as other:
        client = node.client
        await greet(socket, "w-1")
        await greet(other, "w-2")
        await say(socket, {"op": "credit", "slots": 3})
        await client.post("/jobs", json={"jobType": "scan", "queue": "q"})
        lease = await hear(socket, "lease")
        answer = await drain(client, "w-1", json={"withinSeconds": 60})
        assert answer.status_code == 200
        assert (answer.json()["draining"], answer.json()["credit"]) == (True, 0)
        assert (await hear(socket, "drain"))["deadline"].endswith("Z")
        # Credit does not help it: the next job goes to the other one.
        await say(socket, {"op": "credit", "slots": 3, "ref": 1})
        await client.post("/jobs", json={"jobType": "scan", "queue": "q"})
        await say(other, {"op": "credit", "slots": 1})
        await hear(other, "lease")
        named = {"leaseId": lease["leaseId"], "token": lease["token"]}
        await say(socket, {"op": "complete", "ref": "done", "result": None, **named})
        await hear(socket, "ack")
        shown = (await client.get("/workers/w-1")).json()
        assert (shown["draining"], shown["leases"]) == (True, 0)
        entries = await node.engine.store.entries("demo", range(1, 50))
        (entry,) = [entry for entry in entries if entry.kind == "worker.drain_requested"]
        assert (entry.reason_given, entry.ticket) == ("a test", "T-1")
        assert msgspec.json.decode(entry.data)["workerId"] == "w-1"


async def test_a_drain_under_an_idempotency_key_is_recorded_once() -> None:
    async with opened() as node, node.worker() as socket:
        await greet(socket, "w-1")
        key = {"Idempotency-Key": "k"}
        first, again = [await drain(node.client, "w-1", headers=key) for _ in range(2)]
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json()
        entries = await node.engine.store.entries("demo", range(1, 50))
        assert [entry.kind for entry in entries].count("worker.drain_requested") == 1


@pytest.mark.parametrize("seconds", [0, 86_401, "soon"])
async def test_a_drain_has_a_deadline_within_reason(seconds: Any) -> None:
    async with opened() as node, node.worker() as socket:
        await greet(socket, "w-1")
        answer = await drain(node.client, "w-1", json={"withinSeconds": seconds})
        assert answer.status_code == 400
        assert (await drain(node.client, "nobody")).status_code == 404
