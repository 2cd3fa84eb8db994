"""What a new user's test of a job's life must see: over HTTP and WebSocket, on a real database."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio_websocket import connect_websocket_url

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import open_database, open_engine
from jobengine.http.doors import Doors, Endpoint, open_doors
from jobengine.settings import Settings
from jobengine.wire.frames import SUBPROTOCOL
from tests.http.loopback import PLAIN
from tests.http.worker_socket import Socket
from tests.store.conformance.conftest import migrated_database, servers

__all__ = ["migrated_database", "servers"]

LOCAL = Endpoint("127.0.0.1", 0)
OPERATOR = {"X-Stella-Operator-Reason": "a test", "X-Stella-Operator-Ticket": "T-1"}


class Place:
    """An engine with its doors, a REST client and a worker that takes one job at a time."""

    def __init__(self, doors: Doors, rest: httpx.AsyncClient, worker: Socket) -> None:
        self.doors = doors
        self.rest = rest
        self.worker = worker

    async def submit(self, **job: Any) -> str:
        answer = await self.rest.post("/jobs", json={"jobType": "scan", **job})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["jobId"]
        return job_id

    async def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.rest.get(f"/jobs/{job_id}")).json()
        return found

    async def history(self, job_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.rest.get(f"/jobs/{job_id}/history")).json()[
            "items"
        ]
        return items

    async def operate(self, path: str) -> httpx.Response:
        return await self.rest.post(path, headers=OPERATOR)

    async def lease(self) -> dict[str, Any]:
        await self.worker.say({"op": "credit", "slots": 1})
        return await self.worker.hear("lease")

    async def report(self, lease: dict[str, Any], op: str, **fields: Any) -> dict[str, Any]:
        named = {"leaseId": lease["leaseId"], "token": lease["token"], "ref": "r"}
        await self.worker.say({"op": op, **named, **fields})
        with trio.fail_after(15):
            while True:
                for said in await self.heard():
                    if said.get("ref") == "r":
                        return said

    async def first_events(self, count: int) -> list[str]:
        """The types of the tenant's first events, as the stream sends them."""
        url = self.rest.base_url
        stream = await trio.open_tcp_stream(url.host, url.port or 80)
        lines = [f"GET {url.path}stream/events?after=0 HTTP/1.1", f"Host: {url.host}"]
        lines += [f"{name}: {value}" for name, value in self.rest.headers.items()]
        async with stream:
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            received = b""
            with trio.fail_after(30):
                while len(found := re.findall(rb"^event: (.+)$", received, re.MULTILINE)) < count:
                    received += await stream.receive_some()
        return [name.decode() for name in found[:count]]

    async def heard(self) -> list[dict[str, Any]]:
        frame = msgspec.json.decode(await self.worker.receive())
        return frame if isinstance(frame, list) else [frame]


@pytest.fixture
async def place(migrated_database: str, tmp_path: Path) -> AsyncIterator[Place]:
    settings = Settings()
    key = load_or_create_key(tmp_path / "key.pem")
    async with (
        open_database(settings, conninfo=migrated_database) as store,
        open_engine(store, settings) as engine,
        open_doors(engine, key, http=LOCAL, worker=LOCAL, drain_s=0.1) as doors,
    ):
        at = engine.clock.moment().at
        token = Tokens(key).issue("demo", tuple(Scope), "tester", 600, at)
        headers = [("Authorization", f"Bearer {token}"), ("X-Stella-Tenant", "demo")]
        base = f"{doors.http_url}/api/v1/jobengine"
        async with (
            httpx.AsyncClient(
                base_url=base, headers=headers, trust_env=False, verify=PLAIN
            ) as rest,
            connected(doors, headers) as worker,
        ):
            yield Place(doors, rest, worker)


@asynccontextmanager
async def connected(doors: Doors, headers: list[tuple[str, str]]) -> AsyncIterator[Socket]:
    async with trio.open_nursery() as nursery:
        connection = await connect_websocket_url(
            nursery,
            f"{doors.worker_url}/worker",
            subprotocols=[SUBPROTOCOL],
            extra_headers=[(name.encode(), value.encode()) for name, value in headers],
        )
        socket = Socket(connection)
        await socket.say({"op": "hello", "workerId": "w1", "jobTypes": ["scan"], "capacity": 1})
        await socket.hear("welcome")
        yield socket
        await connection.aclose()


async def test_a_job_is_held_released_started_and_completed(place: Place) -> None:
    job_id = await place.submit(hold=True)
    assert (await place.job(job_id))["state"] == "pending"
    released = await place.operate(f"/jobs/{job_id}:release")
    assert released.json()["state"] == "scheduled"
    lease = await place.lease()
    assert lease["jobId"] == job_id
    assert (await place.job(job_id))["state"] == "running"
    assert (await place.report(lease, "complete", result={"n": 1}))["op"] == "ack"
    job = await place.job(job_id)
    assert (job["state"], job["result"], job["attempt"]) == ("completed", {"n": 1}, 1)
    steps = await place.history(job_id)
    assert [(step["from"], step["to"]) for step in steps] == [
        (None, "pending"),
        ("pending", "scheduled"),
        ("scheduled", "running"),
        ("running", "completed"),
    ]
    assert steps[-1]["at"] == job["finishedAt"]


async def test_a_release_is_seen_as_an_event(place: Place) -> None:
    job_id = await place.submit(hold=True)
    await place.operate(f"/jobs/{job_id}:release")
    seen = await place.first_events(2)
    assert seen == ["job.created", "job.scheduled"]


async def test_three_retries_and_then_a_dead_letter(place: Place) -> None:
    backoff = {"kind": "fixed", "baseSeconds": 0.0, "jitter": "none"}
    job_id = await place.submit(maxRetries=3, backoff=backoff)
    error = {"class": "Boom", "message": "no luck", "retryable": True}
    for failures in range(1, 5):
        lease = await place.lease()
        assert lease["attempt"] == failures
        await place.report(lease, "fail", error=error)
        job = await place.job(job_id)
        assert job["failures"] == failures
        assert job["state"] == ("scheduled" if failures < 4 else "failed")
    steps = [(step["from"], step["to"]) for step in await place.history(job_id)]
    assert steps.count(("failed", "scheduled")) == 3
    [letter] = (await place.rest.get("/deadletter")).json()["items"]
    assert (letter["jobId"], letter["attempts"], letter["state"]) == (job_id, 4, "open")


async def test_a_completed_job_cannot_run_again(place: Place) -> None:
    job_id = await place.submit()
    await place.report(await place.lease(), "complete")
    refused = await place.operate(f"/jobs/{job_id}:retry")
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert error["code"] == "ILLEGAL_TRANSITION"
    assert error["details"]


async def test_a_stale_token_is_refused_and_changes_nothing(place: Place) -> None:
    job_id = await place.submit()
    lease = await place.lease()
    stale = {**lease, "token": lease["token"] + 1}
    refused = await place.report(stale, "complete", result="wrong")
    assert (refused["op"], refused["code"]) == ("nack", "LEASE_LOST")
    assert (await place.report(lease, "complete", result="right"))["op"] == "ack"
    assert (await place.job(job_id))["result"] == "right"
