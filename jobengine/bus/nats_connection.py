"""A connection to NATS: publish, and be answered at an inbox of one's own.

I1  What is given to `send` in one call is on its way in one piece: nothing of another call is in
    between.
I2  A connection that ends, or whose server is silent, raises `BusAwayError` out of the block that
    opened it. Nobody waits at its inbox any longer.

Not here: JetStream (`jetstream`), coming back (`bus`).

Source: the NATS client protocol, docs.nats.io/reference/reference-protocols/nats-protocol.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import attrs
import msgspec
import trio

from jobengine import __version__
from jobengine.bus.address import BusAddress
from jobengine.bus.dialling import dialled, over_tls, translated
from jobengine.bus.errors import BusAwayError
from jobengine.bus.octets import Octets

__all__ = ["NatsConnection", "NatsMessage", "Outgoing", "open_nats"]

_HELLO_S: Final = 10.0
_PING_S: Final = 15.0
_ANSWER_S: Final = 10.0
_HEAD: Final = b"NATS/1.0"
_INBOX_SID: Final = "1"


@attrs.frozen(kw_only=True)
class NatsMessage:
    """`status` is what stands in the first line of the headers, `404 No Messages` for one."""

    subject: str
    data: bytes
    reply: str = ""
    status: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Outgoing:
    subject: str
    data: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict)
    reply: str = ""

    def encoded(self) -> bytes:
        reply = f" {self.reply}" if self.reply else ""
        if not self.headers:
            head = f"PUB {self.subject}{reply} {len(self.data)}\r\n".encode()
            return b"%b%b\r\n" % (head, self.data)
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        headers = b"%b\r\n%b\r\n" % (_HEAD, lines.encode())
        sizes = f"{len(headers)} {len(headers) + len(self.data)}"
        head = f"HPUB {self.subject}{reply} {sizes}\r\n".encode()
        return b"%b%b%b\r\n" % (head, headers, self.data)


@asynccontextmanager
async def open_nats(address: BusAddress, inbox: str) -> "AsyncIterator[NatsConnection]":
    """A connection that is logged in; `inbox` is a subject that nobody else listens to. Raises
    `BusAwayError`, from within the block in an exception group."""
    async with dialled(address) as (stream, host):
        octets, info = await _greeted(address, stream, host)
        connection = NatsConnection(octets, address.shown, inbox, info)
        await connection.log_in(address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read)
            nursery.start_soon(connection.ping)
            yield connection
            nursery.cancel_scope.cancel()


async def _greeted(
    address: BusAddress, stream: trio.SocketStream, host: str
) -> tuple[Octets, dict[str, Any]]:
    """The server speaks first, in the clear, and then TLS where either side wants it."""
    plain = Octets(stream)
    async with translated(address.shown):
        with trio.move_on_after(_HELLO_S):
            verb, _, text = (await plain.line()).partition(b" ")
            if verb != b"INFO":
                raise BusAwayError(f"{address.shown} is no NATS server")
            info: dict[str, Any] = msgspec.json.decode(text)
            tls = address.tls or info.get("tls_required")
            return Octets(await over_tls(stream, host)) if tls else plain, info
    raise BusAwayError(f"{address.shown} says nothing within {_HELLO_S:g} s")


class NatsConnection:
    def __init__(self, octets: Octets, shown: str, inbox: str, info: Mapping[str, Any]) -> None:
        self._octets = octets
        self._shown = shown
        self._inbox = inbox
        self._sending = trio.Lock()
        self._waiting: dict[str, Callable[[NatsMessage], None]] = {}
        self._subscribed: dict[str, Callable[[NatsMessage], None]] = {}
        self._numbers = count(int(_INBOX_SID) + 1)
        self._pong = trio.Event()
        self.payload_bytes_max = int(info.get("max_payload", 1 << 20))

    async def log_in(self, address: BusAddress) -> None:
        options: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "name": "jobengine",
            "lang": "python",
            "version": __version__,
            "protocol": 1,
            "headers": True,
            "no_responders": True,
        }
        if address.password:
            options |= {"user": address.user, "pass": address.password}
        elif address.user:
            options |= {"auth_token": address.user}
        text = b"CONNECT %b\r\nSUB %b.* %b\r\nPING\r\n"
        inbox = self._inbox.encode()
        await self._write(text % (msgspec.json.encode(options), inbox, _INBOX_SID.encode()))
        async with translated(self._shown):
            with trio.move_on_after(_HELLO_S):
                while not self._pong.is_set():
                    await self._read_one()
                return
        raise BusAwayError(f"{self._shown} does not answer within {_HELLO_S:g} s")

    async def send(self, messages: Iterable[Outgoing]) -> None:
        await self._write(b"".join(message.encoded() for message in messages))

    async def subscribe(self, heard: Callable[[NatsMessage], None]) -> str:
        """A subject whose messages are given to `heard`, within a step of the reader. Those of a
        stream keep the subject under which they were published."""
        number = next(self._numbers)
        subject = f"{self._inbox}-{number}"
        self._subscribed[str(number)] = heard
        await self._write(f"SUB {subject} {number}\r\n".encode())
        return subject

    async def ask(
        self, messages: Iterable[Outgoing], within_s: float = _ANSWER_S
    ) -> list[NatsMessage]:
        """Send messages, and wait for one answer to each, in their order."""
        answers: dict[int, NatsMessage] = {}
        complete = trio.Event()
        replies: list[str] = []
        asking: list[Outgoing] = []
        for number, message in enumerate(messages):

            def heard(answer: NatsMessage, number: int = number) -> None:
                answers[number] = answer
                if len(answers) == len(replies):
                    complete.set()

            reply = f"{self._inbox}.{next(self._numbers)}"
            self._waiting[reply] = heard
            replies.append(reply)
            asking.append(attrs.evolve(message, reply=reply))
        try:
            with trio.move_on_after(within_s):
                await self.send(asking)
                await complete.wait()
                return [answers[number] for number in range(len(asking))]
        finally:
            for reply in replies:
                del self._waiting[reply]
        raise BusAwayError(f"{self._shown} does not answer within {within_s:g} s")

    async def read(self) -> None:
        async with translated(self._shown):
            while True:
                await self._read_one()

    async def ping(self) -> None:
        """A server that is silent for two rounds counts as away."""
        while True:
            self._pong = trio.Event()
            await self._write(b"PING\r\n")
            await trio.sleep(_PING_S)
            if not self._pong.is_set():
                raise BusAwayError(f"{self._shown} does not answer within {_PING_S:g} s")

    async def _write(self, data: bytes) -> None:
        async with self._sending, translated(self._shown):
            await self._octets.stream.send_all(data)

    async def _read_one(self) -> None:
        line = await self._octets.line()
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"MSG" | b"HMSG":
                words = rest.decode().split()
                self._hear(words[1], await self._message(words, verb.upper() == b"HMSG"))
            case b"PING":
                await self._write(b"PONG\r\n")
            case b"PONG":
                self._pong.set()
            case b"-ERR":
                raise BusAwayError(f"{self._shown} says {rest.decode(errors='replace')}")

    async def _message(self, words: list[str], has_headers: bool) -> NatsMessage:
        subject, size = words[0], int(words[-1])
        head_size = int(words[-2]) if has_headers else 0
        reply = words[2] if len(words) == 4 + has_headers else ""
        octets = await self._octets.exactly(size)
        status, headers = _headers_of(octets[:head_size])
        return NatsMessage(
            subject=subject, data=octets[head_size:], reply=reply, status=status, headers=headers
        )

    def _hear(self, sid: str, message: NatsMessage) -> None:
        if sid != _INBOX_SID:
            self._subscribed[sid](message)
        elif (heard := self._waiting.get(message.subject)) is not None:
            heard(message)


def _headers_of(octets: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = octets.decode(errors="replace").split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return first.removeprefix(_HEAD.decode()).strip(), headers
