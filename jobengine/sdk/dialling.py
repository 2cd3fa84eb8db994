"""Opens the connection under a worker's session: TCP, TLS where the URL says so, WebSocket.

I1  A connection that ends before the WebSocket stands is a failure at once, and says why.

Not here: what is said over it (`channel`), and when it is opened again (`transport`).
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.utilities import ProtocolError

from jobengine.sdk.channel import Channel, Transport
from jobengine.sdk.trust import explain
from jobengine.wire.frames import SUBPROTOCOL

__all__ = [
    "CONNECT_S_MAX",
    "HandshakeFailedError",
    "HandshakeRefusedError",
    "dialled",
    "fault_of",
    "host_of",
    "shake_hands",
]

CONNECT_S_MAX: Final = 10.0
_RECEIVE_BYTES: Final = 16 << 10
_HEAD_BYTES_MAX: Final = 64 << 10
_BODY_BYTES_MAX: Final = 64 << 10
_HEAD_END: Final = b"\r\n\r\n"


class HandshakeFailedError(Exception):
    """What answered does not speak WebSocket."""


class HandshakeRefusedError(Exception):
    """The engine answered with a status instead of an upgrade."""

    def __init__(self, http_status: int, body: bytes) -> None:
        super().__init__(f"HTTP {http_status}")
        self.http_status = http_status
        self.body = body


@asynccontextmanager
async def dialled(url: str, tls: ssl.SSLContext | None) -> AsyncIterator[Transport]:
    """The connection under the WebSocket, for the block.

    `tls` is for wss:// URLs, None for the system's trust. Raises `OSError` and `trio.TooSlowError`.
    """
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    stream: Transport
    with trio.fail_after(CONNECT_S_MAX):
        if parts.scheme == "wss":
            port = parts.port or 443
            stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls)
        else:
            stream = await trio.open_tcp_stream(host, parts.port or 80)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def shake_hands(
    stream: Transport, url: str, headers: Sequence[tuple[bytes, bytes]]
) -> Channel:
    """The WebSocket over a `dialled` connection.

    Raises `HandshakeRefusedError`, `HandshakeFailedError`, `trio.BrokenResourceError` and
    `trio.TooSlowError`.
    """
    parts = urlsplit(url)
    request = Request(
        host=host_of(url),
        target=urlunsplit(("", "", parts.path or "/", parts.query, "")),
        subprotocols=[SUBPROTOCOL],
        extra_headers=list(headers),
    )
    protocol = WSConnection(ConnectionType.CLIENT)
    with trio.fail_after(CONNECT_S_MAX):
        try:
            await stream.send_all(protocol.send(request))
            head, behind = await _head_of_answer(stream)
            protocol.receive_data(head)
            event = next(iter(protocol.events()), None)
            if isinstance(event, AcceptConnection):
                return Channel(stream, behind)
            if isinstance(event, RejectConnection):
                body = await _body_of_answer(stream, protocol, behind) if event.has_body else b""
                raise HandshakeRefusedError(event.status_code, body)
        except (ProtocolError, UnicodeError) as error:
            raise HandshakeFailedError(f"this is no WebSocket: {error}") from error
    raise HandshakeFailedError("this is no WebSocket")


async def _head_of_answer(stream: Transport) -> tuple[bytes, bytes]:
    """The head, its end included, and what came behind it."""
    said = bytearray()
    while (end := said.find(_HEAD_END)) < 0:
        if len(said) > _HEAD_BYTES_MAX:
            raise HandshakeFailedError("the answer's head has no end")
        data = await stream.receive_some(_RECEIVE_BYTES)
        if not data:
            raise trio.BrokenResourceError("the engine closed the connection")
        said += data
    end += len(_HEAD_END)
    return bytes(said[:end]), bytes(said[end:])


async def _body_of_answer(stream: Transport, protocol: WSConnection, behind: bytes) -> bytes:
    """Why the engine refused, as far as it is to be had."""
    body = bytearray()
    data: bytes | bytearray = behind
    while len(body) < _BODY_BYTES_MAX:
        try:
            if data:
                protocol.receive_data(bytes(data))
            for event in protocol.events():
                assert isinstance(event, RejectData), "nothing else follows a refusal"
                body += event.data
                if event.body_finished:
                    return bytes(body)
            data = await stream.receive_some(_RECEIVE_BYTES)
        except (ProtocolError, trio.BrokenResourceError):
            break
        if not data:
            break
    return bytes(body)


def host_of(url: str) -> str:
    """Host and port of a URL, without a user's name and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def fault_of(failures: BaseExceptionGroup[Any], url: str) -> str:
    """Why a connection to this URL was not to be had, in one line."""
    return explain(_first(failures), over_tls=url.startswith("wss:"))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
