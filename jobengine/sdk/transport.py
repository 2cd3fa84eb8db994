"""Carries one session over trio-websocket: dials, reads, writes, and keeps the session's time.

`Link.run` is the whole network side of a worker. It runs in a Trio loop of its own, which no
handler can block; `post`, `drain` and `release_all` may be called from any thread.

Invariants
    I1  What is posted from many threads in one burst costs one wake-up of this loop.
    I2  The session's clock never waits for the socket: reading, writing and time are three tasks.
    I3  A connection that is not to be had is logged with what to do, once for each reason.

Deliberately not here: decisions (`session`, `bearer`) and handlers (`runners`).
"""

import math
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import trio
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
)

from jobengine.sdk.bearer import Bearer, Standing, TokenUnavailableError
from jobengine.sdk.commands import HangUp, Notice
from jobengine.sdk.crew import Crew
from jobengine.sdk.dialling import CONNECT_S_MAX, dialled, fault_of, host_of, shake_hands
from jobengine.sdk.exchange import Answer, error_of
from jobengine.sdk.session import Posted, WorkerSession
from jobengine.wire.frames import CLOSE_TOKEN_ENDED

CLOSE_S_MAX: Final = 2.0
_POLICY_VIOLATION: Final = 1008


class WorkerRejectedError(Exception):
    """The worker's token is refused, or there is none, and that will not change by itself.

    `http_status` is None when there was no token to show.
    """

    def __init__(self, why: str, http_status: int | None = None) -> None:
        super().__init__(why)
        self.http_status = http_status


class Link:
    """See the module. `tls` is for wss:// URLs, None for the system's trust. `rejected` is set when
    `run` ended because of the token."""

    def __init__(
        self,
        session: WorkerSession,
        url: str,
        bearer: Bearer,
        headers: Sequence[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._session = session
        self._url = url
        self._tls = tls
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        self._bearer = bearer
        self._standing = Standing(bearer.renewable, session.config.refused_s_max)
        self._warned = ""
        self.rejected: WorkerRejectedError | None = None
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
        """Serve until the session has finished or the token was rejected for good; then handlers
        are told to stop, and their leases expire.

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
            if self.rejected is not None:
                session.release_all(trio.current_time())
                self._flush()
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
            headers = await self._headers_now()
            async with dialled(self._url, self._tls) as stream, trio.open_nursery() as nursery:
                socket = await shake_hands(nursery, stream, self._url, headers)
                await self._exchange(socket)
                with trio.move_on_after(CLOSE_S_MAX):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except* TokenUnavailableError as group:
            self._refused(str(group.exceptions[0]))
        except* ConnectionRejected as group:
            self._rejected_by(group.exceptions[0])
        except* (HandshakeError, OSError, trio.TooSlowError, trio.BrokenResourceError) as group:
            why = fault_of(group, self._url)
            self._warn_once(f"no connection to {host_of(self._url)}: {why}")

    async def _headers_now(self) -> list[tuple[bytes, bytes]]:
        """A handshake's headers, with the token as it is now. Raises `TokenUnavailableError`."""
        read = self._bearer.read
        try:
            with trio.fail_after(CONNECT_S_MAX):
                token = (
                    await trio.to_thread.run_sync(read, abandon_on_cancel=True)
                    if self._bearer.renewable
                    else read()
                )
        except trio.TooSlowError:
            raise TokenUnavailableError("the token function did not answer in time") from None
        if token is None:
            return self._headers
        return [(b"Authorization", f"Bearer {token}".encode()), *self._headers]

    def _rejected_by(self, rejection: Any) -> None:
        status = rejection.status_code
        error = error_of(Answer(status, {}, rejection.body or b""))
        if status in (401, 403):
            self._refused(f"HTTP {status}: {error.message}", status)
        else:
            self._warn_once(
                f"no connection to {host_of(self._url)}: HTTP {status}: {error.message}"
            )

    def _refused(self, why: str, http_status: int | None = None) -> None:
        """Give up, or say that it is tried again."""
        if not self._standing.refused(trio.current_time()):
            self._warn_once(
                f"the engine does not let this worker in ({why}); its token is tried again for "
                f"{self._standing.patience_s:g} s"
            )
            return
        advice = ""
        if self._session.welcomed_ever and not self._bearer.renewable:
            advice = "; give one that is renewed as token_file, JOBENGINE_TOKEN_FILE or a function"
        what = f"the engine does not let this worker in: {why}{advice}"
        self._crew.perform([Notice("error", what)])
        self.rejected = WorkerRejectedError(what, http_status)

    def _warn_once(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            self._crew.perform([Notice("warning", text)])

    async def _exchange(self, socket: WebSocketConnection) -> None:
        async with trio.open_nursery() as nursery:
            self._conversation = nursery.cancel_scope
            self._standing.accepted()
            self._warned = ""
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
            except ConnectionClosed as closed:
                self._closed_with(closed.reason)
                nursery.cancel_scope.cancel()

    def _closed_with(self, reason: CloseReason | None) -> None:
        if reason is None or reason.code not in (CLOSE_TOKEN_ENDED, _POLICY_VIOLATION):
            return
        if reason.code == CLOSE_TOKEN_ENDED:
            self._standing.ended()
        text = f"the engine closed the connection: {reason.reason or reason.code}; dialling again"
        self._crew.perform([Notice("warning", text)])

    async def _write(self, socket: WebSocketConnection, conversation: trio.CancelScope) -> None:
        try:
            while True:
                await self._sendable.wait()
                self._sendable = trio.Event()
                for frame in self._session.frames():
                    await socket.send_message(frame)
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.cancel()
