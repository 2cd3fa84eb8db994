"""The worker protocol on the HTTP port: plain requests and the WebSocket, over the real server."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio_websocket import connect_websocket_url

from jobengine.actors.lease_calls import LeaseCalls
from jobengine.auth.keys import load_or_create_key
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine
from jobengine.http.app import create_app
from jobengine.http.direct import DirectFirst
from jobengine.http.front import Front
from jobengine.http.identities import Identities
from jobengine.http.route import BASE
from jobengine.http.routes.health import readiness_of
from jobengine.http.server import ServerLimits, listen, serve
from jobengine.http.table import ROUTES
from jobengine.http.worker_admission import token_admission
from jobengine.http.worker_calls import WorkerCalls, worker_routes
from jobengine.http.worker_leases import lease_frame
from jobengine.http.worker_path import WEBSOCKET_PATH, WorkerPath
from jobengine.http.worker_reading import WorkerReader
from jobengine.testing import memory_engine
from jobengine.wire.frames import SUBPROTOCOL
from tests.http.worker_socket import Socket, session_ports
from tests.protocol.runner import load, run_vector

VECTORS = [v for v in load() if v["name"] in ("lease-and-complete", "resume", "bad-json")]


@attrs.frozen
class Port:
    engine: Engine
    client: httpx.AsyncClient
    url: str
    token: str
    nursery: trio.Nursery

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def submitted(self) -> str:
        answer = await self.post("/jobs", jobType="scan", payload={"n": 1})
        job_id: str = answer.json()["jobId"]
        return job_id

    async def claimed(self) -> dict[str, Any]:
        answer = await self.post("/worker/claim", workerId="w", queues=["scan"])
        [lease] = answer.json()["leases"]
        assert isinstance(lease, dict)
        return lease

    async def state(self, job_id: str) -> str:
        state: str = (await self.client.get(f"/jobs/{job_id}")).json()["state"]
        return state

    def connect(self) -> "_Connecting":
        return _Connecting(self)


@attrs.define
class _Connecting:
    port: Port
    socket: Socket | None = None

    async def __aenter__(self) -> Socket:
        connection = await connect_websocket_url(
            self.port.nursery,
            self.port.url,
            subprotocols=[SUBPROTOCOL],
            extra_headers=[(b"Authorization", f"Bearer {self.port.token}".encode())],
        )
        self.socket = Socket(connection)
        return self.socket

    async def __aexit__(self, *_: object) -> None:
        assert self.socket is not None
        await trio.aclose_forcefully(self.socket.connection._stream)


async def _no_metrics() -> bytes:
    return b""


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    key = load_or_create_key(tmp_path / "key.pem")
    tokens = Tokens(key)
    faults: list[BaseException] = []
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        front = Front(
            gateway=engine.gateway,
            tokens=tokens,
            readiness=readiness_of(engine.gateway),
            render_metrics=_no_metrics,
        )
        calls = WorkerCalls(
            LeaseCalls(engine.registry, lease_frame), WorkerReader(engine.gateway.new_job_ids)
        )
        framework = create_app(front, (*ROUTES, *worker_routes(calls)))
        admit = token_admission(Identities(tokens, engine.store, engine.clock))
        workers = WorkerPath(session_ports(engine, faults), admit, connections_max=4)
        app = DirectFirst(front, ROUTES, framework, workers)
        bound = await nursery.start(
            partial(serve, app, listen("127.0.0.1", 0), ServerLimits(), stopping=front.stopping)
        )
        token = tokens.issue(
            "demo", ["orch:work", "orch:submit", "orch:read"], "me", 600, engine.clock.moment().at
        )
        headers = {"Authorization": f"Bearer {token}", "X-Stella-Tenant": "demo"}
        root = f"127.0.0.1:{bound.port}{BASE}"
        async with httpx.AsyncClient(
            base_url=f"http://{root}", headers=headers, trust_env=False, timeout=10
        ) as client:
            yield Port(engine, client, f"ws://{root}{WEBSOCKET_PATH}", token, nursery)
        assert faults == []
        nursery.cancel_scope.cancel()


async def test_a_job_is_claimed_and_completed_by_plain_requests(port: Port) -> None:
    job_id = await port.submitted()
    lease = await port.claimed()
    assert (lease["jobId"], lease["payload"], lease["taskRunnerId"]) == (job_id, {"n": 1}, "w")
    path = f"/worker/leases/{lease['leaseId']}"
    token = lease["token"]
    answer = await port.post(f"{path}:heartbeat", token=token, percent=50)
    assert (answer.status_code, answer.json()) == (200, {"stop": False})
    assert (await port.post(f"{path}:progress", token=token, message="half")).status_code == 200
    for _ in range(2):
        answer = await port.post(f"{path}:complete", token=token, result={"ok": True})
        assert (answer.status_code, answer.json()) == (200, {"leaseId": lease["leaseId"]})
    assert await port.state(job_id) == "completed"
    answer = await port.post(f"{path}:heartbeat", token=token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "LEASE_LOST")


async def test_a_lease_is_failed_and_released_by_plain_requests(port: Port) -> None:
    job_id = await port.submitted()
    lease = await port.claimed()
    path = f"/worker/leases/{lease['leaseId']}"
    answer = await port.post(f"{path}:release", token=lease["token"], reason="later")
    assert answer.status_code == 200
    lease = await port.claimed()
    assert lease["attempt"] == 2
    path = f"/worker/leases/{lease['leaseId']}"
    error = {"class": "Boom", "message": "no", "retryable": False}
    wrong = await port.post(f"{path}:fail", token=lease["token"] + 1, error=error)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "LEASE_LOST")
    assert (await port.post(f"{path}:fail", token=lease["token"], error=error)).status_code == 200
    assert await port.state(job_id) == "failed"


async def test_what_cannot_be_stored_is_a_bad_request(port: Port) -> None:
    await port.submitted()
    lease = await port.claimed()
    path = f"/worker/leases/{lease['leaseId']}:complete"
    answer = await port.post(path, token=lease["token"], result="\0")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_FIELD")
    answer = await port.post("/worker/claim", workerId="w", queues=["scan"], waitSeconds=31)
    assert answer.status_code == 400


async def test_a_claim_of_nothing_is_an_empty_list(port: Port) -> None:
    answer = await port.post("/worker/claim", workerId="w", jobTypes=["scan"])
    assert (answer.status_code, answer.json()) == (200, {"leases": []})


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_the_websocket_of_the_http_port_meets_the_vectors(
    port: Port, vector: dict[str, Any]
) -> None:
    await run_vector(vector, port.connect)


async def test_a_session_of_the_http_port_is_hung_up_on_with_its_code(port: Port) -> None:
    async with port.connect() as socket:
        for _ in range(5):
            await socket.send("{")
            assert (await socket.hear("error"))["code"] == "BAD_JSON"
        with trio.fail_after(5):
            await socket.connection._close_handshake.wait()
        assert socket.connection.closed is not None
        assert socket.connection.closed.code == 1008


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": SUBPROTOCOL,
}


async def test_a_frame_over_the_limit_is_not_even_read_and_none_is_inflated(port: Port) -> None:
    asked = {
        **HANDSHAKE,
        "Host": "x",
        "Authorization": f"Bearer {port.token}",
        "Sec-WebSocket-Extensions": "permessage-deflate",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    long = b"\x81\xff" + (5 << 20).to_bytes(8, "big") + bytes(4)
    deflated = b"\xc1\x81" + bytes(4) + b"x"
    for sent, code in ((long, 1009), (deflated, 1002)):
        target = httpx.URL(port.url)
        async with await trio.open_tcp_stream("127.0.0.1", target.port or 0) as stream:
            await stream.send_all(f"GET {target.path} HTTP/1.1\r\n{lines}\r\n".encode())
            with trio.fail_after(15):
                said = bytes(await stream.receive_some())
                assert said.startswith(b"HTTP/1.1 101 ")
                assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in said
                assert b"extensions" not in said.lower()
                await stream.send_all(sent)
                said = b"".join([chunk async for chunk in stream])
            assert int.from_bytes(said[2:4], "big") == code


async def test_a_frame_over_one_mebibyte_is_an_error_on_the_http_port(port: Port) -> None:
    async with port.connect() as socket:
        await socket.send("x" * ((1 << 20) + 1))
        assert (await socket.hear("error"))["code"] == "PAYLOAD_TOO_LARGE"


async def test_sessions_of_one_tenant_take_half_of_the_http_port_at_most(port: Port) -> None:
    url = port.url.replace("ws:", "http:")
    async with port.connect() as first, port.connect() as second:
        for socket in (first, second):
            await socket.say({"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1})
            await socket.hear("welcome")
        refused = await port.client.get(url, headers=HANDSHAKE)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["error"]["code"] == "OVERLOADED"
    with trio.fail_after(15):
        while port.engine.registry.statistics().sessions:
            await trio.lowlevel.checkpoint()
    async with port.connect() as socket:
        await socket.say({"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1})
        await socket.hear("welcome")


async def test_the_websocket_of_the_http_port_asks_who_comes(port: Port) -> None:
    url = port.url.replace("ws:", "http:")
    for header, status, code in (
        ({"Authorization": "Bearer x"}, 401, "TOKEN_INVALID"),
        ({"X-Stella-Tenant": "other"}, 403, "TENANT_FORBIDDEN"),
        ({"Sec-WebSocket-Protocol": "other"}, 400, "INVALID_FIELD"),
        ({"Sec-WebSocket-Key": "short"}, 400, "INVALID_FIELD"),
    ):
        headers = httpx.Headers(port.client.headers)
        headers.update({**HANDSHAKE, **header})
        async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
            refused = await client.get(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert (await port.client.get(url)).status_code == 404
