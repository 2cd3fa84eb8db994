"""Serves an ASGI application over TCP; the one file that knows Hypercorn.

HTTP/1.1 is spoken by a connection of our own (`connection`). A WebSocket handshake that the
application does not answer itself is handed to Hypercorn with the socket, and its connection is
Hypercorn's from then on; a stream gets the socket too, and nothing of us but that (`hand_over`).

I1  No connection can end the server: whatever leaves a connection ends that connection. Hypercorn
    0.18 lets an error of a WebSocket upgrade with bytes right behind it out of the connection, into
    the nursery of all connections (upstream issue 225).
I2  A peer that does not read holds nothing for longer than `write_s`: a write can be cancelled, and
    one that waits longer ends the connection (Hypercorn shields writes, and sets no limit).
I3  At most `connections_max` connections are open; one more is closed at once.
I4  Stopping is in order: close what is idle, listen no more, let requests in flight end within
    `graceful_s`, cancel.

Not here: limits of a request's body (`app`, `direct`), certificates (`tls`). HTTP/2 is not spoken.
"""

import errno
import logging
import socket
from typing import Any, NamedTuple

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from jobengine.http.connection import AsgiApp, Connection, OwnSocket
from jobengine.http.hand_over import HandedConnection, HandOver
from jobengine.http.http1 import Head, request_head
from jobengine.http.peers import Peers, ServerLimits
from jobengine.http.security import standing_headers
from jobengine.http.tls import Tls, TlsStream

__all__ = ["AddressUnavailableError", "Bound", "ServerLimits", "listen", "serve"]

_SETTLE_S = 1.0
"""How long a connection that is being cancelled may take to close."""

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


def _none_of_its_own(path: str) -> bool:
    return False


async def serve(
    app: AsgiApp,
    listener: socket.socket,
    limits: ServerLimits,
    *,
    stopping: trio.Event,
    tls: Tls | None = None,
    own_socket: OwnSocket = _none_of_its_own,
    task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set, then end gracefully. Owns and closes `listener`. With `tls`,
    nothing but TLS is spoken.

    Reports where it listens once connections are taken. Cancelled: connections are cut at once.
    """
    context = WorkerContext(None)
    crowd = _Crowd(app, limits, tls, context, own_socket)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as door:
            await door.start(_accept, accepting, crowd, connections)
            task_status.started(Bound(*listener.getsockname()[:2]))
            await stopping.wait()
            crowd.peers.stop()
            door.cancel_scope.cancel()
        await context.terminated.set()
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

    def __init__(
        self,
        app: AsgiApp,
        limits: ServerLimits,
        tls: Tls | None,
        context: WorkerContext,
        own_socket: OwnSocket,
    ) -> None:
        self.peers = Peers()
        self._app = app
        self._own_socket = own_socket
        self._limits = limits
        self._tls = tls
        self._standing = standing_headers(tls=tls is not None)
        self._upgraded = _Upgraded(app, limits, context)
        self._open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        if self._open >= self._limits.connections_max:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await self._serve(stream if self._tls is None else self._tls.http(stream))
        except* Exception as group:  # noqa: BLE001 - I1
            _log.warning(
                "http_connection_failed", errors=sorted({type(e).__name__ for e in _leaves(group)})
            )
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream | TlsStream) -> None:
        if isinstance(stream, trio.SSLStream) and not await self._shakes_hands(stream):
            return
        match await self._speak_http(stream):
            case Head() as handshake:
                await self._upgraded.serve(stream, handshake)
            case HandOver() as handed:
                await handed.serve(
                    HandedConnection(stream, handed.head, self.peers, self._limits.write_s)
                )

    async def _speak_http(self, stream: trio.SocketStream | TlsStream) -> Head | HandOver | None:
        """A call of its own, so that nothing of it stays when the connection is handed over."""
        try:
            connection = Connection(
                self._app, stream, self._limits, self.peers, self._standing, self._own_socket
            )
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


class _Upgraded:
    """Connections that have become WebSockets."""

    def __init__(self, app: AsgiApp, limits: ServerLimits, context: WorkerContext) -> None:
        self._app = ASGIWrapper(_ending_refusals(app))
        self._config = _config(limits)
        self._context = context
        self._write_s = limits.write_s

    async def serve(self, stream: trio.SocketStream | TlsStream, handshake: Head) -> None:
        ahead = request_head(handshake)
        await _WebSocket(self._app, self._config, self._context, stream, self._write_s, ahead).run()


class _WebSocket(TCPServer):
    """Hypercorn's connection, with another way of sending (I2) and a handshake read before."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream | TlsStream,
        write_s: float,
        ahead: bytes,
    ) -> None:
        state = ConnectionState(LifespanState())
        # Hypercorn tells a plain stream from TLS by what it lacks.
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self._write_s = write_s
        self._ahead = ahead

    async def _read_data(self) -> None:
        await self.protocol.handle(RawData(self._ahead))
        await super()._read_data()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            async with self.send_lock:
                await self._send(event.data)
        else:
            with trio.move_on_after(_SETTLE_S, shield=True):
                await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        sent = False
        try:
            with trio.move_on_after(self._write_s):
                await self.stream.send_all(data)
                sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            # What was sent in part cannot be taken up again, so nothing may follow it.
            if not sent:
                await trio.aclose_forcefully(self.stream)
        if not sent:
            await self.protocol.handle(Closed())


def _ending_refusals(app: AsgiApp) -> AsgiApp:
    """The application, but its refusal of a handshake says that the connection ends with it, as
    Hypercorn takes nothing behind one for a request."""

    async def ending(scope: Any, receive: Any, send: Any) -> None:
        async def say(message: Any) -> None:
            if message["type"] == "websocket.http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, say)

    return ending


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _config(limits: ServerLimits) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("jobengine.http")
    config.h11_max_incomplete_size = 2 * limits.head_bytes_max
    config.keep_alive_timeout = limits.idle_s
    config.include_server_header = False
    return config


def _why(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is taken; stop what uses it or choose another"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: no interface of this machine has that address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}: not permitted; choose a port of 1024 or above"
    return f"{where}: {error.strerror}"
