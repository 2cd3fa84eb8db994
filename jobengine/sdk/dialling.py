"""Opens the connection under a worker's session: TCP, TLS where the URL says so, WebSocket.

I1  A connection that ends before the WebSocket stands is a failure at once, and says why.

Not here: what is said over it, and when it is opened again (`transport`).
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from jobengine.sdk.trust import explain
from jobengine.wire.frames import SUBPROTOCOL

__all__ = ["CONNECT_S_MAX", "dialled", "fault_of", "host_of", "shake_hands"]

CONNECT_S_MAX: Final = 10.0
FRAME_BYTES_RECEIVED_MAX: Final = 8 << 20
_Tcp: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Dialled(trio.abc.Stream):
    """A connection whose end during the handshake ends the handshake: trio-websocket, which reads
    from it, would go on waiting. `fault`: what it ended with."""

    def __init__(self, stream: _Tcp) -> None:
        self._stream = stream
        self.handshake = trio.CancelScope()
        self.fault: BaseException | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._end(error)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            self._end(error)
            raise
        if not data:
            self._end(trio.BrokenResourceError("the engine closed the connection"))
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _end(self, fault: BaseException) -> None:
        self.fault = self.fault or fault
        self.handshake.cancel()


@asynccontextmanager
async def dialled(url: str, tls: ssl.SSLContext | None) -> AsyncIterator[Dialled]:
    """The connection under the WebSocket, closed here: trio-websocket leaves a cut one open.

    `tls` is for wss:// URLs, None for the system's trust. Raises `OSError` and `trio.TooSlowError`.
    """
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    stream: _Tcp
    with trio.fail_after(CONNECT_S_MAX):
        if parts.scheme == "wss":
            port = parts.port or 443
            stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls)
        else:
            stream = await trio.open_tcp_stream(host, parts.port or 80)
    try:
        yield Dialled(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def shake_hands(
    nursery: trio.Nursery, dialled: Any, url: str, headers: Sequence[tuple[bytes, bytes]]
) -> WebSocketConnection:
    """The WebSocket over a `Dialled` connection; its reader lives in the nursery.

    Raises `trio.BrokenResourceError`, `trio.TooSlowError` and what trio-websocket says of an answer
    that is no upgrade.
    """
    parts = urlsplit(url)
    with trio.fail_after(CONNECT_S_MAX), dialled.handshake:
        return await wrap_client_stream(
            nursery,
            dialled,
            host_of(url),
            urlunsplit(("", "", parts.path or "/", parts.query, "")),
            subprotocols=[SUBPROTOCOL],
            extra_headers=list(headers),
            max_message_size=FRAME_BYTES_RECEIVED_MAX,
            message_queue_size=16,
            receive_buffer_size=65_536,
        )
    raise dialled.fault


def host_of(url: str) -> str:
    """Host and port of a URL, without a user's name and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def fault_of(failures: BaseExceptionGroup[Any], url: str) -> str:
    """Why a connection to this URL was not to be had, in one line."""
    return explain(_first(failures), over_tls=url.startswith("wss:"))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
