"""What is open when its token ends: worker sessions at both doors and live streams are cut, say
why, and lose nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.domain.instant import SECOND
from jobengine.wire.frames import CLOSE_TOKEN_ENDED
from tests.http.conftest import BASE, SIGNED
from tests.http.opened import Opened, hear, opened, say

DOORS = {"worker": "", "http": f"{BASE}/worker"}
End = Callable[[Opened, str], Awaitable[str]]


async def revoke(node: Opened, bearer: str) -> str:
    """Revoke the token; gives how the reason begins."""
    identity = Tokens(node.key).verify(bearer, node.engine.clock.moment().at)
    headers = {**node.headers(), **SIGNED}
    body = {"tokenId": identity.token_id}
    answer = await node.client.post("/tokens:revoke", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return "the token was revoked"


async def expire(node: Opened, bearer: str) -> str:
    """Let it expire by a step of the wall clock; gives how the reason begins.

    Nothing waits on the wall clock, so a change of who may act makes the node look at it.
    """
    clock = node.engine.clock
    assert isinstance(clock, SimulatedClock)
    clock.skew += 601 * SECOND
    await revoke(node, Tokens(node.key).issue("demo", Scope, "x", 60, clock.moment().at))
    return "the token expired at 2026-01-0"


def url_of(node: Opened, door: str) -> str | None:
    base = node.doors.http_url.replace("http", "ws", 1)
    return None if door == "worker" else base + DOORS[door]


def bearer_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


async def greet(connection: WebSocketConnection, **fields: Any) -> dict[str, Any]:
    said = {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1, **fields}
    await say(connection, said)
    return await hear(connection, "welcome")


async def farewell(connection: WebSocketConnection) -> tuple[int, str]:
    with trio.fail_after(15):
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - frames may come before
            while True:
                await connection.get_message()
    reason = closed.value.reason
    assert reason is not None
    return reason.code, reason.reason or ""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("end", [expire, revoke])
async def test_a_session_is_closed_with_the_reason_and_a_fresh_token_resumes_its_lease(
    door: str, end: End
) -> None:
    async with opened() as node:
        headers, url = node.headers(), url_of(node, door)
        made = await node.client.post("/jobs", json={"jobType": "scan", "queue": "q"})
        async with node.worker(headers, url=url) as connection:
            await greet(connection)
            await say(connection, {"op": "credit", "slots": 1})
            lease = await hear(connection, "lease")
            begins = await end(node, bearer_of(headers))
            code, reason = await farewell(connection)
        assert code == CLOSE_TOKEN_ENDED
        assert reason.startswith(begins)
        named = {"leaseId": lease["leaseId"], "token": lease["token"]}
        async with node.worker(url=url) as connection:
            welcome = await greet(connection, resume=[named])
            assert welcome["resumed"] == [lease["leaseId"]]
            await say(connection, {"op": "complete", "ref": 1, "result": None, **named})
            assert (await hear(connection, "ack"))["ref"] == 1
        job = await node.client.get(f"/jobs/{made.json()['jobId']}", headers=node.headers())
        assert (job.json()["state"], job.json()["attempt"]) == ("completed", 1)


@pytest.mark.parametrize("door", DOORS)
async def test_a_session_that_has_not_said_hello_is_closed_as_well(door: str) -> None:
    async with opened() as node:
        headers = node.headers()
        async with node.worker(headers, url=url_of(node, door)) as connection:
            await revoke(node, bearer_of(headers))
            assert await farewell(connection) == (CLOSE_TOKEN_ENDED, "the token was revoked")


async def test_the_end_of_one_token_closes_no_other_session_and_no_other_tenants() -> None:
    async with opened() as node:
        gone, kept, foreign = node.headers(), node.headers(), node.headers("other")
        async with node.worker(kept) as one, node.worker(foreign) as two, node.worker(gone) as cut:
            for connection in (one, two, cut):
                await greet(connection)
            identity = Tokens(node.key).verify(bearer_of(foreign), node.engine.clock.moment().at)
            body = {"tokenId": identity.token_id}
            answer = await node.client.post("/tokens:revoke", json=body, headers=SIGNED)
            assert answer.status_code == 200
            await revoke(node, bearer_of(gone))
            assert (await farewell(cut))[0] == CLOSE_TOKEN_ENDED
            for connection in (one, two):
                await say(connection, {"op": "heartbeat", "ref": "here"})
                assert (await hear(connection, "ack"))["ref"] == "here"


@pytest.mark.parametrize("end", [expire, revoke])
@pytest.mark.parametrize("path", ["/stream/events", "/stream/jobs/{jobId}"])
async def test_a_stream_ends_with_an_event_that_says_why(path: str, end: End) -> None:
    async with opened() as node:
        made = await node.client.post("/jobs", json={"jobType": "scan"})
        headers = node.headers()
        path = path.format(jobId=made.json()["jobId"])
        with trio.fail_after(15):
            async with node.client.stream("GET", path, headers=headers) as stream:
                begins = await end(node, bearer_of(headers))
                lines = [line async for line in stream.aiter_lines() if line]
        assert lines[-2] == "event: end"
        assert lines[-1].startswith(f'data: {{"code":"TOKEN_INVALID","message":"{begins}')
        again = await node.client.get(path, headers=headers)
        assert again.status_code == 401
