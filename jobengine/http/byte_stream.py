"""A connection as a stream of bytes, read and written in as few steps as can be.

Trio's `SocketStream` tries before it waits, and passes through the scheduler once more after it did
not have to wait. For a peer that sends one short frame at a time that is a system call and a pass
of the scheduler too many in each direction; `PlainStream` waits first when it reads, and does not
wait at all when it writes what the kernel takes.

I1  `receive_some` is a checkpoint always; `send_all` and `send_nowait` are not, so who sends in a
    loop waits for something else in it.
I2  Errors are Trio's: `BrokenResourceError` for a peer that is gone, `ClosedResourceError` for a
    socket that this side closed.
"""

import os
from typing import Protocol

import trio

__all__ = ["ByteStream", "PlainStream", "TlsBytes"]


class ByteStream(Protocol):
    """Used by one receiving and one sending task."""

    async def receive_some(self, bytes_max: int, /) -> bytes | bytearray:
        """What has come, one byte at least; b"" when the peer sends no more. Cancelled: nothing
        is lost."""
        ...

    async def send_all(self, data: bytes | memoryview, /) -> None:
        """Returns when everything is on its way. Cancelled: how much of it is unknown."""
        ...

    def send_nowait(self, data: bytes | memoryview, /) -> int:
        """Send what can be sent without waiting; returns how many bytes of the beginning."""
        ...


class PlainStream:
    """A TCP connection. Whoever made the stream closes it."""

    __slots__ = ("_socket",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket

    async def receive_some(self, bytes_max: int, /) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._descriptor())
            try:
                return os.read(self._descriptor(), bytes_max)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | memoryview, /) -> None:
        sent = self.send_nowait(data)
        while sent < len(data):
            await trio.lowlevel.wait_writable(self._descriptor())
            sent += self.send_nowait(data[sent:])

    def send_nowait(self, data: bytes | memoryview, /) -> int:
        try:
            return os.write(self._descriptor(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    def _descriptor(self) -> int:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError
        return descriptor


class TlsBytes:
    """A connection under TLS, whose records may need reading to be written: it always may wait."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def receive_some(self, bytes_max: int, /) -> bytes | bytearray:
        return await self._stream.receive_some(bytes_max)

    async def send_all(self, data: bytes | memoryview, /) -> None:
        await self._stream.send_all(data)

    def send_nowait(self, data: bytes | memoryview, /) -> int:
        return 0
