"""A connection to Valkey, or a server that speaks as it does (RESP2).

I1  Commands of one call are written together and answered together, in their order; calls follow
    each other.
I2  A call that did not end, by cancellation too, leaves a connection that refuses all others.

Source: the RESP specification, valkey.io/topics/protocol.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import trio

from jobengine.bus.address import BusAddress
from jobengine.bus.dialling import dialled, over_tls, translated
from jobengine.bus.errors import BusAwayError
from jobengine.bus.octets import Octets

__all__ = ["Command", "Reply", "ValkeyConnection", "ValkeyError", "open_valkey"]

Command: TypeAlias = Sequence[bytes | str | int]
Reply: TypeAlias = Any
"""bytes, str (a simple string), int, None, a list of these, or a `ValkeyError`."""

_ANSWER_S: Final = 10.0


class ValkeyError(Exception):
    """What the server says of a command; the first word is a code."""


@asynccontextmanager
async def open_valkey(address: BusAddress) -> "AsyncIterator[ValkeyConnection]":
    """A connection that is logged in and stands in its database. Raises `BusAwayError`."""
    async with dialled(address) as (stream, host):
        octets = Octets(await over_tls(stream, host) if address.tls else stream)
        connection = ValkeyConnection(octets, address.shown)
        if address.password:
            login = [address.user] if address.user else []
            await connection.call(["AUTH", *login, address.password])
        await connection.call(["SELECT", address.database])
        yield connection


class ValkeyConnection:
    def __init__(self, octets: Octets, shown: str) -> None:
        self._octets = octets
        self._shown = shown
        self._turn = trio.Lock()
        self._in_step = True

    async def call(self, command: Command, *, within_s: float = _ANSWER_S) -> Reply:
        """One command. Raises `BusAwayError`, also for what the server answers as an error."""
        (reply,) = await self.call_all([command], within_s=within_s)
        if isinstance(reply, ValkeyError):
            raise BusAwayError(f"{self._shown} refused {command[0]!s}: {reply}")
        return reply

    async def call_all(
        self, commands: Sequence[Command], *, within_s: float = _ANSWER_S
    ) -> list[Reply]:
        """Replies in the order of the commands; a `ValkeyError` stands in its place."""
        async with self._turn:
            if not self._in_step:
                raise BusAwayError(f"the connection to {self._shown} was given up")
            self._in_step = False
            async with translated(self._shown):
                with trio.move_on_after(within_s):
                    await self._octets.stream.send_all(b"".join(map(_encoded, commands)))
                    replies = [await self._reply() for _ in commands]
                    self._in_step = True
                    return replies
            raise BusAwayError(f"{self._shown} does not answer within {within_s:g} s")

    async def _reply(self) -> Reply:
        line = await self._octets.line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                return ValkeyError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else await self._octets.exactly(int(rest))
            case b"*":
                return None if rest == b"-1" else [await self._reply() for _ in range(int(rest))]
        raise trio.BrokenResourceError("the server speaks another protocol")


def _encoded(command: Command) -> bytes:
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    text = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%b" % (len(parts), text)
