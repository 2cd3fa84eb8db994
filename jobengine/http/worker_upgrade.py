"""The opening handshake of a worker's WebSocket (RFC 6455 §4.2), judged by wsproto.

I1  What follows the head of the request belongs to the WebSocket; the handshake keeps none of it.
I2  A request that is no upgrade is answered with a status, as far as it could be read.

Not here: who may connect (`worker_admission`), how long it may take (`worker_door`), TLS.
"""

import re
from collections.abc import Sequence
from typing import Final

import attrs
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, RejectConnection, RejectData, Request
from wsproto.utilities import RemoteProtocolError

from jobengine.http.byte_stream import ByteStream

__all__ = ["HandshakeFailedError", "UpgradeRequest", "read_upgrade"]

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_RECEIVE_BYTES: Final = 16 << 10


class HandshakeFailedError(Exception):
    """There is no request to answer: the peer left, or was told what is wrong."""


@attrs.frozen
class UpgradeRequest:
    """A valid request for a WebSocket, to be answered once, by `accept` or `reject`.

    ``headers`` have lower-case names, and are as often there as they were given; ``behind`` is what
    followed the request.
    """

    path: str
    headers: Sequence[tuple[str, str]]
    proposed_subprotocols: Sequence[str]
    behind: bytes
    _stream: ByteStream
    _protocol: WSConnection

    async def accept(self, subprotocol: str) -> None:
        await self._send(AcceptConnection(subprotocol=subprotocol))

    async def reject(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Answer with a status of 400 or above, in plain HTTP."""
        told = {**headers, "Content-Length": str(len(body))}
        raw = [(name.encode(), value.encode()) for name, value in told.items()]
        rejection = RejectConnection(status_code=status, headers=raw, has_body=True)
        await self._send(rejection, RejectData(data=body))

    async def _send(self, *events: Event) -> None:
        await self._stream.send_all(b"".join(map(self._protocol.send, events)))


async def read_upgrade(stream: ByteStream) -> UpgradeRequest:
    """The request a peer begins with. Raises `HandshakeFailedError`, and what the stream does."""
    protocol = WSConnection(ConnectionType.SERVER)
    head, behind = bytearray(), b""
    while True:
        data = await stream.receive_some(_RECEIVE_BYTES)
        if not data:
            raise HandshakeFailedError("the peer left")
        # The end may lie across two pieces.
        searched = max(0, len(head) - 2)
        taken = len(head)
        head += data
        if (end := _HEAD_END.search(head, searched)) is not None:
            behind = bytes(head[end.end() :])
            del head[end.end() :]
        try:
            protocol.receive_data(bytes(head[taken:]))
        except RemoteProtocolError as error:
            await _refuse(stream, protocol, error.event_hint)
        except UnicodeError:
            # wsproto reads the host and the target as text and lets this pass.
            await _refuse(stream, protocol, RejectConnection())
        for event in protocol.events():
            assert isinstance(event, Request), "a server is asked for nothing else"
            return UpgradeRequest(
                path=event.target,
                headers=[(n.decode().lower(), v.decode("latin-1")) for n, v in event.extra_headers],
                proposed_subprotocols=event.subprotocols,
                behind=behind,
                stream=stream,
                protocol=protocol,
            )


async def _refuse(stream: ByteStream, protocol: WSConnection, answer: Event | None) -> None:
    if answer is not None:
        await stream.send_all(protocol.send(answer))
    raise HandshakeFailedError("this is no request for a WebSocket")
