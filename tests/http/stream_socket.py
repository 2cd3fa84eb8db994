"""A client of the WebSocket form of streams. It takes a message for what `wire/streams` says it is,
and nothing else."""

import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from jobengine.http.streams.handshake import BEARER_PREFIX, TENANT_PREFIX
from jobengine.wire.streams import (
    STREAM_SUBPROTOCOL,
    StreamEnd,
    StreamEvents,
    StreamHello,
    StreamLog,
    StreamMessage,
)
from tests.http.conftest import BASE

_messages: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(StreamMessage)


@attrs.define
class Watching:
    """`raw` is the text of the last message."""

    connection: WebSocketConnection
    raw: str = ""

    async def next(self) -> Any:
        with trio.fail_after(15):
            text = await self.connection.get_message()
        assert isinstance(text, str)
        self.raw = text
        return _messages.decode(text)

    async def hello(self) -> int | str | None:
        said = await self.next()
        assert isinstance(said, StreamHello)
        return said.after

    async def take(self, count: int) -> list[dict[str, Any]]:
        """So many events, which come in messages that continue each other."""
        events: list[dict[str, Any]] = []
        through: int | None = None
        while len(events) < count:
            said = await self.next()
            if not isinstance(said, StreamEvents):
                continue
            assert through in (None, said.after)
            through = said.through
            assert all(said.after < event["seq"] <= said.through for event in said.events)
            events += said.events
        return events

    async def lines(self, count: int) -> list[StreamLog]:
        found: list[StreamLog] = []
        while len(found) < count:
            said = await self.next()
            if isinstance(said, StreamLog):
                found.append(said)
        return found

    async def end(self) -> tuple[StreamEnd | None, int, str]:
        """The last message, if it was an `end`, and what the connection was closed with."""
        last = closed = None
        with trio.fail_after(15):
            while closed is None:
                try:
                    last = await self.next()
                except ConnectionClosed as error:
                    closed = error.reason
        said = last if isinstance(last, StreamEnd) else None
        return said, closed.code, closed.reason or ""


def as_subprotocols(headers: dict[str, str]) -> list[str]:
    """The bearer and the tenant as a page offers them."""
    bearer = headers["Authorization"].removeprefix("Bearer ")
    tenant = base64.urlsafe_b64encode(headers["X-Stella-Tenant"].encode()).decode().rstrip("=")
    return [STREAM_SUBPROTOCOL, BEARER_PREFIX + bearer, TENANT_PREFIX + tenant]


@asynccontextmanager
async def watching(
    port: int,
    headers: dict[str, str],
    path: str = "/stream/events",
    *,
    offers: Sequence[str] = (STREAM_SUBPROTOCOL,),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Watching]:
    """A stream whose `hello` has not been taken yet."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = tcp if tls is None else trio.SSLStream(tcp, tls, server_hostname="127.0.0.1")
    try:
        async with trio.open_nursery() as nursery:
            connection = await wrap_client_stream(
                nursery,
                stream,
                "localhost",
                BASE + path,
                subprotocols=list(offers),
                extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                max_message_size=4 << 20,
            )
            yield Watching(connection)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(tcp)


def handshake(path: str, headers: dict[str, str], **instead: str) -> bytes:
    """The bytes of a handshake; an empty value leaves a header out."""
    given = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": STREAM_SUBPROTOCOL,
        **headers,
        **{name.replace("_", "-"): value for name, value in instead.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"GET {BASE}{path} HTTP/1.1\r\n{lines}\r\n".encode()
