"""A stub upstream: an HTTP server on loopback behind a limit that its callers do not know.

It answers 200, or 429, if so asked with a Retry-After in whole seconds, and counts both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import h11
import trio

from bench.harness.hidden_limit import HiddenLimit, whole_seconds

__all__ = ["Upstream", "open_upstream"]

_SECOND: Final = 1_000_000


@attrs.define
class Upstream:
    """The limit may be changed while it runs."""

    limit: HiddenLimit
    says_when: bool
    """Whether a 429 has a Retry-After."""
    url: str = ""
    served: int = 0
    refused: int = 0

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
        wait_us = self.limit.call(round(trio.current_time() * _SECOND))
        headers = [("Content-Length", "0")]
        if wait_us is None:
            self.served += 1
        else:
            self.refused += 1
            if self.says_when:
                headers.append(("Retry-After", str(whole_seconds(wait_us))))
        response = h11.Response(status_code=200 if wait_us is None else 429, headers=headers)
        events = (response, h11.EndOfMessage())
        await stream.send_all(b"".join(connection.send(part) or b"" for part in events))
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


@asynccontextmanager
async def open_upstream(limit: HiddenLimit, *, says_when: bool) -> AsyncIterator[Upstream]:
    """A running upstream on a free port, for the block."""
    upstream = Upstream(limit, says_when)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        upstream.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, upstream.serve, [listener])
        yield upstream
        nursery.cancel_scope.cancel()
