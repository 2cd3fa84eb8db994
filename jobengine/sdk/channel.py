"""A worker's connection after the handshake: messages in and out, control frames answered.

What is sent leaves at once where the kernel takes it, without a task or a pass of the scheduler;
what it does not take is *backlog*, and leaves by the one task that calls `write_backlog`.

Invariants
    I1  Frames leave whole and in order.
    I2  A ping is answered by a pong, a close by a close of the same code; a server that breaks the
        protocol is told so, and nothing more of it is read.

Deliberately not here: the frames' bytes (`wire/websocket_frames`), opening and closing the
transport (`dialling`), what is said (`transport`).
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

import trio

from jobengine.wire.websocket_frames import (
    MASK_KEY_BYTES,
    CloseFrame,
    Event,
    FrameReader,
    Peer,
    Ping,
    Violation,
    close_frame,
    pong_frame,
    text_frame,
)

__all__ = ["Channel", "ChannelClosedError", "Transport"]

Transport: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
MESSAGE_BYTES_MAX: Final = 8 << 20
_RECEIVE_BYTES: Final = 1 << 16
_WITHOUT_FAREWELL: Final = 1006
_NORMAL: Final = 1000


class ChannelClosedError(Exception):
    """The connection has ended, with a close code (1006 where none was said) and its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Channel:
    """See the module. `behind` is what came right behind the handshake. One task receives, one
    writes the backlog; any code of their loop may send."""

    def __init__(self, stream: Transport, behind: bytes) -> None:
        self._stream = stream
        # Over TLS the kernel's answer is not ours to judge: all of it is backlog.
        self._plain = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._reader = FrameReader(MESSAGE_BYTES_MAX, Peer.SERVER)
        self._events = self._reader.feed(behind)
        self._outgoing = bytearray()
        self._blocked = trio.Event()
        self._is_leaving = False

    @property
    def is_blocked(self) -> bool:
        """Whether there is a backlog."""
        return self._blocked.is_set()

    def send_nowait(self, texts: Iterable[str]) -> None:
        """Send each text as one message, or leave it as backlog."""
        self._put(b"".join([text_frame(text, _drawn_key()) for text in texts]))

    async def receive(self) -> list[str | bytes]:
        """The messages that came, one at least. A checkpoint. Raises `ChannelClosedError`."""
        while True:
            events, self._events = self._events, []
            if not events:
                events = await self._fill()
            else:
                await trio.lowlevel.checkpoint()
            messages = self._judge(events)
            if messages:
                return messages

    async def write_backlog(self) -> None:
        """Wait for a backlog and send it. Raises trio's errors of streams."""
        await self._blocked.wait()
        while self._outgoing:
            data, self._outgoing = self._outgoing, bytearray()
            try:
                # Whatever is sent meanwhile stands behind it, as backlog.
                await self._stream.send_all(data)
            except BaseException:
                # How much of it has left is unknown, so nothing can follow.
                self._is_leaving = True
                raise
        self._blocked = trio.Event()

    async def aclose(self) -> None:
        """Say farewell and wait for the server's; nobody else receives or writes meanwhile."""
        if not self._is_leaving:
            self._outgoing += close_frame(_NORMAL, key=_drawn_key())
            self._is_leaving = True
        try:
            if self._outgoing:
                await self._stream.send_all(self._outgoing)
            while True:
                await self.receive()
        except (ChannelClosedError, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _fill(self) -> list[Event]:
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            raise ChannelClosedError(_WITHOUT_FAREWELL, "")
        return self._reader.feed(data)

    def _judge(self, events: list[Event]) -> list[str | bytes]:
        """The messages among them; what asks for an answer gets it. The end of the connection is
        judged by the next call, so that what came before it is heard."""
        messages: list[str | bytes] = []
        for number, event in enumerate(events):
            if isinstance(event, str | bytes):
                messages.append(event)
            elif isinstance(event, Ping):
                self._put(pong_frame(event.payload, _drawn_key()))
            elif messages:
                self._events = events[number:]
            else:
                self._leave(event)
                raise ChannelClosedError(event.code, event.reason)
        return messages

    def _leave(self, event: CloseFrame | Violation) -> None:
        if not self._is_leaving:
            broken = isinstance(event, Violation)
            self._put(close_frame(event.code, event.reason if broken else "", _drawn_key()))
            self._is_leaving = True

    def _put(self, data: bytes) -> None:
        if self._is_leaving:
            return
        if self._plain is not None and not self._blocked.is_set():
            # What does not leave now is full, or broken: who writes the backlog finds out.
            with suppress(OSError):
                data = data[os.write(self._plain.fileno(), data) :]
        if data:
            self._outgoing += data
            self._blocked.set()


def _drawn_key() -> bytes:
    """Nobody may foresee it (RFC 6455 §5.3)."""
    return os.urandom(MASK_KEY_BYTES)
