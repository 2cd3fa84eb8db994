"""Carries one session over trio-websocket: dials, reads, writes, and keeps the session's time.

`Link.run` is the whole network side of a worker. It runs in a Trio loop of its own, which no
handler can block; `post`, `drain` and `release_all` may be called from any thread.

Invariants
    I1  What is posted from many threads in one burst costs one wake-up of this loop.
    I2  The session's clock never waits for the socket: reading, writing and time are three tasks.

Deliberately not here: decisions (`session`) and handlers (`runners`).
"""

import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from jobengine.sdk.commands import HangUp
from jobengine.sdk.crew import Crew
from jobengine.sdk.session import Posted, WorkerSession
from jobengine.wire.worker import SUBPROTOCOL

Tcp: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
CONNECT_S_MAX: Final = 10.0
CLOSE_S_MAX: Final = 2.0
FRAME_BYTES_RECEIVED_MAX: Final = 8 << 20


class WorkerRejected(Exception):
    """The engine refused the credentials of a worker it had never welcomed."""

    def __init__(self, http_status: int, body: str) -> None:
        super().__init__(f"the engine refused this worker: HTTP {http_status} {body}".strip())
        self.http_status = http_status


class Link:
    """See the module. `tls` is for wss:// URLs, None for the system's trust. `rejected` is set when
    `run` ended because of the credentials."""

    def __init__(
        self,
        session: WorkerSession,
        url: str,
        headers: Sequence[tuple[str, str]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._session = session
        self._url = url
        self._tls = tls
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        self.rejected: WorkerRejected | None = None
        self._crew: Crew
        self._inbox: deque[Posted] = deque()
        self._drain_asked = self._release_asked = False
        self._woken = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._wake = trio.Event()
        self._sendable = trio.Event()
        self._closed = trio.Event()
        self._conversation: trio.CancelScope | None = None

    def post(self, message: Posted) -> None:
        """Hand a handler's message to the session; from any thread, never blocks."""
        self._inbox.append(message)
        if not self._woken:
            self._poke()

    def drain(self) -> None:
        """Finish or release what is held, then end; from any thread or signal handler."""
        self._drain_asked = True
        self._poke()

    def release_all(self) -> None:
        """Release everything held now, then end; from any thread or signal handler."""
        self._release_asked = True
        self._poke()

    def _poke(self) -> None:
        self._woken = True
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._set_wake)
            except trio.RunFinishedError:
                self._inbox.clear()

    def _set_wake(self) -> None:
        self._wake.set()

    async def run(self, crew: Crew) -> None:
        """Serve until the session has finished or the credentials were rejected.

        Not meant to be cancelled: that releases nothing, the leases expire.
        """
        self._crew = crew
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dial_again_and_again)
            await self._keep_time()
            await self._hang_up_for_good()
            nursery.cancel_scope.cancel()

    async def _hang_up_for_good(self) -> None:
        self._session.dial_at = math.inf
        if self._conversation is not None:
            self._conversation.cancel()
            with trio.move_on_after(CLOSE_S_MAX):
                await self._closed.wait()

    async def _keep_time(self) -> None:
        session = self._session
        while True:
            # Cleared before the inbox is emptied, so that what is posted meanwhile wakes again.
            self._woken = False
            self._turn(trio.current_time())
            if session.finished or self.rejected is not None:
                return
            with trio.move_on_at(session.wakeup_at):
                await self._wake.wait()
            self._wake = trio.Event()

    def _turn(self, now: float) -> None:
        session = self._session
        if self._inbox:
            posted = []
            while self._inbox:
                posted.append(self._inbox.popleft())
            session.post(posted, now)
            self._crew.ended(posted)
        if self._drain_asked and not session.draining:
            session.begin_drain(now)
        if self._release_asked:
            self._release_asked = False
            session.release_all(now)
        if now >= session.wakeup_at:
            session.tick(now)
        self._flush()

    def _flush(self) -> None:
        commands = self._session.commands()
        if commands:
            if self._conversation is not None and any(type(c) is HangUp for c in commands):
                self._conversation.cancel()
            self._crew.perform(commands)
        self._sendable.set()

    async def _dial_again_and_again(self) -> None:
        while self.rejected is None and not self._session.finished:
            await trio.sleep_until(self._session.dial_at)
            self._url = self._session.redirect_url or self._url
            self._closed = trio.Event()
            await self._converse()
            self._conversation = None
            self._closed.set()
            if not self._session.finished:
                self._session.disconnected(trio.current_time())
            self._wake.set()

    async def _converse(self) -> None:
        """One connection, from dialling to its end."""
        try:
            async with self._dial() as stream, trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_S_MAX):
                    socket = await self._shake_hands(nursery, stream)
                await self._exchange(socket)
                with trio.move_on_after(CLOSE_S_MAX):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except* ConnectionRejected as rejections:
            self._rejected_by(rejections.exceptions[0])
        except* (HandshakeError, OSError, trio.TooSlowError, trio.BrokenResourceError):
            pass

    def _rejected_by(self, rejection: Exception) -> None:
        """Give up when credentials never worked; after a welcome the door may recover."""
        if (
            isinstance(rejection, ConnectionRejected)
            and rejection.status_code in (401, 403)
            and not self._session.welcomed_ever
        ):
            body = (rejection.body or b"").decode("utf-8", "replace")[:1024]
            self.rejected = WorkerRejected(rejection.status_code, body)

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[Tcp]:
        """The connection under the WebSocket, closed here: trio-websocket leaves a cut one open."""
        parts = urlsplit(self._url)
        host = parts.hostname or "127.0.0.1"
        stream: Tcp
        with trio.fail_after(CONNECT_S_MAX):
            if parts.scheme == "wss":
                stream = await trio.open_ssl_over_tcp_stream(
                    host, parts.port or 443, ssl_context=self._tls
                )
            else:
                stream = await trio.open_tcp_stream(host, parts.port or 80)
        try:
            yield stream
        finally:
            await trio.aclose_forcefully(stream)

    async def _shake_hands(self, nursery: trio.Nursery, stream: Tcp) -> WebSocketConnection:
        parts = urlsplit(self._url)
        return await wrap_client_stream(
            nursery,
            stream,
            parts.netloc.rpartition("@")[2],
            urlunsplit(("", "", parts.path or "/", parts.query, "")),
            subprotocols=[SUBPROTOCOL],
            extra_headers=self._headers,
            max_message_size=FRAME_BYTES_RECEIVED_MAX,
            message_queue_size=16,
            receive_buffer_size=65_536,
        )

    async def _exchange(self, socket: WebSocketConnection) -> None:
        async with trio.open_nursery() as nursery:
            self._conversation = nursery.cancel_scope
            self._session.connected(trio.current_time())
            self._sendable.set()
            nursery.start_soon(self._write, socket, nursery.cancel_scope)
            try:
                while True:
                    data = await socket.get_message()
                    self._session.receive(data, trio.current_time())
                    self._flush()
                    # The session's next wake-up may have moved.
                    self._wake.set()
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

    async def _write(self, socket: WebSocketConnection, conversation: trio.CancelScope) -> None:
        try:
            while True:
                await self._sendable.wait()
                self._sendable = trio.Event()
                for frame in self._session.frames():
                    await socket.send_message(frame)
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.cancel()
