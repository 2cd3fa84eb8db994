"""Carries one session over a WebSocket: dials, reads, writes, and keeps the session's time.

`Link.run` is the whole network side of a worker. It runs in a Trio loop of its own, which no
handler can block; `post`, `drain` and `release_all` may be called from any thread.

Invariants
    I1  What is posted from many threads in one burst costs one wake-up of this loop.
    I2  The session's clock never waits for the socket: what the session says is written at once or
        not taken from it until the socket is free again.
    I3  Nothing waits for the end of a connection that was given up: the next is dialled as soon as
        the session wants it. The old one is closed beside it, within `CLOSE_S_MAX`, and cut when
        yet another one is given up.

Deliberately not here: decisions (`session`), who is let in (`admittance`), handlers (`runners`).
"""

import math
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from jobengine.sdk.admittance import Admittance, WorkerRejectedError
from jobengine.sdk.bearer import Bearer, TokenUnavailableError
from jobengine.sdk.channel import Channel, ChannelClosedError
from jobengine.sdk.commands import HangUp, Notice
from jobengine.sdk.crew import Crew
from jobengine.sdk.dialling import (
    HandshakeFailedError,
    HandshakeRefusedError,
    dialled,
    fault_of,
    shake_hands,
)
from jobengine.sdk.session import Posted, WorkerSession

CLOSE_S_MAX: Final = 2.0


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
        self._admittance = Admittance(bearer, headers, session.config.refused_s_max, self._show)
        self._crew: Crew
        self._inbox: deque[Posted] = deque()
        self._drain_asked = self._release_asked = False
        self._woken = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._wake = trio.Event()
        self._sleeps_until = -math.inf
        self._closing = trio.CancelScope()
        self._closed = trio.Event()
        self._conversation: trio.CancelScope | None = None
        self._channel: Channel | None = None

    @property
    def rejected(self) -> WorkerRejectedError | None:
        return self._admittance.rejected

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
            self._sleeps_until = session.wakeup_at
            with trio.move_on_at(self._sleeps_until):
                await self._wake.wait()
            self._sleeps_until = -math.inf
            self._wake = trio.Event()

    def _turn(self, now: float) -> None:
        session = self._session
        if self._inbox:
            # As many as there are now: other threads go on adding.
            posted = [self._inbox.popleft() for _ in range(len(self._inbox))]
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
        channel = self._channel
        if channel is not None and not channel.is_blocked:
            frames = self._session.frames()
            if frames:
                channel.send_nowait(frames)

    async def _dial_again_and_again(self) -> None:
        async with trio.open_nursery() as nursery:
            while self.rejected is None and not self._session.finished:
                await trio.sleep_until(self._session.dial_at)
                self._url = self._session.redirect_url or self._url
                self._closed = trio.Event()
                given_up = trio.Event()
                nursery.start_soon(self._converse, given_up, self._closed)
                await given_up.wait()
                self._conversation = None
                if not self._session.finished:
                    self._session.disconnected(trio.current_time())
                self._wake.set()

    async def _converse(self, given_up: trio.Event, closed: trio.Event) -> None:
        """One connection, from dialling to its end; nothing more is said on it once `given_up`."""
        admittance, session = self._admittance, self._session
        try:
            headers = await admittance.headers_now()
            async with dialled(self._url, self._tls) as stream:
                channel = await shake_hands(stream, self._url, headers)
                await self._exchange(channel)
                given_up.set()
                self._closing.cancel()
                with trio.move_on_after(CLOSE_S_MAX) as self._closing:
                    await channel.aclose()
        except* TokenUnavailableError as group:
            admittance.no_token(str(group.exceptions[0]), session.welcomed_ever)
        except* HandshakeRefusedError as group:
            refusal = group.exceptions[0]
            assert isinstance(refusal, HandshakeRefusedError)
            admittance.no_upgrade(self._url, refusal, session.welcomed_ever)
        except* (
            HandshakeFailedError,
            OSError,
            trio.TooSlowError,
            trio.BrokenResourceError,
        ) as group:
            if not given_up.is_set():
                admittance.no_connection(self._url, fault_of(group, self._url))
        finally:
            given_up.set()
            closed.set()

    def _show(self, notice: Notice) -> None:
        self._crew.perform([notice])

    async def _exchange(self, channel: Channel) -> None:
        async with trio.open_nursery() as nursery:
            self._conversation = nursery.cancel_scope
            self._admittance.let_in()
            self._channel = channel
            self._session.connected(trio.current_time())
            self._flush()
            nursery.start_soon(self._write, channel, nursery.cancel_scope)
            self._wake.set()
            try:
                while True:
                    self._heard(await channel.receive(), trio.current_time())
            except ChannelClosedError as closed:
                self._admittance.closed(closed)
                nursery.cancel_scope.cancel()
            finally:
                self._channel = None

    def _heard(self, messages: Sequence[str | bytes], now: float) -> None:
        session = self._session
        for message in messages:
            session.receive(message, now)
        self._flush()
        if session.finished or session.wakeup_at < self._sleeps_until:
            self._wake.set()

    async def _write(self, channel: Channel, conversation: trio.CancelScope) -> None:
        """Send what could not be sent at once, and then what the session has kept meanwhile."""
        try:
            while True:
                await channel.write_backlog()
                self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.cancel()
