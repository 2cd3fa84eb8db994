"""The listener of the workers: WebSocket on a port of its own, path ``/worker``.

I1  Nothing that a peer sends ends the listener or another connection: whatever a connection fails
    with stays within it, is counted and reported.
I2  A peer that has not finished its handshake within ``handshake_s_max`` is dropped, and so is one
    above ``connections_max``.
I3  The token is checked before the upgrade: 401, 403 and 404 are plain HTTP answers.

I4  Where workers are asked for a certificate, its subject stands behind the token's in every entry.

Not here: what a session says and hears (``actors/session``), certificates (`tls`).
"""

import errno
from collections.abc import Callable
from typing import Final

import attrs
import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)
from wsproto.utilities import LocalProtocolError

from jobengine.actors.frame_channel import ChannelClosed
from jobengine.actors.session import SessionPorts, run_session
from jobengine.core.request_limit import Rate
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.errors import error_answer
from jobengine.http.limits import RateLimits
from jobengine.http.security import SECURITY_HEADERS
from jobengine.http.tls import Tls, TlsRefused, TlsStream, shake_hands
from jobengine.http.worker_admission import Admit, ReadHeader, trace_id_of
from jobengine.http.worker_limits import MeteredChannel
from jobengine.messages.session import Peer
from jobengine.wire.worker import FRAME_BYTES_MAX, SUBPROTOCOL

__all__ = ["DoorLimits", "DoorStatistics", "ListenFailed", "WorkerDoor"]

PATH: Final = "/worker"
_FRAME_CHARACTERS_READ_MAX: Final = 4 * FRAME_BYTES_MAX
"""A frame over the protocol's limit is answered with an error; one over this is not even read."""
_RECEIVE_BYTES: Final = 64 << 10
_CLOSE_S_MAX: Final = 2.0


class ListenFailed(Exception):
    """The port cannot be listened on; the message is one line for an operator."""


@attrs.frozen(kw_only=True)
class DoorLimits:
    handshake_s_max: float = 10.0
    connections_max: int = 20_000
    frames_queued_max: int = 4
    """Frames of one worker that are read ahead of it."""
    frames: Rate = attrs.field(factory=lambda: RateLimits().frames)


@attrs.define
class DoorStatistics:
    """``refused_total``: handshakes answered with 4xx; ``broken_total``: connections that ended in
    a way the protocol does not know."""

    connections: int = 0
    accepted_total: int = 0
    refused_total: int = 0
    broken_total: int = 0


class WorkerDoor:
    """``report_fault`` is told what a connection failed with."""

    def __init__(
        self,
        ports: SessionPorts,
        admit: Admit,
        *,
        report_fault: Callable[[BaseException], None],
        limits: DoorLimits | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._ports = ports
        self._admit = admit
        self._report_fault = report_fault
        self._limits = limits or DoorLimits()
        self._tls = tls
        self.statistics = DoorStatistics()

    async def serve(
        self,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled; ``started`` with the port, which 0 leaves to the kernel.

        Raises `ListenFailed` before it has started. Cancelled: connections end without a farewell;
        ``SessionRegistry.stop`` says one first.
        """
        listeners = await _listen(host, port)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._guard, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _guard(self, stream: trio.SocketStream) -> None:
        statistics = self.statistics
        statistics.connections += 1
        try:
            if statistics.connections <= self._limits.connections_max:
                await self._connection(stream)
            else:
                statistics.refused_total += 1
        except* TlsRefused:
            statistics.refused_total += 1
        except* Exception as group:  # noqa: BLE001 - I1
            statistics.broken_total += 1
            self._report_fault(group)
        finally:
            statistics.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _connection(self, plain: trio.SocketStream) -> None:
        stream = plain if self._tls is None else self._tls.worker(plain)
        async with trio.open_nursery() as nursery:
            accepted = None
            with trio.move_on_after(self._limits.handshake_s_max) as handshake:
                name = await shake_hands(stream)
                request = await wrap_server_stream(
                    nursery,
                    _Handshaking(stream, handshake),
                    message_queue_size=self._limits.frames_queued_max,
                    max_message_size=_FRAME_CHARACTERS_READ_MAX,
                    receive_buffer_size=_RECEIVE_BYTES,
                )
                accepted = await self._answer(request, name)
            if accepted is not None and not handshake.cancelled_caught:
                connection, peer = accepted
                self.statistics.accepted_total += 1
                channel = MeteredChannel(_SocketChannel(connection), self._limits.frames)
                await run_session(channel, peer, self._ports)
            nursery.cancel_scope.cancel()

    async def _answer(
        self, request: WebSocketRequest, name: str | None
    ) -> tuple[WebSocketConnection, Peer] | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in request.headers}

        def read(name: str) -> str | None:
            return headers.get(name.lower().encode())

        try:
            peer = await self._peer(request, read)
            if name is not None:
                peer = msgspec.structs.replace(peer, subject=f"{peer.subject} ({name})")
        except RefusedError as error:
            self.statistics.refused_total += 1
            answer = error_answer(error.refusal, trace_id_of(read))
            told = {**SECURITY_HEADERS, "Content-Type": answer.media_type, **answer.headers}
            await request.reject(
                answer.status,
                extra_headers=[(name.encode(), value.encode()) for name, value in told.items()],
                body=answer.body,
            )
            return None
        return await request.accept(subprotocol=SUBPROTOCOL), peer

    async def _peer(self, request: WebSocketRequest, read: ReadHeader) -> Peer:
        if request.path.partition("?")[0] != PATH:
            message = f"workers connect to {PATH}"
            raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message))
        if SUBPROTOCOL not in request.proposed_subprotocols:
            message = f"Sec-WebSocket-Protocol: offer {SUBPROTOCOL}"
            raise RefusedError(
                Refusal(ErrorCode.INVALID_FIELD, message, {"path": "Sec-WebSocket-Protocol"})
            )
        return await self._admit(read)


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "is taken by another process; stop that or choose another port"
        elif error.errno == errno.EACCES:
            why = "may not be used by this user; choose a port of 1024 or above"
        else:
            why = f"cannot be listened on: {error.strerror or error}"
        raise ListenFailed(f"port {port} on {host} {why}") from None
    if port == 0:
        # Each address would get a port of its own; one port is what is asked for.
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners


class _Handshaking(trio.abc.Stream):
    """A socket whose end during the handshake ends the handshake."""

    def __init__(self, stream: trio.SocketStream | TlsStream, handshake: trio.CancelScope) -> None:
        self._stream = stream
        self._handshake = handshake

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if not data:
            self._handshake.cancel()
        return data

    async def aclose(self) -> None:
        self._handshake.cancel()
        await self._stream.aclose()


class _SocketChannel:
    """A ``FrameChannel`` over trio-websocket."""

    __slots__ = ("_connection",)

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send_message(text)
        except ConnectionClosed as error:
            raise _closed(error) from None
        except LocalProtocolError:
            raise ChannelClosed from None

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.get_message()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def aclose(self, code: int, reason: str) -> None:
        with trio.move_on_after(_CLOSE_S_MAX):
            try:
                await self._connection.aclose(code, reason)
            except (ConnectionClosed, LocalProtocolError):
                return


def _closed(error: ConnectionClosed) -> ChannelClosed:
    if error.reason is None:
        return ChannelClosed()
    return ChannelClosed(error.reason.code, error.reason.reason or "")
