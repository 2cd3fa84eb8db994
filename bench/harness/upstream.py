"""A stub upstream: an HTTP server on loopback behind a token bucket that its callers do not know.

It answers 200, or 429 with a Retry-After in whole seconds, and counts both. The limit may be
changed while it runs.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import h11
import trio

__all__ = ["Upstream", "open_upstream"]


@attrs.define
class Upstream:
    per_minute: int
    burst: int
    url: str = ""
    served: int = 0
    refused: int = 0
    _tokens: float = 0.0
    _refilled_at: float = attrs.field(init=False, factory=trio.current_time)

    def call(self) -> int | None:
        """Seconds to stay away, or None when the call is served."""
        now = trio.current_time()
        per_s = self.per_minute / 60
        self._tokens = min(self.burst, self._tokens + (now - self._refilled_at) * per_s)
        self._refilled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            self.served += 1
            return None
        self.refused += 1
        return max(1, math.ceil((1 - self._tokens) / per_s))

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection until it ends."""
        connection = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while await self._answer(connection, stream):
                    connection.start_next_cycle()
            except (h11.RemoteProtocolError, trio.BrokenResourceError):
                return

    async def _answer(self, connection: h11.Connection, stream: trio.SocketStream) -> bool:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.ConnectionClosed):
                return False
        wait_s = self.call()
        headers = [("Content-Length", "0")]
        if wait_s is not None:
            headers.append(("Retry-After", str(wait_s)))
        response = h11.Response(status_code=200 if wait_s is None else 429, headers=headers)
        events = (response, h11.EndOfMessage())
        await stream.send_all(b"".join(connection.send(part) or b"" for part in events))
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


@asynccontextmanager
async def open_upstream(per_minute: int, burst: int) -> AsyncIterator[Upstream]:
    """A running upstream on a free port, for the block."""
    upstream = Upstream(per_minute, burst)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        upstream.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, upstream.serve, [listener])
        yield upstream
        nursery.cancel_scope.cancel()
