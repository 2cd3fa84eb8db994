"""Requests, connections and frames above their limits."""

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from jobengine.cli.failure import leaves
from jobengine.settings import Settings
from tests.http.opened import Opened, hear, opened, say
from tests.http.test_worker_socket import frame

HELLO = {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1}


def limits_told(answer: httpx.Response) -> tuple[int, int, int]:
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    limit, remaining, reset_s = (int(answer.headers[name]) for name in names)
    return limit, remaining, reset_s


async def test_an_answer_says_how_near_the_limit_is() -> None:
    async with opened(Settings(token_requests_per_s=0.5, token_requests_burst=10)) as node:
        first = await node.client.get("/jobs")
        second = await node.client.get("/jobs")
        assert limits_told(first) == (10, 9, 2)
        assert limits_told(second)[:2] == (10, 8)
        refused = await node.client.get("/jobs", params={"nonsense": "1"})
        assert refused.status_code == 400
        assert limits_told(refused)[:2] == (10, 7)


async def test_a_token_above_its_limit_is_answered_429_and_told_when_to_come_again() -> None:
    settings = Settings(token_requests_per_s=0.1, token_requests_burst=2)
    async with opened(settings) as node:
        answers = [await node.client.get("/jobs") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        refused = answers[2]
        assert refused.json()["error"]["code"] == "RATE_LIMITED"
        assert 9 <= int(refused.headers["Retry-After"]) <= 10
        assert limits_told(refused)[1] == 0
        other = await node.client.get("/jobs", headers=node.headers(subject="other"))
        assert other.status_code == 200


async def test_tokens_of_one_tenant_share_its_limit() -> None:
    settings = Settings(tenant_requests_per_s=0.01, tenant_requests_burst=2)
    async with opened(settings) as node:
        tokens = [node.headers(subject=f"s{n}") for n in range(3)]
        answers = [await node.client.get("/jobs", headers=token) for token in tokens]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert (await node.client.get("/jobs", headers=node.headers("acme"))).status_code == 200


async def test_a_token_that_does_not_count_is_not_counted() -> None:
    settings = Settings(token_requests_per_s=0.01, token_requests_burst=1)
    async with opened(settings) as node:
        for _ in range(3):
            answer = await node.client.get("/jobs", headers={"Authorization": "Bearer no"})
            assert answer.status_code == 401
            assert "X-RateLimit-Limit" not in answer.headers
        assert (await node.client.get("/jobs")).status_code == 200
        for _ in range(3):
            assert (await httpx.AsyncClient.get(node.client, "/jobs")).status_code == 429


async def test_a_worker_that_connects_too_often_is_refused_with_429() -> None:
    settings = Settings(token_connections_per_s=0.01, token_connections_burst=1)
    async with opened(settings) as node:
        headers = node.headers()
        async with node.worker(headers):
            pass
        assert await _status(node, headers) == 429
        assert await _status(node, headers, _over_http(node)) == 429
        token = headers["Authorization"].removeprefix("Bearer ")
        for spelling in (f"bearer {token}", f"Bearer   {token}"):
            respelled = {**headers, "Authorization": spelling}
            assert await _status(node, respelled) == 429
        async with node.worker(node.headers(subject="other")):
            pass


def _over_http(node: Opened) -> str:
    return node.doors.http_url.replace("http", "ws") + "/api/v1/jobengine/worker"


async def _status(node: Opened, headers: dict[str, str], url: str | None = None) -> int:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with node.worker(headers, url=url):
            pass
    [rejected] = leaves(caught.value)
    assert isinstance(rejected, ConnectionRejected)
    return rejected.status_code


@pytest.mark.parametrize("port", ["worker", "http"])
async def test_a_session_with_too_many_frames_hears_an_error_and_is_closed(port: str) -> None:
    settings = Settings(session_frames_per_s=1.0, session_frames_burst=3)
    async with opened(settings) as node:
        url = _over_http(node) if port == "http" else None
        async with node.worker(url=url) as connection:
            await say(connection, HELLO)
            for _ in range(3):
                await say(connection, {"op": "heartbeat", "ref": 1})
            assert (await hear(connection, "error"))["code"] == "RATE_LIMITED"
            with pytest.raises(ConnectionClosed) as closed:
                await hear(connection, "never")
            assert closed.value.reason is not None
            # 1006: a heartbeat that arrived behind the close made the kernel cut the connection
            # before the close frame was read.
            assert closed.value.reason.code in (1008, 1006)


@pytest.mark.parametrize("kind", ["pings", "pongs", "fragments"])
@pytest.mark.parametrize("port", ["worker", "http"])
async def test_frames_that_are_no_messages_count_too(port: str, kind: str) -> None:
    floods = {
        "pings": frame(0x89, b"p") * 4,
        "pongs": frame(0x8A, b"p") * 4,
        "fragments": frame(0x01, b"") + frame(0x00, b"") * 3,
    }
    settings = Settings(session_frames_per_s=1.0, session_frames_burst=3)
    async with opened(settings) as node:
        url = _over_http(node) if port == "http" else None
        async with node.worker(url=url) as connection:
            await connection._stream.send_all(floods[kind])
            assert (await hear(connection, "error"))["code"] == "RATE_LIMITED"
            with pytest.raises(ConnectionClosed) as closed:
                await hear(connection, "never")
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1008


async def test_a_session_within_its_rate_goes_on() -> None:
    settings = Settings(session_frames_per_s=1.0, session_frames_burst=10)
    async with opened(settings) as node, node.worker() as connection:
        await say(connection, HELLO)
        for ref in range(9):
            await say(connection, {"op": "heartbeat", "ref": ref})
            with trio.fail_after(15):
                assert (await hear(connection, "ack"))["ref"] == ref
