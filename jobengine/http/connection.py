"""One connection that speaks HTTP/1.1 to an ASGI application, in one task.

A request is answered by calling the application in the connection's own task; it reads the socket
itself when it asks for the body or for the disconnect. So a request that needs no waiting costs no
task, no channel and one write.

I1  No request can end more than its connection: what leaves the application is logged under a trace
    id and answered with 500, or cuts a response that has begun.
I2  A connection is bounded in time while it is idle, while a head arrives, and in every write. How
    long a body may take is the application's to say.
I3  What has been read ahead is at most one read: pipelined requests wait in the socket.
I4  A response that ends the connection is read by its peer also while the peer still sends: our
    side is closed first, and what comes is dropped for `linger_s` at most.
I5  Every refusal of its own is the envelope of all errors, with the headers of all answers.
I6  A handshake is a request like any other, and the last one of its connection.

Not here: listening, TLS (`server`); grammar (`http1`); bounds and what connections share (`peers`).
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

import structlog
import trio

from jobengine.http.answer import Answer
from jobengine.http.errors import internal_answer, transport_refusal
from jobengine.http.exchange import Exchange, Line, PeerGoneError
from jobengine.http.hand_over import HandOver
from jobengine.http.http1 import Broken, Head, RequestReader, response_head
from jobengine.http.peers import Peers, ServerLimits
from jobengine.http.tls import TlsStream

__all__ = ["HANDSHAKE", "AsgiApp", "Connection"]

Message = dict[str, Any]
AsgiApp = Callable[..., Awaitable[Any]]

HANDSHAKE: Final = "jobengine.handshake"
"""The extension, in the scope of a request, that says that it is the handshake of a WebSocket. An
application that has none there answers as it does without (RFC 9110 §7.8)."""

_READ_BYTES: Final = 65_536
_LINGER_BYTES: Final = 1 << 20

_log = structlog.get_logger("jobengine.http")


class Connection(Line):
    """`standing`: headers of every answer, for those that the connection makes itself."""

    def __init__(
        self,
        app: AsgiApp,
        stream: trio.SocketStream | TlsStream,
        limits: ServerLimits,
        peers: Peers,
        standing: dict[str, str],
    ) -> None:
        self._app = app
        self._stream = stream
        self._limits = limits
        self._peers = peers
        self._standing = standing
        self._requests_left = limits.requests_per_connection_max
        self._ahead = b""
        self.reader = RequestReader(limits.head_bytes_max)
        self.gone = False
        secure = isinstance(stream, trio.SSLStream)
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "https" if secure else "http",
            "root_path": "",
            "client": _address(plain.socket.getpeername()),
            "server": _address(plain.socket.getsockname()),
        }

    async def serve(self) -> HandOver | None:
        """Answer requests until the connection ends; the caller closes the stream.

        What the rest of the connection was handed over to is returned. Cancelled: cut where it is.
        """
        try:
            while True:
                event = await self._next_head()
                if event is None:
                    return None
                if isinstance(event, Broken):
                    await self.refuse(event)
                    return None
                self._requests_left -= 1
                answered = await self._answer(event)
                if answered is not True:
                    return answered or None
        finally:
            self.reader.close()

    def date(self) -> bytes:
        return self._peers.date()

    @property
    def may_go_on(self) -> bool:
        """Whether another request would be taken after this one."""
        return self._requests_left > 0 and not self._peers.stopping

    async def receive(self) -> bytes:
        """What the peer sends next; nothing when it has gone or sends no more."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        if self.gone:
            return b""
        try:
            return bytes(await self._stream.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def read_ahead(self) -> None:
        """Return when the peer has gone; what it sends meanwhile is kept, one read of it (I3)."""
        self._ahead = await self.receive()
        if self._ahead:
            await trio.sleep_forever()
        self.gone = True

    async def send(self, data: bytes) -> None:
        """Raises `PeerGoneError`. Cancelled: nothing can be sent any more."""
        if self.gone:
            raise PeerGoneError("the peer has gone")
        sent = False
        try:
            with trio.move_on_after(self._limits.write_s):
                await self._stream.send_all(data)
                sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            # What was sent in part cannot be taken up again, so nothing may follow it.
            if not sent:
                self.gone = True
                await trio.aclose_forcefully(self._stream)
        if not sent:
            raise PeerGoneError("the peer has gone")

    async def refuse(self, broken: Broken) -> None:
        """Answer what cannot be a request, and end."""
        refusal = transport_refusal(broken.status, broken.message, broken.headers)
        await self._say_and_end(refusal)

    async def _next_head(self) -> Head | Broken | None:
        """None: the peer has gone, was idle for too long, or the server stops."""
        events = self.reader.events
        if not events:
            await self._read_head()
        if not events:
            if self.reader.in_head and not self.gone:
                return Broken(408, "the headers did not arrive in time")
            return None
        event = events.popleft()
        assert isinstance(event, Head | Broken)
        return event

    async def _read_head(self) -> None:
        reader = self.reader
        with trio.CancelScope(deadline=trio.current_time() + self._limits.idle_s) as scope:
            self._peers.idle(scope)
            try:
                if self._peers.stopping and not self._ahead:
                    return
                while not reader.events:
                    data = await self.receive()
                    if not data:
                        self.gone = True
                        return
                    began = reader.in_head
                    reader.feed(data)
                    if reader.in_head and not began:
                        self._peers.busy(scope)
                        scope.deadline = trio.current_time() + self._limits.head_s
            finally:
                self._peers.busy(scope)

    async def _answer(self, head: Head) -> bool | HandOver:
        """Whether another request may follow, or what follows in its place."""
        exchange = Exchange(self, head)
        failure: BaseException | None = None
        try:
            await self._app(self._scope_of(head), exchange.receive, exchange.send)
        except* PeerGoneError:
            self.gone = True
        except* Exception as group:  # noqa: BLE001 - I1
            failure = group
        if exchange.is_done and failure is None:
            if exchange.handed_over is not None:
                return exchange.handed_over
            if exchange.keeps_alive:
                exchange.take_rest()
            else:
                await self._end()
            return exchange.keeps_alive
        if exchange.broken is not None and not exchange.has_begun:
            await self.refuse(exchange.broken)
        elif failure is not None or not (self.gone or exchange.has_begun):
            await self._fail(head, exchange, failure)
        return False

    async def _fail(self, head: Head, exchange: Exchange, failure: BaseException | None) -> None:
        trace_id = secrets.token_hex(16)
        _log.error(
            "http_request_failed",
            trace_id=trace_id,
            path=head.target.partition(b"?")[0].decode(),
            exc_info=failure or "the application did not answer",
        )
        if not exchange.has_begun:
            await self._say_and_end(internal_answer(trace_id))

    async def _say_and_end(self, answer: Answer) -> None:
        headers = [
            (name.lower().encode(), value.encode())
            for name, value in {**self._standing, **answer.headers}.items()
        ]
        headers += [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"connection", b"close"),
            (b"date", self._peers.date()),
        ]
        try:
            await self.send(response_head(answer.status, headers) + answer.body)
        except PeerGoneError:
            return
        await self._end()

    async def _end(self) -> None:
        """Wait a moment for the peer to have read the answer (I4)."""
        if self.gone:
            return
        with trio.move_on_after(self._limits.linger_s):
            try:
                if isinstance(self._stream, trio.SocketStream):
                    await self._stream.send_eof()
                left = _LINGER_BYTES
                while left > 0 and (data := await self.receive()):
                    left -= len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _scope_of(self, head: Head) -> Message:
        raw_path, _, query = head.target.partition(b"?")
        return {
            **self._scope,
            "http_version": head.version,
            "method": head.method,
            "path": _path_of(head),
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
            "state": {},
            "extensions": {HANDSHAKE: {}} if head.upgrades else {},
        }


def _path_of(head: Head) -> str:
    path = head.target.partition(b"?")[0].decode("ascii")
    return unquote(path) if "%" in path else path


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
