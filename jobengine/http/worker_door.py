"""The listener of the workers: WebSocket on a port of its own, path ``/worker``.

I1  Nothing that a peer sends ends the listener or another connection: whatever a connection fails
    with stays within it, is counted and reported.
I2  A peer that has not finished its handshake within ``handshake_s_max`` is dropped, and so is one
    above ``connections_max``; handshakes of one origin, and sessions of one tenant, take half of
    these at most.
I3  The token is checked before the upgrade: 400, 401, 403 and 404 are plain HTTP answers.
I4  Where workers are asked for a certificate, its subject stands behind the token's in every entry.

Not here: the handshake (`worker_upgrade`), frames (`worker_socket`), what a session says and hears
(``actors/session``), certificates (`tls`).
"""

import errno
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

import attrs
import msgspec
import trio

from jobengine.actors.session import SessionPorts, run_session
from jobengine.core.request_limit import Rate
from jobengine.core.room import Room
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.byte_stream import ByteStream, PlainStream, TlsBytes
from jobengine.http.errors import error_answer
from jobengine.http.limits import RateLimits
from jobengine.http.peers import origin_of
from jobengine.http.security import SECURITY_HEADERS
from jobengine.http.single_headers import refuse_repeated
from jobengine.http.tls import Tls, TlsRefusedError, shake_hands
from jobengine.http.worker_admission import Admission, Admit, ReadHeader, trace_id_of
from jobengine.http.worker_limits import FrameMeter
from jobengine.http.worker_socket import SocketChannel, worker_channel
from jobengine.http.worker_upgrade import HandshakeFailedError, UpgradeRequest, read_upgrade
from jobengine.wire.frames import SUBPROTOCOL

__all__ = ["DoorLimits", "DoorStatistics", "ListenFailedError", "WorkerDoor"]

PATH: Final = "/worker"
_DRAIN_S_MAX: Final = 2.0


class ListenFailedError(Exception):
    """The port cannot be listened on; the message is one line for an operator."""


@attrs.frozen(kw_only=True)
class DoorLimits:
    handshake_s_max: float = 10.0
    connections_max: int = 24_000
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
        self._strangers = Room(self._limits.connections_max)
        self._sessions = Room(self._limits.connections_max)
        self.statistics = DoorStatistics()

    async def serve(
        self,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled; ``started`` with the port, which 0 leaves to the kernel.

        Raises `ListenFailedError` before it has started. Cancelled: connections end without a
        farewell; ``SessionRegistry.stop`` says one first.
        """
        listeners = await _listen(host, port)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._guard, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _guard(self, stream: trio.SocketStream) -> None:
        statistics = self.statistics
        statistics.connections += 1
        origin = origin_of(stream)
        try:
            if statistics.connections > self._limits.connections_max or self._strangers.is_full_for(
                origin
            ):
                statistics.refused_total += 1
            else:
                await self._connection(stream, origin)
        except* TlsRefusedError:
            statistics.refused_total += 1
        except* Exception as group:  # noqa: BLE001 - I1
            statistics.broken_total += 1
            self._report_fault(group)
        finally:
            statistics.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _connection(self, plain: trio.SocketStream, origin: str) -> None:
        with ExitStack() as held:
            accepted = None
            with (
                self._strangers.held_by(origin),
                trio.move_on_after(self._limits.handshake_s_max),
            ):
                try:
                    accepted = await self._shake_hands(plain, held)
                except trio.BrokenResourceError:
                    return
                except HandshakeFailedError:
                    await _drain(plain)
            if accepted is not None:
                channel, admission = accepted
                self.statistics.accepted_total += 1
                await run_session(channel, admission.peer, self._ports, admission.ended)

    async def _shake_hands(
        self, plain: trio.SocketStream, held: ExitStack
    ) -> tuple[SocketChannel, Admission] | None:
        """The connection and who is let in by it; None when it was refused with a status. `held` is
        given the place of the session."""
        stream: ByteStream = PlainStream(plain)
        name = None
        if self._tls is not None:
            encrypted = self._tls.worker(plain)
            name = await shake_hands(encrypted)
            stream = TlsBytes(encrypted)
        request = await read_upgrade(stream)
        admission = await self._judge(request, name, held)
        if admission is None:
            return None
        await request.accept(SUBPROTOCOL)
        meter = FrameMeter(self._limits.frames)
        return worker_channel(stream, request.behind, meter), admission

    async def _judge(
        self, request: UpgradeRequest, name: str | None, held: ExitStack
    ) -> Admission | None:
        given = dict(request.headers)

        def read(header: str) -> str | None:
            return given.get(header.lower())

        try:
            refuse_repeated(name for name, _ in request.headers)
            admission = await self._admission(request, read)
            self._sessions.require(admission.peer.tenant_id, "worker sessions")
            held.enter_context(self._sessions.held_by(admission.peer.tenant_id))
            if name is not None:
                peer = admission.peer
                peer = msgspec.structs.replace(peer, subject=f"{peer.subject} ({name})")
                admission = admission._replace(peer=peer)
        except RefusedError as error:
            self.statistics.refused_total += 1
            answer = error_answer(error.refusal, trace_id_of(read))
            told = {**SECURITY_HEADERS, "Content-Type": answer.media_type, **answer.headers}
            await request.reject(answer.status, told, answer.body)
            return None
        return admission

    async def _admission(self, request: UpgradeRequest, read: ReadHeader) -> Admission:
        if request.path.partition("?")[0] != PATH:
            message = f"workers connect to {PATH}"
            raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message))
        if SUBPROTOCOL not in request.proposed_subprotocols:
            message = f"Sec-WebSocket-Protocol: offer {SUBPROTOCOL}"
            raise RefusedError(
                Refusal(ErrorCode.INVALID_FIELD, message, {"path": "Sec-WebSocket-Protocol"})
            )
        return await self._admit(read)


async def _drain(stream: trio.SocketStream) -> None:
    """Let a refused peer read why: closing on what it still sends would reset that away."""
    with trio.move_on_after(_DRAIN_S_MAX), suppress(trio.BrokenResourceError):
        await stream.send_eof()
        async for _ in stream:
            pass


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
        raise ListenFailedError(f"port {port} on {host} {why}") from None
    if port == 0:
        # Each address would get a port of its own; one port is what is asked for.
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners
