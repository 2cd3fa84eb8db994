"""How the body of a request arrives: collected whole up to a limit, or read in chunks.

I1  A body is taken in as fast as it is read: what nobody has asked for yet is `_WAITING_BYTES_MAX`
    at most, and the client waits.
I2  A collected body is read to its end or to `DRAINED_MAX` times its limit before it is refused.

Not here: whether a body is taken at all (`admission`), what it means.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

import trio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from jobengine.http.direct import DRAINED_MAX

__all__ = ["Body", "BodyConnection", "BodyRequest"]

_WAITING_BYTES_MAX: Final = 64 * 1024


class Body(TrioBody):
    """Either awaited, for all of it, or read with `chunk`."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self._bytes_max = max_content_length or 0
        self._drained_max = self._bytes_max * DRAINED_MAX
        super().__init__(expected_content_length, self._drained_max)
        self._received = 0
        self._is_collected = False
        self._room = trio.Event()

    def __await__(self) -> Generator[Any, None, Any]:
        self._is_collected = True
        self._room.set()
        return super().__await__()

    def append(self, data: bytes) -> None:
        self._received += len(data)
        if self._is_collected and self._received > self._bytes_max:
            self._data.clear()
            if self._received > self._drained_max:
                self.set_complete()
        else:
            self._data.extend(data)
            self._has_data.set()

    def set_complete(self) -> None:
        if self._received > self._bytes_max:
            self._must_raise = RequestEntityTooLarge()
        super().set_complete()

    async def room(self) -> None:
        """Wait until more may be appended (I1)."""
        while not self._is_collected and len(self._data) >= _WAITING_BYTES_MAX:
            self._room = trio.Event()
            await self._room.wait()

    async def chunk(self, size: int, within_s: float) -> bytes:
        """The next `size` bytes, fewer at the end, none behind it. Raises `RequestTimeout`."""
        found = bytearray()
        with trio.move_on_after(within_s) as scope:
            while len(found) < size and await self._arrived():
                part = self._data[: size - len(found)]
                found += part
                del self._data[: len(part)]
                self._room.set()
        if scope.cancelled_caught:
            raise RequestTimeout
        return bytes(found)

    async def _arrived(self) -> bool:
        """Whether there is more, once that is known."""
        while not self._data and not self._complete.is_set():
            self._has_data.clear()
            await self._has_data.wait()
        return bool(self._data)


class BodyRequest(TrioRequest):
    body: Body
    body_class = Body


class BodyConnection(TrioASGIHTTPConnection):
    """One request and its messages, of which no more is taken than there is room for."""

    async def handle_messages(  # type: ignore[override]
        self,
        nursery: trio.Nursery,
        request: BodyRequest,
        receive: Callable[[], Awaitable[Any]],
    ) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
                await request.body.room()
        nursery.cancel_scope.cancel()
