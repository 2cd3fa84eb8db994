"""A frame channel: one connection of a worker, as far as a session cares.

Doors adapt their transport to it; `memory_channels` makes a connected pair for tests and the
simulator, with the same manners.
"""

from collections import deque
from typing import Protocol

import attrs
import trio

__all__ = ["ChannelClosedError", "FrameChannel", "MemoryChannel", "memory_channels"]


class ChannelClosedError(Exception):
    """Nothing more can be sent or received. The code is WebSocket's (1006: without a farewell)."""

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".strip())
        self.code = code
        self.reason = reason


class FrameChannel(Protocol):
    """Used by one receiving task and one that sends; the receiving one may send as well."""

    async def send(self, text: str) -> None:
        """Send one text frame; returns when the transport took it. Raises `ChannelClosedError`.

        A checkpoint only when it has to wait.
        """
        ...

    def send_nowait(self, text: str) -> bool:
        """Take a text frame without waiting. Whether it has left whole; if not, `flush` waits until
        it has. Frames leave in the order in which they were taken. Raises `ChannelClosedError`."""
        ...

    async def flush(self) -> None:
        """Return when all that was taken has left. Raises `ChannelClosedError`."""
        ...

    async def receive(self) -> str | bytes:
        """The next whole frame (bytes: a binary one). Raises `ChannelClosedError`.

        A checkpoint only when none lies ready; how many may lie ready is bounded.
        """
        ...

    async def aclose(self, code: int, reason: str) -> None:
        """Say farewell, bounded in time; `receive` raises from then on. Never raises."""
        ...


@attrs.define
class _Farewell:
    """What either end of a pair closed with; shared by both."""

    code: int = 1006
    reason: str = ""


class MemoryChannel:
    """One end of a pair."""

    def __init__(
        self,
        sender: trio.MemorySendChannel[str | bytes],
        receiver: trio.MemoryReceiveChannel[str | bytes],
        farewell: _Farewell,
    ) -> None:
        self._sender = sender
        self._receiver = receiver
        self._farewell = farewell
        self._unsent: deque[str] = deque()

    async def send(self, text: str | bytes) -> None:
        try:
            await self._sender.send(text)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._closed() from None

    def send_nowait(self, text: str) -> bool:
        try:
            if not self._unsent:
                self._sender.send_nowait(text)
                return True
        except trio.WouldBlock:
            pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._closed() from None
        self._unsent.append(text)
        return False

    async def flush(self) -> None:
        while self._unsent:
            await self.send(self._unsent[0])
            self._unsent.popleft()

    async def receive(self) -> str | bytes:
        try:
            return await self._receiver.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise self._closed() from None

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self._farewell.code, self._farewell.reason = code, reason
        self.cut()
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """End without a farewell, as a network does. What was sent before can be received."""
        self._sender.close()
        self._receiver.close()

    def _closed(self) -> ChannelClosedError:
        return ChannelClosedError(self._farewell.code, self._farewell.reason)


def memory_channels(frames_max: float = 0) -> tuple[MemoryChannel, MemoryChannel]:
    """A connected pair; `frames_max` frames a direction may lie in between."""
    farewell = _Farewell()
    to_right, from_left = trio.open_memory_channel[str | bytes](frames_max)
    to_left, from_right = trio.open_memory_channel[str | bytes](frames_max)
    return (
        MemoryChannel(to_right, from_right, farewell),
        MemoryChannel(to_left, from_left, farewell),
    )
