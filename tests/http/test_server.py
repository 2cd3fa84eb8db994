"""The server with applications of a few lines: what no request and no peer may do to it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from jobengine.http.app import create_app
from jobengine.http.connection import HANDSHAKE
from jobengine.http.hand_over import HAND_OVER, HandedConnection
from jobengine.http.peers import origin_of
from jobengine.http.server import AddressUnavailableError, ServerLimits, listen, serve
from tests.http.conftest import Rest

UPGRADE = (
    b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, without reading the body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Sends for ever."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


class Served:
    def __init__(self, port: int, stopping: trio.Event, ended: trio.Event) -> None:
        self.port = port
        self.stopping = stopping
        self.ended = ended

    async def connect(self, data: bytes, origin: str = "127.0.0.1") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=origin)
        await stream.send_all(data)
        return stream

    async def first_line(self, data: bytes) -> bytes:
        async with await self.connect(data) as stream:
            with trio.fail_after(15):
                return (await stream.receive_some()).partition(b"\r\n")[0]


@asynccontextmanager
async def serving(app: Any, **limits: Any) -> AsyncIterator[Served]:
    """A server of this application; it must end by itself once it is told to."""
    stopping, ended = trio.Event(), trio.Event()

    async def run(task_status: Any) -> None:
        await serve(
            app,
            listen("127.0.0.1", 0),
            ServerLimits(**limits),
            stopping=stopping,
            task_status=task_status,
        )
        ended.set()

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(run)
        yield Served(bound.port, stopping, ended)
        stopping.set()
        with trio.fail_after(15):
            await ended.wait()


async def closed_by_server(stream: trio.SocketStream, within_s: float = 5.0) -> bytes:
    """What the server sends before it closes the connection."""
    said = b""
    with trio.fail_after(within_s):
        try:
            async for chunk in stream:
                said += chunk
        except trio.BrokenResourceError:
            pass
    return said


async def test_an_upgrade_with_bytes_right_behind_it_ends_its_own_connection_only(
    rest: Rest,
) -> None:
    for extra in (b"", b"x", b"\x81\x05hello", b"x" * 5_000):
        await rest.raw(UPGRADE + extra)
        assert (await rest.client.get("/jobs")).status_code == 200


async def test_an_error_that_leaves_a_connection_ends_that_connection_only() -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("out of the connection")

    async def handing(scope: Any, receive: Any, send: Any) -> None:
        if HANDSHAKE not in scope["extensions"]:
            await hello(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 101, "headers": []})
        await send({"type": HAND_OVER, "serve": broken})

    async with serving(handing) as served:
        async with await served.connect(UPGRADE) as stream:
            assert await closed_by_server(stream) == b""
        assert (await served.first_line(GET)).startswith(OK)


async def test_a_refused_request_whose_body_never_comes_does_not_stay(rest: Rest) -> None:
    # Whether it stays without the guard is a matter of scheduling, hence several.
    for _ in range(20):
        said = b"POST /api/v1/jobengine/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxx"
        assert (await rest.raw(said)).startswith(b"HTTP/1.1 401")


async def test_an_idle_connection_is_closed_after_a_request_too(rest: Rest) -> None:
    app = create_app(rest.front)
    async with serving(app, idle_s=0.05) as served:
        for _ in range(10):
            async with await served.connect(GET) as stream:
                assert (await closed_by_server(stream)).startswith(b"HTTP/1.1 404")


async def test_a_peer_that_does_not_read_is_left_after_a_while() -> None:
    left = trio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await flood(scope, receive, send)
        finally:
            left.set()

    async with serving(watched, write_s=0.1) as served, await served.connect(GET):
        with trio.fail_after(15):
            await left.wait()


async def test_a_peer_that_does_not_read_does_not_keep_the_server_from_stopping() -> None:
    async with serving(flood, graceful_s=0.1) as served, await served.connect(GET) as stream:
        await stream.receive_some()
        served.stopping.set()
        with trio.fail_after(15):
            await served.ended.wait()


async def test_a_request_in_flight_is_answered_while_the_server_stops() -> None:
    arrived, go_on = trio.Event(), trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        await go_on.wait()
        await hello(scope, receive, send)

    async with serving(slow) as served, await served.connect(GET) as stream:
        await arrived.wait()
        served.stopping.set()
        with trio.fail_after(15):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", served.port)).aclose()
                except OSError:
                    break
        go_on.set()
        said = await closed_by_server(stream)
        assert b"\r\nconnection: close\r\n" in said
        assert said.endswith(b"\r\n\r\nhello")


async def test_an_idle_connection_is_closed_as_soon_as_the_server_stops() -> None:
    async with serving(hello, graceful_s=60.0) as served, await served.connect(GET) as stream:
        assert OK in await stream.receive_some()
        served.stopping.set()
        assert await closed_by_server(stream) == b""


async def test_one_connection_too_many_is_closed_at_once() -> None:
    async with serving(hello, connections_max=2) as served:
        kept = [await served.connect(GET, f"127.0.0.{n}") for n in (2, 3)]
        for stream in kept:
            with trio.fail_after(15):
                await stream.receive_some()
        async with await served.connect(b"") as third:
            assert await closed_by_server(third) == b""
        for stream in kept:
            await stream.aclose()


async def test_connections_of_one_origin_leave_half_of_the_server_to_others() -> None:
    async def until_left(connection: HandedConnection) -> None:
        await connection.bytes.send_all(b"handed over")
        await connection.bytes.receive_some(1)

    async def handing(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await hello(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": HAND_OVER, "serve": until_left})

    async with serving(handing, connections_max=4) as served:

        async def kept(data: bytes, origin: str = "127.0.0.1") -> trio.SocketStream:
            stream = await served.connect(data, origin)
            with trio.fail_after(15):
                assert await stream.receive_some()
            return stream

        streams = [await kept(GET), await kept(GET)]
        async with await served.connect(b"") as third:
            assert await closed_by_server(third) == b""
        streams.append(await kept(GET, "127.0.0.2"))
        await streams.pop(0).aclose()
        # What was handed over is somebody's, and no more the origin's.
        streams.append(await kept(GET.replace(b"/ ", b"/stream ", 1)))
        streams.append(await kept(GET))
        for stream in streams:
            await stream.aclose()


@pytest.mark.parametrize(
    ("address", "origin"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "0000000000000000")],
)
async def test_an_origin_is_an_address_or_a_network(address: str, origin: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=address)
    async with listener, await trio.open_tcp_stream(*listener.socket.getsockname()[:2]):
        async with await listener.accept() as accepted:
            assert origin_of(accepted) == origin
        assert origin_of(accepted) == ""


async def test_a_cancelled_server_has_let_go_of_its_port() -> None:
    listener = listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(
            partial(serve, hello, listener, ServerLimits(), stopping=trio.Event())
        )
        nursery.cancel_scope.cancel()
    listen("127.0.0.1", bound.port).close()


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            AddressUnavailableError, match=f"127.0.0.1:{port}: the port is taken"
        ) as e:
            listen("127.0.0.1", port)
    assert "\n" not in str(e.value)


def test_an_address_that_is_not_ours_is_told_in_one_line() -> None:
    with pytest.raises(AddressUnavailableError, match="no interface of this machine"):
        listen("192.0.2.1", 0)
