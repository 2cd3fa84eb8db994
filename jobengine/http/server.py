"""Serves an ASGI application over TCP.

HTTP/1.1 is spoken by `connection`. What a request hands its connection over to, a stream or the
session of a worker, gets the socket and nothing else of us (`hand_over`).

I1  No connection can end the server: whatever leaves a connection ends that connection.
I2  A peer that does not read holds nothing for longer than `write_s`: a write can be cancelled, and
    one that waits longer ends the connection.
I3  At most `connections_max` connections are open, and until they are handed over at most half of
    them are of one origin; one more is closed at once.
I4  Stopping is in order: close what is idle, listen no more, let requests in flight end within
    `graceful_s`, cancel.

Not here: limits of a request's body (`app`, `direct`), certificates (`tls`). HTTP/2 is not spoken.
"""

import errno
import socket
from typing import Any, NamedTuple

import structlog
import trio

from jobengine.core.room import Room
from jobengine.http.connection import AsgiApp, Connection
from jobengine.http.hand_over import HandedConnection, HandOver
from jobengine.http.peers import Peers, ServerLimits, origin_of
from jobengine.http.security import standing_headers
from jobengine.http.tls import Tls, TlsStream

__all__ = ["AddressUnavailableError", "Bound", "ServerLimits", "listen", "serve"]

_log = structlog.get_logger("jobengine.http")


class AddressUnavailableError(Exception):
    """The address cannot be listened on; the message is one line for a person."""


class Bound(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def listen(host: str, port: int, backlog: int = ServerLimits().backlog) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        AddressUnavailableError: taken, not ours, not permitted, or no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise AddressUnavailableError(f"cannot listen on {host}:{port}: no such host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressUnavailableError(_why(host, port, error)) from None
    return listener


async def serve(
    app: AsgiApp,
    listener: socket.socket,
    limits: ServerLimits,
    *,
    stopping: trio.Event,
    tls: Tls | None = None,
    task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set, then end gracefully. Owns and closes `listener`. With `tls`,
    nothing but TLS is spoken.

    Reports where it listens once connections are taken. Cancelled: connections are cut at once.
    """
    crowd = _Crowd(app, limits, tls)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as door:
            await door.start(_accept, accepting, crowd, connections)
            task_status.started(Bound(*listener.getsockname()[:2]))
            await stopping.wait()
            crowd.peers.stop()
            door.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + limits.graceful_s


async def _accept(
    listener: trio.SocketListener,
    crowd: "_Crowd",
    connections: trio.Nursery,
    task_status: trio.TaskStatus[Any],
) -> None:
    await trio.serve_listeners(
        crowd.serve, [listener], handler_nursery=connections, task_status=task_status
    )


class _Crowd:
    """All connections of one server."""

    def __init__(self, app: AsgiApp, limits: ServerLimits, tls: Tls | None) -> None:
        self.peers = Peers()
        self._app = app
        self._limits = limits
        self._tls = tls
        self._standing = standing_headers(tls=tls is not None)
        self._open = 0
        self._strangers = Room(limits.connections_max)

    async def serve(self, stream: trio.SocketStream) -> None:
        origin = origin_of(stream)
        if self._open >= self._limits.connections_max or self._strangers.is_full_for(origin):
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await self._serve(stream if self._tls is None else self._tls.http(stream), origin)
        except* Exception as group:  # noqa: BLE001 - I1
            _log.warning(
                "http_connection_failed", errors=sorted({type(e).__name__ for e in _leaves(group)})
            )
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream | TlsStream, origin: str) -> None:
        with self._strangers.held_by(origin):
            if isinstance(stream, trio.SSLStream) and not await self._shakes_hands(stream):
                return
            handed = await self._speak_http(stream)
        if handed is not None:
            await handed.serve(
                HandedConnection(stream, handed.head, self.peers, self._limits.write_s)
            )

    async def _speak_http(self, stream: trio.SocketStream | TlsStream) -> HandOver | None:
        """A call of its own, so that nothing of it stays when the connection is handed over."""
        try:
            connection = Connection(self._app, stream, self._limits, self.peers, self._standing)
        except OSError:
            return None  # gone before it was looked at
        return await connection.serve()

    async def _shakes_hands(self, stream: TlsStream) -> bool:
        done = False
        with trio.move_on_after(self._limits.tls_handshake_s):
            try:
                await stream.do_handshake()
                done = True
            except trio.BrokenResourceError:
                pass
        return done


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _why(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is taken; stop what uses it or choose another"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: no interface of this machine has that address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}: not permitted; choose a port of 1024 or above"
    return f"{where}: {error.strerror}"
