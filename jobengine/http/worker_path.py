"""The sessions of workers on the HTTP port: a WebSocket at `/worker` below the base.

The handshake is a request like any other; the connection is handed over to the session, which reads
it as one of the workers' own port is read.

I1  The token is checked before the upgrade; every refusal is the envelope.
I2  Sessions of one tenant take half of the server's connections at most.
I3  Another method, and a request that is no handshake, is the framework's to answer.

Not here: frames (`worker_socket`), what a session says and hears (``actors/session``), the plain
requests of workers (`worker_calls`).
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog
import trio

from jobengine.actors.session import SessionPorts, run_session
from jobengine.core.request_limit import Rate
from jobengine.core.room import Room
from jobengine.http.answer import encoded, sent_whole
from jobengine.http.errors import answer_to, internal_answer
from jobengine.http.hand_over import HAND_OVER, HandedConnection
from jobengine.http.limits import RateLimits
from jobengine.http.opening import Opening
from jobengine.http.peers import ServerLimits
from jobengine.http.security import standing_headers
from jobengine.http.single_headers import refuse_repeated
from jobengine.http.worker_admission import Admission, Admit, trace_id_of
from jobengine.http.worker_limits import FrameMeter
from jobengine.http.worker_socket import worker_channel
from jobengine.wire.frames import SUBPROTOCOL

__all__ = ["WEBSOCKET_PATH", "WorkerPath"]

WEBSOCKET_PATH: Final = "/worker"

Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = structlog.get_logger("jobengine.http")


class WorkerPath:
    """Answers the handshakes of workers."""

    def __init__(
        self,
        ports: SessionPorts,
        admit: Admit,
        frames: Rate | None = None,
        *,
        tls: bool = False,
        connections_max: int = ServerLimits().connections_max,
    ) -> None:
        self._ports = ports
        self._admit = admit
        self._frames = frames or RateLimits().frames
        self._standing = encoded(standing_headers(tls=tls))
        self._sessions = Room(connections_max)

    async def answer(self, scope: dict[str, Any], send: Send) -> None:
        given = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

        def header(name: str) -> str | None:
            return given.get(name.lower())

        trace_id = trace_id_of(header)
        try:
            refuse_repeated(name.decode("latin-1") for name, _ in scope["headers"])
            opening = Opening(scope["headers"])
            opening.check(SUBPROTOCOL)
            admission = await self._admit(header)
            self._sessions.require(admission.peer.tenant_id, "worker sessions")
        except Exception as error:  # noqa: BLE001 - whatever it is has one answer
            refusal = answer_to(error, trace_id)
            if refusal is None:
                _log.error(
                    "http_request_failed", trace_id=trace_id, path=scope["path"], exc_info=error
                )
                refusal = internal_answer(trace_id)
            for message in sent_whole(refusal, [*self._standing, *encoded(refusal.headers)]):
                await send(message)
            return
        headers = [*self._standing, *opening.answer_headers(SUBPROTOCOL)]
        await send({"type": "http.response.start", "status": 101, "headers": headers})
        await send({"type": HAND_OVER, "serve": partial(self._serve, admission)})

    async def _serve(self, admission: Admission, connection: HandedConnection) -> None:
        with self._sessions.held_by(admission.peer.tenant_id):
            await self._serve_held(admission, connection)

    async def _serve_held(self, admission: Admission, connection: HandedConnection) -> None:
        try:
            await connection.bytes.send_all(connection.head)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        channel = worker_channel(connection.bytes, b"", FrameMeter(self._frames))
        await run_session(channel, admission.peer, self._ports, admission.ended)
