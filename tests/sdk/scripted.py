"""A real worker door on loopback whose behaviour a test scripts: `EngineModel` behind a socket."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

from jobengine.wire.engine_messages import Ack, EngineMessage, Lease
from jobengine.wire.frames import SUBPROTOCOL, encode_frame
from tests.sdk.model import EngineModel


class ScriptedEngine:
    """One worker's engine. `reject_bearers` are refused with 401. `hold_acks` keeps
    acknowledgements back; `drop` cuts the socket."""

    def __init__(self) -> None:
        self.model = EngineModel(heartbeat_seconds=0.2)
        self.url = ""
        self.hold_acks = False
        self.reject_with: int | None = None
        self.reject_bearers: set[str | None] = set()
        self.connections = 0
        self.handshakes: list[dict[str, str]] = []
        self.pending: list[Lease] = []
        self._changed = trio.Event()
        self._socket: WebSocketConnection | None = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something the worker said makes the condition true."""
        with trio.fail_after(10):
            while not condition():
                changed = self._changed
                await changed.wait()

    def drop(self) -> None:
        """Cut the connection without a closing handshake."""
        assert self._socket is not None
        self._cancel.cancel()

    async def close(self, code: int, reason: str) -> None:
        """Close the connection as an engine does."""
        assert self._socket is not None
        await self._socket.aclose(code, reason)

    async def send(self, frame: str) -> None:
        assert self._socket is not None
        await self._socket.send_message(frame)

    async def grant(self, *leases: Lease) -> None:
        self.pending.extend(leases)
        await self._grant()

    async def _grant(self) -> None:
        while self.pending and (frame := self.model.grant(self.pending[0])) is not None:
            self.pending.pop(0)
            await self.send(frame)

    async def serve(self, request: WebSocketRequest) -> None:
        self.handshakes.append({name.decode(): value.decode() for name, value in request.headers})
        known = self.handshakes[-1].get("authorization") not in self.reject_bearers
        status = self.reject_with if known else 401
        if status is not None:
            await request.reject(status, body=b"no")
            return
        self._socket = socket = await request.accept(subprotocol=SUBPROTOCOL)
        self.connections += 1
        with trio.CancelScope() as self._cancel:
            try:
                while True:
                    await self._answer(await socket.get_message())
            except ConnectionClosed:
                return
        await trio.aclose_forcefully(socket._stream)

    async def _answer(self, frame: str | bytes) -> None:
        answers: list[EngineMessage] = self.model.receive(frame)
        if self.hold_acks:
            answers = [answer for answer in answers if not isinstance(answer, Ack)]
        if answers:
            await self.send(encode_frame(answers))
        await self._grant()
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def scripted_engine() -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, engine.serve, "127.0.0.1", 0, None)
        engine.url = f"ws://127.0.0.1:{server.port}"
        yield engine
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(
    serve: Callable[[], Awaitable[None]], drain: Callable[[], None]
) -> AsyncIterator[None]:
    """Run a worker for the length of the block, then drain it and wait for its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield
        drain()
