"""The workers' listener over an engine in memory, and a client that speaks frames."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import WebSocketConnection, connect_websocket_url

from jobengine.actors.session import SessionPorts, ShellLimits
from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.core.session import SessionLimits
from jobengine.engine import Engine
from jobengine.http.identities import Identities
from jobengine.http.worker_admission import token_admission
from jobengine.http.worker_door import DoorLimits, WorkerDoor
from jobengine.http.worker_frames import WorkerFrames
from jobengine.http.worker_reading import WorkerReader
from jobengine.store.port import Store
from jobengine.testing import memory_engine
from jobengine.wire.frames import SUBPROTOCOL


@attrs.frozen
class Socket:
    """One connection, as the vectors' runner wants it."""

    connection: WebSocketConnection

    async def send(self, text: str) -> None:
        await self.connection.send_message(text)

    async def say(self, *messages: dict[str, Any]) -> None:
        await self.send(msgspec.json.encode(messages).decode())

    async def receive(self) -> str:
        text = await self.connection.get_message()
        assert isinstance(text, str)
        return text

    async def hear(self, op: str) -> dict[str, Any]:
        """The next message of this op; others on the way are dropped."""
        with trio.fail_after(15):
            while True:
                frame = msgspec.json.decode(await self.receive())
                for message in frame if isinstance(frame, list) else [frame]:
                    if message["op"] == op:
                        found: dict[str, Any] = message
                        return found

    async def drop(self) -> None:
        await self.connection._stream.aclose()


@attrs.frozen
class Door:
    """``faults``: what connections and sessions have failed with."""

    engine: Engine
    door: WorkerDoor
    tokens: Tokens
    port: int
    nursery: trio.Nursery
    faults: list[BaseException]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/worker"

    def token(
        self, scopes: Iterable[str] = (Scope.WORK, Scope.SUBMIT), *, tenant: str = "demo"
    ) -> str:
        now_at = self.engine.clock.moment().at
        return self.tokens.issue(tenant, scopes, "tester", 600, now_at)

    @asynccontextmanager
    async def connect(self, **headers: str) -> AsyncIterator[Socket]:
        given = {"Authorization": f"Bearer {self.token()}", **headers}
        # The reader lives in the door's nursery, so that a connection may outlive a cancel scope
        # that it was opened in.
        connection = await connect_websocket_url(
            self.nursery,
            self.url,
            subprotocols=[SUBPROTOCOL],
            extra_headers=[(name.encode(), value.encode()) for name, value in given.items()],
            max_message_size=8 << 20,
        )
        try:
            yield Socket(connection)
        finally:
            with trio.move_on_after(1):
                await connection.aclose()
            await trio.aclose_forcefully(connection._stream)

    @asynccontextmanager
    async def greeted(self, **hello: Any) -> AsyncIterator[Socket]:
        async with self.connect() as socket:
            said = {"workerId": "w", "queues": ["q"], "capacity": 4, **hello}
            await socket.say({"op": "hello", **said})
            await socket.hear("welcome")
            yield socket

    async def settled(self, sessions: int = 0) -> None:
        """Return when only that many sessions, and their connections, are left."""
        with trio.fail_after(15):
            while (
                self.engine.registry.statistics().sessions > sessions
                or self.door.statistics.connections > sessions
            ):
                await wait_all_tasks_blocked(0.01)

    async def raw(self, data: bytes) -> bytes:
        """All that is said to these bytes until the connection ends."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(data)
            answer = b""
            with trio.fail_after(30):
                try:
                    async for chunk in stream:
                        answer += chunk
                except trio.BrokenResourceError:
                    pass
            return answer

    def upgrade(self, path: str = "/worker", **headers: str) -> bytes:
        """A valid handshake as bytes, but for what is overridden."""
        lines = {
            "Host": "localhost",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
            "Authorization": f"Bearer {self.token()}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()


@asynccontextmanager
async def open_door(
    tmp_path: Path,
    *,
    limits: SessionLimits | None = None,
    shell: ShellLimits | None = None,
    door_limits: DoorLimits | None = None,
    store: Store | None = None,
) -> AsyncIterator[Door]:
    tokens = Tokens(load_or_create_key(tmp_path / "key.pem"))
    faults: list[BaseException] = []
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        ports = session_ports(engine, faults, limits, shell)
        door = WorkerDoor(
            ports,
            token_admission(Identities(tokens, engine.store, engine.clock)),
            report_fault=faults.append,
            limits=door_limits,
        )
        port = await nursery.start(partial(door.serve, "127.0.0.1", 0))
        yield Door(engine, door, tokens, port, nursery, faults)
        nursery.cancel_scope.cancel()


def session_ports(
    engine: Engine,
    faults: list[BaseException],
    limits: SessionLimits | None = None,
    shell: ShellLimits | None = None,
) -> SessionPorts:
    reader = WorkerReader(engine.gateway.new_job_ids)
    return SessionPorts(
        registry=engine.registry,
        gateway=engine.gateway,
        clock=engine.clock,
        codec=WorkerFrames(reader, "n1"),
        limits=limits or SessionLimits(),
        shell=shell or ShellLimits(),
        failed=faults.append,
    )
