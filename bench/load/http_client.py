"""Just enough HTTP/1.1 for a load process: one connection, one request at a time, kept alive.

A client that costs more CPU than the server it measures would measure itself; on two cores every
microsecond here is taken from the engine.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11
import trio

__all__ = ["HttpClient", "open_client"]


class HttpClient:
    def __init__(self, stream: trio.SocketStream, headers: Mapping[str, str]) -> None:
        self._stream = stream
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._connection = h11.Connection(h11.CLIENT)

    async def post(self, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        headers = [
            *self._headers,
            (b"Content-Type", media_type.encode()),
            (b"Content-Length", str(len(body)).encode()),
        ]
        request = h11.Request(method="POST", target=path, headers=headers)
        response, answer = await self._exchange(request, h11.Data(data=body))
        return response.status_code, answer

    async def read(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        request = h11.Request(method="GET", target=path, headers=self._headers)
        response, answer = await self._exchange(request)
        return response.status_code, answer

    async def get(self, path: str) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers of the answer; their names are in lower case."""
        request = h11.Request(method="GET", target=path, headers=self._headers)
        response, _ = await self._exchange(request)
        return response.status_code, dict(response.headers)

    async def _exchange(self, *asked: h11.Event) -> tuple[h11.Response, bytes]:
        connection = self._connection
        events = (*asked, h11.EndOfMessage())
        await self._stream.send_all(b"".join(connection.send(event) or b"" for event in events))
        response, parts = None, bytearray()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await self._stream.receive_some())
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                parts += event.data
            elif isinstance(event, h11.ConnectionClosed):
                raise trio.BrokenResourceError("the server closed the connection")
        connection.start_next_cycle()
        assert response is not None
        return response, bytes(parts)


@asynccontextmanager
async def open_client(
    url: str, token: str, tenant: str, *, operator_reason: str | None = None
) -> AsyncIterator[HttpClient]:
    """With a reason also what only an operator may do."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    headers = {
        "Host": parts.netloc,
        "Authorization": f"Bearer {token}",
        "X-Stella-Tenant": tenant,
    }
    if operator_reason is not None:
        headers["X-Stella-Operator-Reason"] = operator_reason
        headers["X-Stella-Operator-Ticket"] = "none"
    async with await trio.open_tcp_stream(host, port) as stream:
        yield HttpClient(stream, headers)
