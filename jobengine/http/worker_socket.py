"""A worker's connection as a ``FrameChannel``: bytes in and out, control frames answered.

I1  A ping is answered by the receiving task, all of one read in one write, a close by a close with
    the same code; a peer that breaks the protocol is told the code and is not read from any more.
I2  Frames leave whole and in order, whoever sends them.
I3  Frames that came in one piece are handed out without waiting in between; how many that are is
    bounded by what is read at once.
I4  A connection that this side closed drops what still comes, until the peer closes too or
    ``close_s_max`` has passed, so that the farewell is not lost to a reset.
I5  Every frame counts, also one that is no message: control frames and fragments when they are
    read, a message when it is handed out (`worker_limits`, I1).

Not here: the frames' bytes (`wire/websocket_frames`), the opening handshake (`worker_upgrade`,
`opening`), the end of the transport (`worker_door`, `server`).
"""

from collections import deque
from typing import Final

import trio

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.http.byte_stream import ByteStream
from jobengine.http.worker_limits import TOO_MANY_FRAMES, TOO_MANY_FRAMES_ERROR, FrameMeter
from jobengine.wire.frames import FRAME_BYTES_MAX
from jobengine.wire.websocket_frames import (
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

__all__ = ["SocketChannel", "worker_channel"]

_RECEIVE_BYTES: Final = 16 << 10
_RECEIVE_BYTES_MAX: Final = 256 << 10
_WITHOUT_FAREWELL: Final = 1006
_POLICY_VIOLATION: Final = 1008
_FRAME_BYTES_READ_MAX: Final = 4 * FRAME_BYTES_MAX
"""A frame over the protocol's limit is answered with an error; one over this is not even read."""
_CLOSE_S_MAX: Final = 2.0


def worker_channel(stream: ByteStream, behind: bytes, meter: FrameMeter) -> "SocketChannel":
    """The channel of a worker, whichever door it came through."""
    return SocketChannel(
        stream,
        behind,
        message_bytes_max=_FRAME_BYTES_READ_MAX,
        close_s_max=_CLOSE_S_MAX,
        meter=meter,
    )


class SocketChannel:
    """A ``FrameChannel`` whose handshake is over; ``behind`` is what came right behind that. Frames
    are not limited without a ``meter``."""

    __slots__ = (
        "_behind",
        "_close_s_max",
        "_closed",
        "_events",
        "_leaving",
        "_meter",
        "_over",
        "_reader",
        "_receiving",
        "_sending",
        "_stream",
        "_unsent",
    )

    def __init__(
        self,
        stream: ByteStream,
        behind: bytes,
        *,
        message_bytes_max: int,
        close_s_max: float,
        meter: FrameMeter | None = None,
    ) -> None:
        self._stream = stream
        self._behind = behind
        self._meter = meter
        self._reader = FrameReader(message_bytes_max, Peer.CLIENT)
        self._close_s_max = close_s_max
        self._events: deque[Event] = deque()
        self._sending = trio.Lock()
        # Taken without waiting, and not taken by the kernel; leaves before all that is sent next.
        self._unsent = bytearray()
        self._receiving = False
        # Whether a close frame was sent, and what the connection ended with once it has: no error,
        # whose frames would hold the connection until the collector comes by.
        self._leaving = False
        self._closed: tuple[int, str] | None = None
        self._over = trio.Event()

    async def receive(self) -> str | bytes:
        """See ``FrameChannel``. A checkpoint only when no frame lies ready (I3)."""
        while True:
            while self._events:
                event = self._events.popleft()
                if not isinstance(event, str | bytes):
                    await self._obey(event)
                elif not self._leaving:
                    await self._count(1)
                    return event
            await self._fill()

    async def send(self, text: str) -> None:
        """See ``FrameChannel``. A checkpoint only when the kernel does not take it at once."""
        if self._leaving:
            raise ChannelClosedError
        await self._send(text_frame(text))

    def send_nowait(self, text: str) -> bool:
        """See ``FrameChannel``."""
        if self._leaving:
            raise ChannelClosedError
        data = text_frame(text)
        sent = 0
        if not self._unsent and not self._sending.locked():
            try:
                sent = self._stream.send_nowait(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise self._end(_WITHOUT_FAREWELL, "") from None
            if sent == len(data):
                return True
        self._unsent += data[sent:]
        return False

    async def flush(self) -> None:
        """See ``FrameChannel``."""
        while self._unsent:
            await self._send(b"")

    async def aclose(self, code: int, reason: str) -> None:
        with trio.move_on_after(self._close_s_max):
            try:
                await self._leave(code, reason)
                if self._receiving:
                    await self._over.wait()
                while self._closed is None:
                    await self.receive()
            except ChannelClosedError:
                return
        self._end(_WITHOUT_FAREWELL, "")

    async def _fill(self) -> None:
        """Wait for bytes; adds what came whole, or ends the connection and raises that."""
        if self._closed is not None:
            raise ChannelClosedError(*self._closed)
        reader = self._reader
        data, self._behind = self._behind or await self._read(), b""
        events = reader.feed(data)
        self._events.extend(events)
        pongs = [pong_frame(event.payload) for event in events if isinstance(event, Ping)]
        silent, reader.silent = reader.silent, 0
        if (pongs or silent) and not self._leaving:
            await self._count(len(pongs) + silent)
            if pongs:
                await self._send(b"".join(pongs))

    async def _read(self) -> bytes | bytearray:
        room = min(max(_RECEIVE_BYTES, self._reader.missing), _RECEIVE_BYTES_MAX)
        self._receiving = True
        try:
            data = await self._stream.receive_some(room)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        finally:
            self._receiving = False
        if not data:
            raise self._end(_WITHOUT_FAREWELL, "")
        return data

    async def _count(self, frames: int) -> None:
        """Turn the peer away when these are too many: raises `ChannelClosedError`."""
        if self._meter is None or self._meter.take(frames):
            return
        await self.send(TOO_MANY_FRAMES_ERROR)
        await self.aclose(_POLICY_VIOLATION, TOO_MANY_FRAMES)
        raise ChannelClosedError(_POLICY_VIOLATION, TOO_MANY_FRAMES)

    async def _obey(self, event: Ping | CloseFrame | Violation) -> None:
        match event:
            case Ping():
                pass  # answered as it was read
            case CloseFrame():
                with trio.move_on_after(self._close_s_max):
                    await self._leave(event.code, "")
                raise self._end(event.code, event.reason)
            case Violation():
                with trio.move_on_after(self._close_s_max):
                    await self._leave(event.code, event.reason)
                raise self._end(event.code, event.reason)

    async def _leave(self, code: int, reason: str) -> None:
        if not self._leaving:
            self._leaving = True
            await self._send(close_frame(code, reason))

    async def _send(self, data: bytes) -> None:
        lock = self._sending
        try:
            lock.acquire_nowait()
        except trio.WouldBlock:
            await lock.acquire()
        if self._unsent:
            data, self._unsent = bytes(self._unsent + data), bytearray()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._end(_WITHOUT_FAREWELL, "") from None
        finally:
            lock.release()

    def _end(self, code: int, reason: str) -> ChannelClosedError:
        if self._closed is None:
            self._closed = (code, reason)
            self._over.set()
        return ChannelClosedError(*self._closed)
