"""A worker's connection: control frames, farewells, and bytes in any portions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.http.byte_stream import PlainStream
from jobengine.http.worker_socket import SocketChannel
from jobengine.wire.websocket_frames import close_frame, text_frame
from tests.http.worker_socket import open_door

LIMIT = 1 << 20


def frame(first: int, payload: bytes) -> bytes:
    """A frame masked with zeros, of at most 64 KiB."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + payload


def say(text: str) -> bytes:
    return frame(0x81, text.encode())


def close(code: int) -> bytes:
    return frame(0x88, code.to_bytes(2, "big"))


@asynccontextmanager
async def connected(
    behind: bytes = b"", close_s_max: float = 0.2
) -> AsyncIterator[tuple[SocketChannel, trio.SocketStream]]:
    """A channel and the other end of its connection, which has small buffers."""
    ours, theirs = trio.socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    async with trio.SocketStream(ours) as near, trio.SocketStream(theirs) as far:
        with trio.fail_after(5):
            yield (
                SocketChannel(
                    PlainStream(near), behind, message_bytes_max=LIMIT, close_s_max=close_s_max
                ),
                far,
            )


async def test_what_came_behind_the_handshake_is_received_first() -> None:
    async with connected(say("one") + say("two")[:3]) as (channel, far):
        assert await channel.receive() == "one"
        await far.send_all(say("two")[3:] + frame(0x82, b"three"))
        assert await channel.receive() == "two"
        assert await channel.receive() == b"three"


async def test_a_ping_between_fragments_is_answered_by_its_payload() -> None:
    async with connected() as (channel, far):
        await far.send_all(frame(0x01, b"a") + frame(0x89, b"p") + frame(0x80, b"b"))
        assert await channel.receive() == "ab"
        assert await far.receive_some() == b"\x8a\x01p"


async def test_a_peer_that_closes_is_answered_with_its_code() -> None:
    async with connected() as (channel, far):
        await far.send_all(say("last") + close(1001) + say("never"))
        assert await channel.receive() == "last"
        for _ in range(2):
            with pytest.raises(ChannelClosedError) as closed:
                await channel.receive()
            assert closed.value.code == 1001
        assert await far.receive_some() == close_frame(1001)
        with pytest.raises(ChannelClosedError):
            await channel.send("more")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x05hello", 1002),
        (frame(0x81, b"\xff"), 1007),
        (b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big") + bytes(4), 1009),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_told_the_code(sent: bytes, code: int) -> None:
    async with connected() as (channel, far):
        await far.send_all(say("fine") + sent)
        assert await channel.receive() == "fine"
        with pytest.raises(ChannelClosedError) as closed:
            await channel.receive()
        assert closed.value.code == code
        assert (await far.receive_some())[2:4] == code.to_bytes(2, "big")


async def test_a_peer_that_vanishes_closes_the_channel_without_a_farewell() -> None:
    async with connected() as (channel, far):
        await far.aclose()
        with pytest.raises(ChannelClosedError) as closed:
            await channel.receive()
        assert closed.value.code == 1006
        with pytest.raises(ChannelClosedError):
            await channel.send("anybody?")


@pytest.mark.parametrize("receiving", [True, False])
async def test_a_farewell_waits_for_the_peers_and_drops_what_comes_before_it(
    receiving: bool,
) -> None:
    async with connected(close_s_max=4.0) as (channel, far), trio.open_nursery() as nursery:
        if receiving:

            async def receive() -> None:
                with pytest.raises(ChannelClosedError):
                    await channel.receive()

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
        nursery.start_soon(channel.aclose, 1008, "why")
        assert await far.receive_some() == close_frame(1008, "why")
        await far.send_all(say("dropped") + frame(0x89, b"p") + close(1008))
        nursery.start_soon(channel.aclose, 1000, "again")
    with pytest.raises(ChannelClosedError) as closed:
        await channel.receive()
    assert closed.value.code == 1008


async def test_a_farewell_does_not_wait_for_ever() -> None:
    async with connected() as (channel, _):
        await channel.aclose(1001, "")
        with pytest.raises(ChannelClosedError):
            await channel.receive()


async def test_frames_leave_whole_and_in_order_while_the_peer_reads_slowly() -> None:
    async with connected() as (channel, far), trio.open_nursery() as nursery:
        long = "x" * 300_000

        async def send() -> None:
            await channel.send(long)
            await channel.send("behind")

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await far.send_all(frame(0x89, b"p") + say("hello"))
        nursery.start_soon(channel.receive)
        await wait_all_tasks_blocked()
        # The pong and the second message wait until the first is gone.
        got = bytearray()
        wanted = [text_frame(long), b"\x8a\x01p", text_frame("behind")]
        while len(got) < sum(map(len, wanted)):
            got += await far.receive_some(10_000)
        assert got.startswith(wanted[0])
        rest = bytes(got[len(wanted[0]) :])
        assert rest in (wanted[1] + wanted[2], wanted[2] + wanted[1])


async def test_what_is_sent_without_waiting_leaves_whole_before_what_comes_next() -> None:
    async with connected() as (channel, far), trio.open_nursery() as nursery:
        assert channel.send_nowait("short")
        long = "x" * 300_000
        assert not channel.send_nowait(long)
        assert not channel.send_nowait("behind")
        await far.send_all(frame(0x89, b"p") + say("hello"))
        nursery.start_soon(channel.receive)
        await wait_all_tasks_blocked()
        nursery.start_soon(channel.flush)
        wanted = [text_frame("short"), text_frame(long), text_frame("behind"), b"\x8a\x01p"]
        got = bytearray()
        while len(got) < sum(map(len, wanted)):
            got += await far.receive_some(10_000)
        assert bytes(got) == b"".join(wanted)
        assert channel.send_nowait("more")


async def test_after_the_farewell_or_without_a_peer_nothing_is_taken() -> None:
    async with connected() as (channel, far):
        await far.aclose()
        with pytest.raises(ChannelClosedError):
            channel.send_nowait("anybody?")
    async with connected() as (channel, far):
        await channel.aclose(1001, "")
        with pytest.raises(ChannelClosedError):
            channel.send_nowait("too late")


async def test_words_right_behind_the_handshake_are_heard_and_answered(tmp_path: Path) -> None:
    hello = '{"op":"hello","workerId":"w","capacity":0}'
    submit = '{"op":"submit","ref":%d,"jobs":[{"jobType":"t"}]}'
    async with open_door(tmp_path) as door:
        async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
            words = say(hello) + b"".join(say(submit % n) for n in range(20))
            await stream.send_all(door.upgrade() + words)
            heard = bytearray()
            with trio.fail_after(5):
                while heard.count(b'"created"') < 20:
                    heard += await stream.receive_some()
            assert heard.count(b'"op":"welcome"') == 1
            await stream.send_all(close(1000))
            with trio.fail_after(5):
                while not heard.endswith(close_frame(1000)):
                    heard += await stream.receive_some()
                assert await stream.receive_some() == b""
        await door.settled()
        assert door.faults == []


class Counted(PlainStream):
    """How many writes there were."""

    __slots__ = ("writes",)

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.writes = 0

    async def send_all(self, data: bytes | memoryview, /) -> None:
        self.writes += 1
        await super().send_all(data)


async def test_the_pings_of_one_read_are_answered_by_one_write() -> None:
    ours, theirs = trio.socket.socketpair()
    async with trio.SocketStream(ours) as near, trio.SocketStream(theirs) as far:
        stream = Counted(near)
        channel = SocketChannel(stream, b"", message_bytes_max=LIMIT, close_s_max=0.2)
        await far.send_all(frame(0x89, b"p") * 100 + say("a") + frame(0x89, b"q") + say("b"))
        with trio.fail_after(5):
            assert [await channel.receive() for _ in range(2)] == ["a", "b"]
            assert await far.receive_some() == b"\x8a\x01p" * 100 + b"\x8a\x01q"
        assert stream.writes == 1


async def test_headers_that_mean_one_thing_are_refused_when_given_twice(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for repeated in (f"Authorization: Bearer {door.token()}", "X-Stella-Tenant: demo"):
            asked = door.upgrade(X_Stella_Tenant="demo")[:-2] + f"{repeated}\r\n\r\n".encode()
            said = await door.raw(asked)
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b"is given twice" in said
