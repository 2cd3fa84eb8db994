"""Rows that are answered in front of the framework are answered as the framework does."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.http.app import create_app
from jobengine.http.direct import DirectFirst
from jobengine.http.hand_over import HAND_OVER
from jobengine.http.peers import ServerLimits
from jobengine.http.route import BASE
from jobengine.http.security import Cors
from jobengine.http.server import listen, serve
from jobengine.http.table import ROUTES
from tests.http.conftest import Rest
from tests.http.loopback import PLAIN

# A refusal ends the connection when it comes before the body has.
VARIES = {
    "connection",
    "content-length",
    "date",
    "idempotent-replayed",
    "location",
    "x-jobengine-backlog",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
}
ORIGIN = "https://console.example.com"


@pytest.fixture
async def ways(rest: Rest) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """The same front with its direct rows in front of the framework, and without."""
    front = attrs.evolve(rest.front, cors=Cors(frozenset({ORIGIN})))
    framework = create_app(front)
    apps: dict[str, Any] = {"framework": framework}
    apps["direct"] = DirectFirst(front, ROUTES, framework)
    async with trio.open_nursery() as nursery:
        clients = {}
        for name, app in apps.items():
            start = partial(
                serve, app, listen("127.0.0.1", 0), ServerLimits(), stopping=front.stopping
            )
            bound = await nursery.start(start)
            url = f"http://127.0.0.1:{bound.port}{BASE}"
            clients[name] = httpx.AsyncClient(
                base_url=url,
                trust_env=False,
                headers={**rest.headers(), "Origin": ORIGIN},
                verify=PLAIN,
            )
        yield clients
        for client in clients.values():
            await client.aclose()
        nursery.cancel_scope.cancel()


JOB = {"jobType": "scan"}


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/jobs", {"json": JOB}),
        ("/jobs", {"json": {**JOB, "uniqueKey": "u"}}),
        ("/jobs", {"json": JOB, "headers": {"Idempotency-Key": "k"}}),
        ("/jobs", {"json": JOB, "headers": {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}}),
        ("/jobs", {"json": JOB, "headers": {"Authorization": "Bearer no"}}),
        ("/jobs", {"json": JOB, "headers": {"X-Stella-Tenant": "other"}}),
        ("/jobs", {"json": JOB, "headers": {"X-Stella-Tenant": ""}}),
        ("/jobs", {"json": JOB, "headers": {"Origin": "https://else.example"}}),
        ("/jobs", {"json": JOB, "headers": {"Content-Type": "text/plain"}}),
        ("/jobs", {"json": JOB, "headers": {"X-Stella-Project": "x" * 300}}),
        ("/jobs", {"json": JOB, "headers": {"X-Correlation-Id": "x" * 300}}),
        ("/jobs", {"json": JOB, "params": {"nonsense": "1"}}),
        ("/jobs", {"json": {"jobTyp": "scan"}}),
        ("/jobs", {"content": b"{"}),
        ("/jobs", {"content": b""}),
        ("/jobs", {"content": b"x" * (1 << 20) + b"x"}),
        ("/%6Aobs", {"json": JOB}),
        ("/jobs/", {"json": JOB}),
        ("/jobs:bulk", {"json": [JOB, {"nonsense": 1}]}),
        ("/jobs:bulk", {"content": b"[]", "headers": {"Content-Type": "application/x-ndjson"}}),
        ("/jobs%3Abulk", {"json": [JOB]}),
    ],
)
async def test_both_ways_answer_alike(
    ways: dict[str, httpx.AsyncClient], path: str, request_: dict[str, Any]
) -> None:
    seen = {}
    for name, client in ways.items():
        with trio.fail_after(30):
            answer = await client.post(path, **request_)
        headers = {one: text for one, text in answer.headers.items() if one not in VARIES}
        # The second way meets what the first one created.
        status = 201 if answer.status_code == 200 else answer.status_code
        seen[name] = (status, headers, _shape(answer.json()))
    assert seen["direct"] == seen["framework"]


def _shape(body: Any) -> Any:
    """A body without what differs from one request to the next."""
    if isinstance(body, dict):
        differs = {"traceId", "jobId", "correlationId", "createdAt", "scheduledAt"}
        return {name: None if name in differs else _shape(one) for name, one in body.items()}
    if isinstance(body, list):
        return [_shape(one) for one in body]
    return "" if body in ("created", "existing") else body if not isinstance(body, int) else None


async def test_other_methods_of_a_direct_path_go_to_the_framework(
    ways: dict[str, httpx.AsyncClient],
) -> None:
    direct = ways["direct"]
    assert (await direct.get("/jobs")).status_code == 200
    refused = await direct.delete("/jobs")
    assert refused.status_code == 405
    assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    asks = {"Access-Control-Request-Method": "POST"}
    assert (await direct.options("/jobs", headers=asks)).status_code == 204


async def test_a_repeated_header_is_refused_on_the_direct_way(rest: Rest) -> None:
    asked = rest.headers()
    said = await rest.raw(
        f"POST {BASE}/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {asked['Authorization']}\r\n"
        "X-Stella-Tenant: demo\r\nX-Stella-Tenant: other\r\nConnection: close\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    assert said.startswith(b"HTTP/1.1 400")
    assert b"X-Stella-Tenant: is given twice" in said


async def test_a_body_that_stops_is_408_and_one_that_is_cut_is_left(rest: Rest) -> None:
    token = rest.headers()["Authorization"]
    begin = (
        f"POST {BASE}/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        "X-Stella-Tenant: demo\r\nContent-Length: 50\r\n\r\n{"
    ).encode()
    stream = await trio.open_tcp_stream("127.0.0.1", rest.port)
    await stream.send_all(begin)
    await stream.aclose()
    assert b'"REQUEST_TIMEOUT"' in await rest.raw(begin)
    assert (await rest.client.get("/jobs")).json()["items"] == []


@pytest.mark.parametrize("failing", ["http.response.start", HAND_OVER])
async def test_a_stream_that_cannot_be_handed_over_is_left(rest: Rest, failing: str) -> None:
    async def send(message: dict[str, Any]) -> None:
        if message["type"] == failing:
            raise RuntimeError("no")

    app = DirectFirst(rest.front, ROUTES, create_app(rest.front))
    path = f"{BASE}/stream/events"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "extensions": {},
        "headers": [(n.lower().encode(), v.encode()) for n, v in rest.headers().items()],
    }
    with pytest.raises(RuntimeError):
        await app(scope, trio.sleep_forever, send)
    await wait_all_tasks_blocked()
    assert rest.engine.broadcaster.census().readers == 0
