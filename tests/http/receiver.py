"""A receiver of webhooks: a small HTTP server on loopback that answers as it is told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import h11
import trio

__all__ = ["Answer", "Received", "Receiver", "open_receiver"]


@attrs.frozen(kw_only=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@attrs.frozen(kw_only=True)
class Answer:
    """`reset`: cut the connection instead. `body_bytes`: how many follow, in pieces."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    wait_s: float = 0.0
    reset: bool = False


Decide = Callable[[Received], Awaitable[Answer]]


@attrs.define
class Receiver:
    """`decide` says how each request is answered; `received` keeps all of them."""

    port: int
    decide: Decide
    received: list[Received] = attrs.field(factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(stream, connection):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass

    async def _exchange(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        head, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        request = Received(path=head.target.decode(), headers=headers, body=body)
        self.received.append(request)
        answer = await self.decide(request)
        if answer.wait_s:
            await trio.sleep(answer.wait_s)
        if answer.reset:
            return False
        fields = [*answer.headers, ("content-length", str(answer.body_bytes))]
        start = h11.Response(status_code=answer.status, headers=fields)
        await stream.send_all(connection.send(start) or b"")
        for _ in range(answer.body_bytes // 1_024):
            await stream.send_all(connection.send(h11.Data(data=b"x" * 1_024)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return connection.our_state is h11.DONE


async def confirm(_: Received) -> Answer:
    return Answer()


@asynccontextmanager
async def open_receiver(decide: Decide = confirm) -> AsyncIterator[Receiver]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver = Receiver(listener.socket.getsockname()[1], decide)
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()
