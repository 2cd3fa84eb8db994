"""A WebSocket client of the workers' door, in as few steps as can be, so that load costs little.

Frames that are sent one after another leave together when the sender waits for something else:
`send_nowait` collects, `flush` writes. Text frames only, no extensions, as the engine speaks.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request

from jobengine.http.byte_stream import ByteStream, PlainStream, TlsBytes

__all__ = ["DisconnectedError", "FrameClient", "open_frames"]

_RECEIVE_BYTES: Final = 65_536
_CLOSE_S_MAX: Final = 2.0
_MASKED: Final = 0x80
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_LENGTH_16, _LENGTH_64 = 126, 127


class DisconnectedError(Exception):
    """There is no connection to be had, or none any more. `http_status` is that of a refusal."""

    def __init__(self, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status


class FrameClient:
    """One connection. One task receives; any may send, and what it sends leaves in its order."""

    def __init__(self, stream: ByteStream, behind: bytes) -> None:
        self._stream = stream
        self._incoming = bytearray(behind)
        self._outgoing = bytearray()
        self._writing = False

    async def send(self, text: str) -> None:
        """Send a frame, and all that were collected. Raises `DisconnectedError`."""
        self.send_nowait(text)
        await self.flush()

    def send_nowait(self, text: str) -> None:
        """Collect a frame for the next `flush`."""
        self._outgoing += _frame(_TEXT, text.encode())

    async def flush(self) -> None:
        """Write what was collected; by whoever writes already, if somebody does."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._outgoing:
                data, self._outgoing = bytes(self._outgoing), bytearray()
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DisconnectedError("the connection broke") from error
        finally:
            self._writing = False

    async def receive(self) -> str:
        """The next message. Raises `DisconnectedError`."""
        while True:
            while (frame := self._take()) is not None:
                kind, payload = frame
                if kind == _TEXT:
                    return payload.decode()
                if kind == _PING:
                    self._outgoing += _frame(_PONG, payload)
                    await self.flush()
                elif kind == _CLOSE:
                    raise DisconnectedError(f"closed with {int.from_bytes(payload[:2], 'big')}")
            await self._fill()

    async def aclose(self) -> None:
        """Say farewell; does not wait for an answer."""
        self._outgoing += _frame(_CLOSE, (1000).to_bytes(2, "big"))
        with trio.move_on_after(_CLOSE_S_MAX):
            try:
                await self.flush()
            except DisconnectedError:
                return

    async def _fill(self) -> None:
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DisconnectedError("the connection broke") from error
        if not data:
            raise DisconnectedError("the engine hung up")
        self._incoming += data

    def _take(self) -> tuple[int, bytes] | None:
        """The first whole frame of what has come: its first byte and its payload."""
        incoming = self._incoming
        if len(incoming) < 2:
            return None
        size, start = incoming[1], 2
        if size >= _LENGTH_16:
            start = 4 if size == _LENGTH_16 else 10
            size = int.from_bytes(incoming[2:start], "big")
        if len(incoming) < start + size:
            return None
        frame = incoming[0], bytes(incoming[start : start + size])
        del incoming[: start + size]
        return frame


@asynccontextmanager
async def open_frames(
    url: str,
    subprotocol: str,
    headers: Sequence[tuple[bytes, bytes]],
    source: str | None = None,
) -> AsyncIterator[FrameClient]:
    """A connection to a `ws` or `wss` URL for the block, from the address `source` where a `ws` one
    names it. Raises `DisconnectedError`, also when the handshake is refused, and OSError."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    transport: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    stream: ByteStream
    if secure:
        transport = secured = await trio.open_ssl_over_tcp_stream(host, port)
        stream = TlsBytes(secured)
    else:
        transport = plain = await trio.open_tcp_stream(host, port, local_address=source)
        stream = PlainStream(plain)
    try:
        request = Request(
            host=parts.netloc,
            target=parts.path or "/",
            subprotocols=[subprotocol],
            extra_headers=list(headers),
        )
        client = FrameClient(stream, await _shake_hands(stream, request))
        yield client
        await client.aclose()
    finally:
        await trio.aclose_forcefully(transport)


async def _shake_hands(stream: ByteStream, request: Request) -> bytes:
    """What came behind the answer that accepts."""
    protocol = WSConnection(ConnectionType.CLIENT)
    said = bytearray()
    try:
        await stream.send_all(protocol.send(request))
        while (end := said.find(b"\r\n\r\n")) < 0:
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                raise DisconnectedError("the engine hung up")
            said += data
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise DisconnectedError("the connection broke") from error
    protocol.receive_data(bytes(said[: end + 4]))
    for event in protocol.events():
        if isinstance(event, AcceptConnection):
            return bytes(said[end + 4 :])
        if isinstance(event, RejectConnection):
            raise DisconnectedError(f"refused with {event.status_code}", event.status_code)
    raise DisconnectedError("the engine does not speak WebSocket")


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _LENGTH_16:
        head = bytes((kind, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((kind, _MASKED | _LENGTH_16)) + size.to_bytes(2, "big")
    else:
        head = bytes((kind, _MASKED | _LENGTH_64)) + size.to_bytes(8, "big")
    key = os.urandom(4)
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return b"".join((head, key, masked.to_bytes(size, "little")))
