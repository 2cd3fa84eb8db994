"""The WebSocket client of the load: it speaks with the engine's own side of the door."""

import pytest
import trio

from bench.load.frames import DisconnectedError, FrameClient, open_frames
from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.http.byte_stream import PlainStream
from jobengine.http.worker_socket import SocketChannel
from jobengine.http.worker_upgrade import read_upgrade
from jobengine.wire.websocket_frames import text_frame


class Door:
    """Accepts one connection, answers each message twice, counts them."""

    def __init__(self, status: int = 101) -> None:
        self.status = status
        self.heard: list[str | bytes] = []
        self.closed: ChannelClosedError | None = None
        self.over = trio.Event()

    async def serve(self, transport: trio.SocketStream) -> None:
        stream = PlainStream(transport)
        upgrade = await read_upgrade(stream)
        if self.status != 101:
            await upgrade.reject(self.status, {}, b"no")
            return
        await upgrade.accept("v1")
        channel = SocketChannel(stream, upgrade.behind, message_bytes_max=1 << 20, close_s_max=1.0)
        try:
            while True:
                frame = await channel.receive()
                self.heard.append(frame)
                for _ in range(2):
                    await channel.send(str(frame))
        except ChannelClosedError as closed:
            self.closed = closed
            self.over.set()


async def opened(nursery: trio.Nursery, door: Door) -> str:
    listeners = await nursery.start(trio.serve_tcp, door.serve, 0)
    port = listeners[0].socket.getsockname()[1]
    return f"ws://127.0.0.1:{port}/worker"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
async def test_messages_of_every_length_come_whole_in_both_directions(size: int) -> None:
    door = Door()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await opened(nursery, door)
            async with open_frames(url, "v1", []) as client:
                await client.send("é" * (size // 2) + "x" * (size % 2))
                assert await client.receive() == await client.receive() == door.heard[0]
            await door.over.wait()
            assert door.closed is not None
            assert door.closed.code == 1000
            nursery.cancel_scope.cancel()


async def test_frames_that_were_collected_leave_in_their_order() -> None:
    door = Door()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await opened(nursery, door)
            async with open_frames(url, "v1", []) as client:
                for number in range(50):
                    client.send_nowait(f"m{number}")
                assert door.heard == []
                await client.flush()
                for number in range(50):
                    assert await client.receive() == await client.receive() == f"m{number}"
            nursery.cancel_scope.cancel()


async def test_a_refused_handshake_names_the_status() -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await opened(nursery, Door(status=403))
            with pytest.raises(DisconnectedError, match="403"):
                async with open_frames(url, "v1", []):
                    pass
            nursery.cancel_scope.cancel()


class Piecemeal:
    """A stream that gives one byte at a time and keeps what is sent."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent = b""

    async def receive_some(self, bytes_max: int, /) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self.data = self.data[:1], self.data[1:]
        return piece

    async def send_all(self, data: bytes | memoryview, /) -> None:
        self.sent += data

    def send_nowait(self, data: bytes | memoryview, /) -> int:
        return 0


async def test_a_ping_is_answered_and_a_close_ends_the_connection() -> None:
    stream = Piecemeal(b"\x89\x02hi" + text_frame("one") + b"\x88\x02\x03\xe9")
    client = FrameClient(stream, b"")
    assert await client.receive() == "one"
    assert stream.sent[0] == 0x8A
    with pytest.raises(DisconnectedError, match="1001"):
        await client.receive()


async def test_a_connection_that_ends_within_a_frame_is_an_error() -> None:
    client = FrameClient(Piecemeal(text_frame("one")[:-1]), b"")
    with pytest.raises(DisconnectedError):
        await client.receive()
