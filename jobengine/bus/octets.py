"""A connection read in lines and counted octets: the form that both protocols have."""

from typing import Final

import trio

from jobengine.bus.dialling import Stream

__all__ = ["Octets"]

_CHUNK_BYTES: Final = 65_536
_LINE_BYTES_MAX: Final = 1 << 20


class Octets:
    """Used by one task. Cancelled: what had come in part is lost, so the connection is, too."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def line(self) -> bytes:
        """The next line without its end. Raises `trio.BrokenResourceError` at the end of all."""
        searched = 0
        while (end := self._buffer.find(b"\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            if searched > _LINE_BYTES_MAX:
                raise trio.BrokenResourceError("a line without an end")
            await self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def exactly(self, count: int) -> bytes:
        """So many octets, and the end of line behind them, which is left out."""
        while len(self._buffer) < count + 2:
            await self._more()
        octets = bytes(self._buffer[:count])
        del self._buffer[: count + 2]
        return octets

    async def _more(self) -> None:
        data = await self.stream.receive_some(_CHUNK_BYTES)
        if not data:
            raise trio.BrokenResourceError("the server closed it")
        self._buffer += data
