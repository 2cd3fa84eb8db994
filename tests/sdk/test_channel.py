"""A worker's connection after the handshake, over a real socket."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from jobengine.sdk.channel import Channel, ChannelClosedError


class Server:
    """The other end, as another implementation speaks."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._protocol = Connection(ConnectionType.SERVER)

    async def say(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(map(self._protocol.send, events)))

    async def hear(self) -> list[Event]:
        while True:
            self._protocol.receive_data(await self.stream.receive_some(1 << 16) or None)
            if events := list(self._protocol.events()):
                return events

    async def hear_texts(self, count: int) -> list[str]:
        texts: list[str] = []
        part = ""
        while len(texts) < count:
            for event in await self.hear():
                assert isinstance(event, TextMessage)
                part += event.data
                if event.message_finished:
                    texts.append(part)
                    part = ""
        return texts


@asynccontextmanager
async def connected(behind: bytes = b"") -> AsyncIterator[tuple[Channel, Server]]:
    near, far = (
        trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair()
    )
    async with near, far:
        with trio.fail_after(5):
            yield Channel(near, behind), Server(far)


async def test_what_came_behind_the_handshake_is_heard_first() -> None:
    async with connected(behind=b"\x81\x01a\x81\x01b") as (channel, server):
        await server.say(TextMessage("c"))
        assert await channel.receive() == ["a", "b"]
        assert await channel.receive() == ["c"]


async def test_messages_before_a_close_are_heard_and_the_close_is_answered() -> None:
    async with connected() as (channel, server):
        await server.say(TextMessage("a"), BytesMessage(b"b"), CloseConnection(4401, "ended"))
        assert await channel.receive() == ["a", b"b"]
        with pytest.raises(ChannelClosedError) as closed:
            await channel.receive()
        assert (closed.value.code, closed.value.reason) == (4401, "ended")
        [farewell] = await server.hear()
        assert isinstance(farewell, CloseConnection)
        assert farewell.code == 4401
        channel.send_nowait(["too late"])
        assert not channel.is_blocked


async def test_a_ping_is_answered_by_who_receives() -> None:
    async with connected() as (channel, server):
        await server.say(Ping(b"here?"), TextMessage("a"))
        assert await channel.receive() == ["a"]
        [pong] = await server.hear()
        assert isinstance(pong, Pong)
        assert pong.payload == b"here?"


async def test_a_server_that_breaks_the_protocol_is_told_so() -> None:
    async with connected() as (channel, server):
        await server.stream.send_all(b"\x81\x81abcdx")
        with pytest.raises(ChannelClosedError) as closed:
            await channel.receive()
        assert closed.value.code == 1002
        [farewell] = await server.hear()
        assert isinstance(farewell, CloseConnection)
        assert farewell.code == 1002


async def test_what_the_kernel_does_not_take_leaves_in_order_behind_it() -> None:
    texts = [f"{n}:" + "x" * 100_000 for n in range(40)]
    async with connected() as (channel, server), trio.open_nursery() as nursery:
        channel.send_nowait(texts[:30])
        assert channel.is_blocked
        channel.send_nowait(texts[30:])
        nursery.start_soon(channel.write_backlog)
        assert await server.hear_texts(len(texts)) == texts
    assert not channel.is_blocked


async def test_a_farewell_takes_the_backlog_along_and_waits_for_the_answer() -> None:
    async with connected() as (channel, server), trio.open_nursery() as nursery:
        channel.send_nowait(["x" * 1_000_000])
        nursery.start_soon(channel.aclose)
        heard: list[Event] = []
        while not heard or not isinstance(heard[-1], CloseConnection):
            heard += await server.hear()
        *pieces, farewell = heard
        assert "".join(p.data for p in pieces if isinstance(p, TextMessage)) == "x" * 1_000_000
        assert isinstance(farewell, CloseConnection)
        await server.say(farewell.response())


async def test_a_connection_that_is_gone_is_found_out_by_receiving_and_by_the_backlog() -> None:
    async with connected() as (channel, server):
        await server.stream.aclose()
        with pytest.raises(ChannelClosedError) as closed:
            await channel.receive()
        assert closed.value.code == 1006
        channel.send_nowait(["a"])
        with pytest.raises(trio.BrokenResourceError):
            await channel.write_backlog()
        await channel.aclose()
