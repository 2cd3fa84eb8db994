"""Serves an ASGI application over TCP; the one file that knows Hypercorn.

Hypercorn's pieces (its connection, its protocols) run under an accept loop of our own, which adds
what its own loop lacks:

I1  No connection can end the server: whatever leaves a connection ends that connection. Hypercorn
    0.18 lets an error of a WebSocket upgrade with bytes right behind it out of the connection, into
    the nursery of all connections (upstream issue 225).
I2  A connection that is to be closed is closed, and one that falls idle is watched, also when the
    request that says so is being cancelled at that moment (Hypercorn can leave it open for ever).
I3  A peer that does not read holds nothing for longer than `write_s`: a write can be cancelled, and
    one that waits longer ends the connection (Hypercorn shields writes, and sets no limit).
I4  At most `connections_max` connections are open; one more is closed at once.
I5  Stopping is in order: listen no more, let requests in flight end within `graceful_s`, cancel.

Not here: limits of a request's body (`http/app.py`), certificates (`http/tls.py`).
"""

import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import attrs
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from jobengine.http.tls import Tls, TlsStream

__all__ = ["AddressUnavailable", "Bound", "ServerLimits", "listen", "serve"]

AsgiApp = Callable[..., Awaitable[Any]]

_SETTLE_S = 1.0
"""How long a connection that is being cancelled may take to close."""

_log = structlog.get_logger("jobengine.http")


class AddressUnavailable(Exception):
    """The address cannot be listened on; the message is one line for a person."""


class Bound(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Bounds of all connections together and of each one.

    `head_bytes_max`: request line and headers, as long as they are not complete. `idle_s`: a
    connection without a request, or whose headers do not come, is closed after it. `write_s`: how
    long one write may wait for the peer. `graceful_s`: what requests in flight get at the end.
    """

    connections_max: int = 4_096
    backlog: int = 1_024
    head_bytes_max: int = 32 * 1024
    idle_s: float = 75.0
    tls_handshake_s: float = 10.0
    write_s: float = 60.0
    requests_per_connection_max: int = 1_000_000
    graceful_s: float = 5.0


def listen(host: str, port: int, backlog: int = ServerLimits().backlog) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        AddressUnavailable: taken, not ours, not permitted, or no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise AddressUnavailable(f"cannot listen on {host}:{port}: no such host") from None
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
        raise AddressUnavailable(_why(host, port, error)) from None
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
    config = _config(limits)
    context = WorkerContext(None)
    crowd = _Crowd(ASGIWrapper(app), config, context, limits, tls)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as door:
            await door.start(_accept, accepting, crowd, connections)
            task_status.started(Bound(*listener.getsockname()[:2]))
            await stopping.wait()
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
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        limits: ServerLimits,
        tls: Tls | None,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._limits = limits
        self._tls = tls
        self._open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        if self._open >= self._limits.connections_max:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await self._serve(stream)
        finally:
            self._open -= 1

    async def _serve(self, plain: trio.SocketStream) -> None:
        stream = plain if self._tls is None else self._tls.http(plain)
        connection = _Connection(
            self._app, self._config, self._context, stream, self._limits.write_s
        )
        try:
            await connection.run()
        except* Exception as group:  # noqa: BLE001 - I1
            _log.warning(
                "http_connection_failed", errors=sorted({type(e).__name__ for e in _leaves(group)})
            )
        finally:
            await trio.aclose_forcefully(stream)


class _Connection(TCPServer):
    """Hypercorn's connection with another way of sending (I2, I3)."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream | TlsStream,
        write_s: float,
    ) -> None:
        state = ConnectionState(LifespanState())
        # Hypercorn tells a plain stream from TLS by what it lacks.
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self._write_s = write_s

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


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _config(limits: ServerLimits) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("jobengine.http")
    config.h11_max_incomplete_size = limits.head_bytes_max
    config.h2_max_header_list_size = limits.head_bytes_max
    config.keep_alive_timeout = limits.idle_s
    config.keep_alive_max_requests = limits.requests_per_connection_max
    config.include_server_header = False
    config.ssl_handshake_timeout = limits.tls_handshake_s
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
