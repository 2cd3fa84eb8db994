"""What a stream sends: to the kernel at once where that takes it, else kept and sent by a task.

The task exists only while something is kept, so an idle reader has none. What is kept are
references to bytes that readers share.

I1  `put` neither waits nor raises. What is put goes out in order, or not at all: after the first
    failure nothing is sent and nothing is kept any more.
I2  A peer that takes nothing for `write_s` has failed.
I3  From the moment it `is_full` until less than half of its bounds is kept, it stays so; then
    `on_room` is called, once.

Not here: what the bytes are (`forms`), who puts them (`life`).
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from jobengine.http.byte_stream import ByteStream

__all__ = ["Outlet"]

_KEPT_BYTES_MAX: Final = 4 << 20
"""Beside the bound on events: for large ones."""
_PIECE_BYTES: Final = 32 * 1024

Spawn = Callable[[Callable[[], Awaitable[None]]], None]


class Outlet:
    """`on_sent` is told of bytes that were kept and are sent now; `on_failed` is called when the
    connection has failed; `asides` counts what is kept and is no event."""

    __slots__ = (
        "_bytes",
        "_drained",
        "_events",
        "_events_max",
        "_kept",
        "_on_failed",
        "_on_room",
        "_on_sent",
        "_spawn",
        "_stream",
        "_write_s",
        "_writing",
        "asides",
        "failed",
        "is_full",
    )

    def __init__(
        self,
        stream: ByteStream,
        spawn: Spawn,
        *,
        events_max: int,
        write_s: float,
        on_room: Callable[[], None],
        on_failed: Callable[[], None],
        on_sent: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._spawn = spawn
        self._events_max = events_max
        self._write_s = write_s
        self._on_room = on_room
        self._on_failed = on_failed
        self._on_sent = on_sent
        # What is to be sent, and how many events each piece holds.
        self._kept: deque[tuple[bytes | memoryview, int]] = deque()
        self._events = 0
        self._bytes = 0
        self._writing = False
        self._drained: trio.Event | None = None
        self.asides = 0
        self.is_full = False
        self.failed = False

    @property
    def is_idle(self) -> bool:
        """Whether the kernel has taken everything."""
        return not self._writing

    def put(self, data: bytes, events: int = 0) -> None:
        if self.failed or not data:
            return
        rest: bytes | memoryview = data
        if not self._writing:
            try:
                sent = self._stream.send_nowait(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.fail()
                return
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
        self._keep(rest, events)
        if not self._writing:
            self._writing = True
            self._spawn(self._write)

    def fail(self) -> None:
        """Nothing is sent any more."""
        if not self.failed:
            self.failed = True
            self._kept.clear()
            self._tell_drained()
            self._on_failed()

    async def drained(self) -> None:
        """Return when the kernel has taken everything, or nothing can be sent any more."""
        while self._writing and not self.failed:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    def _keep(self, rest: bytes | memoryview, events: int) -> None:
        self._kept.append((rest, events))
        self._bytes += len(rest)
        self._events += events
        self.asides += not events
        if self._events > self._events_max or self._bytes > _KEPT_BYTES_MAX:
            self.is_full = True

    async def _write(self) -> None:
        try:
            while self._kept and not self.failed:
                piece, events, asides = self._take_piece()
                await self._send(piece)
                self._on_sent(len(piece))
                self._bytes -= len(piece)
                self._events -= events
                self.asides -= asides
                if self.is_full and self._has_room() and not self.failed:
                    self.is_full = False
                    self._on_room()
        finally:
            self._writing = False
            self._tell_drained()

    async def _send(self, piece: bytes | memoryview) -> None:
        sent = False
        try:
            with trio.move_on_after(self._write_s):
                await self._stream.send_all(piece)
                sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not sent:
            self.fail()
        # The kernel may have taken it without a wait.
        await trio.lowlevel.checkpoint()

    def _take_piece(self) -> tuple[bytes | memoryview, int, int]:
        """Some of what is kept, and how many events and asides are over with it."""
        data, events = self._kept.popleft()
        if len(data) > _PIECE_BYTES:
            view = memoryview(data)
            self._kept.appendleft((view[_PIECE_BYTES:], events))
            return view[:_PIECE_BYTES], 0, 0
        parts, size, asides = [data], len(data), int(not events)
        while self._kept and size + len(self._kept[0][0]) <= _PIECE_BYTES:
            data, more = self._kept.popleft()
            parts.append(data)
            size += len(data)
            events += more
            asides += not more
        return parts[0] if len(parts) == 1 else b"".join(parts), events, asides

    def _has_room(self) -> bool:
        return 2 * self._events < self._events_max and 2 * self._bytes < _KEPT_BYTES_MAX

    def _tell_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None
