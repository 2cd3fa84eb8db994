"""A connection that leaves HTTP: what its next user is given, once a request on it was admitted.

The application answers a request with the message `HAND_OVER` in place of a body. The connection
writes nothing then; it makes the head of the answer, forgets the request, and what serves the rest
of the connection's life gets both the bytes of the head and the connection. So nothing of the web
framework, and nothing of HTTP, is kept while a stream lasts.

I1  Between the message and the first step of `Serve` there is no checkpoint: whoever has taken
    something up gives it back in `Serve`, and nothing can come in between.
I2  The kernel holds at most about twice `_SEND_BUFFER_BYTES` for a peer, and gives a peer up that
    has confirmed nothing for `write_s`, whether that has gone or does not read.

Not here: what is served (`streams`, `worker_path`), who accepts and closes connections (`server`).
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from jobengine.http.byte_stream import ByteStream, PlainStream, TlsBytes
from jobengine.http.peers import Peers
from jobengine.http.tls import TlsStream

__all__ = ["HAND_OVER", "HandOver", "HandedConnection", "Serve"]

HAND_OVER: Final = "jobengine.hand_over"
"""The type of the message, which follows `http.response.start`; its `serve` is a `Serve`."""

_SEND_BUFFER_BYTES: Final = 64 * 1024


class HandedConnection:
    """The connection, for one user. `head` is to be sent before anything else."""

    __slots__ = ("_peers", "_stream", "bytes", "head", "write_s")

    def __init__(
        self, stream: trio.SocketStream | TlsStream, head: bytes, peers: Peers, write_s: float
    ) -> None:
        self._stream = stream
        self._peers = peers
        self.head = head
        self.write_s = write_s
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        _bound(plain.socket, write_s)
        self.bytes: ByteStream = (
            TlsBytes(stream) if isinstance(stream, trio.SSLStream) else PlainStream(stream)
        )

    @contextmanager
    def left_when_stopping(self, scope: trio.CancelScope) -> Iterator[None]:
        """The scope is cancelled as soon as the server stops."""
        self._peers.idle(scope)
        if self._peers.stopping:
            scope.cancel()
        try:
            yield
        finally:
            self._peers.busy(scope)

    @property
    def stopping(self) -> bool:
        return self._peers.stopping

    async def say_end(self) -> None:
        """Tell the peer that nothing more comes. Under TLS, return when it says so too.

        Cancelled: it may not have been told.
        """
        try:
            if isinstance(self._stream, trio.SSLStream):
                await self._stream.unwrap()
            else:
                await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


Serve = Callable[[HandedConnection], Awaitable[None]]
"""Uses the connection to its end; who handed it over closes it."""


class HandOver:
    """What became of a request: the rest of its connection is somebody else's."""

    __slots__ = ("head", "serve")

    def __init__(self, head: bytes, serve: Serve) -> None:
        self.head = head
        self.serve = serve


def _bound(sock: trio.socket.SocketType, write_s: float) -> None:
    """See I2. Where the system has no such limit, a peer that vanished is noticed by a write."""
    with suppress(OSError):  # gone already, which its user will find
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_s * 1000))
