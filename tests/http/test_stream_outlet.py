"""What a stream sends, over a pair of sockets with small buffers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.http.byte_stream import PlainStream
from jobengine.http.streams.outlet import Outlet


@attrs.define
class Pipe:
    outlet: Outlet
    far: trio.SocketStream
    said: list[str]
    later: list[int]

    async def read(self, size: int) -> bytes:
        data = b""
        with trio.fail_after(5):
            while len(data) < size:
                data += await self.far.receive_some(size - len(data))
        return data


@asynccontextmanager
async def piped(events_max: int = 10, write_s: float = 60.0) -> AsyncIterator[Pipe]:
    ours, theirs = trio.socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4_096)
    said: list[str] = []
    later: list[int] = []
    async with (
        trio.SocketStream(ours) as near,
        trio.SocketStream(theirs) as far,
        trio.open_nursery() as nursery,
    ):
        outlet = Outlet(
            PlainStream(near),
            nursery.start_soon,
            events_max=events_max,
            write_s=write_s,
            on_room=lambda: said.append("room"),
            on_failed=lambda: said.append("failed"),
            on_sent=later.append,
        )
        yield Pipe(outlet, far, said, later)
        nursery.cancel_scope.cancel()


def piece(number: int) -> bytes:
    return b"%06d" % number * 200


async def test_what_the_kernel_takes_needs_no_task() -> None:
    async with piped() as pipe:
        pipe.outlet.put(b"hello", 1)
        assert pipe.outlet.is_idle
        assert await pipe.read(5) == b"hello"
        assert pipe.later == []


async def test_what_it_does_not_take_follows_in_order() -> None:
    async with piped(events_max=1_000) as pipe:
        pieces = [*map(piece, range(200)), b"x" * 100_000, *map(piece, range(200, 220))]
        for data in pieces:
            pipe.outlet.put(data, 1)
        assert not pipe.outlet.is_idle
        everything = b"".join(pieces)
        assert await pipe.read(len(everything)) == everything
        await pipe.outlet.drained()
        assert (pipe.outlet.is_idle, pipe.said) == (True, [])
        assert 0 < sum(pipe.later) < len(everything)


async def test_a_reader_is_full_until_less_than_half_is_kept_and_says_so_once() -> None:
    async with piped() as pipe:
        count = 0
        while not pipe.outlet.is_full:
            pipe.outlet.put(piece(count), 1)
            count += 1
        pipe.outlet.put(piece(count), 1)
        size = len(piece(0)) * (count + 1)
        seen = b""
        while len(seen) < size:
            assert pipe.outlet.is_full == (pipe.said == [])
            seen += await pipe.read(min(600, size - len(seen)))
            await wait_all_tasks_blocked()
        assert seen == b"".join(piece(number) for number in range(count + 1))
        assert pipe.said == ["room"]


async def test_bytes_make_a_reader_full_as_well() -> None:
    async with piped() as pipe:
        pipe.outlet.put(b"x" * (5 << 20), 1)
        assert pipe.outlet.is_full


async def test_a_peer_that_takes_nothing_has_failed(autojump_clock: Any) -> None:
    async with piped(write_s=60.0) as pipe:
        began = trio.current_time()
        pipe.outlet.put(b"x" * 100_000, 1)
        await pipe.outlet.drained()
        assert trio.current_time() - began == 60.0
        assert pipe.said == ["failed"]
        pipe.outlet.put(b"more", 1)
        await wait_all_tasks_blocked()
        assert pipe.outlet.is_idle


async def test_a_peer_that_has_gone_fails_whoever_sends() -> None:
    async with piped() as pipe:
        await pipe.far.aclose()
        pipe.outlet.put(b"x")
        assert pipe.said == ["failed"]
    async with piped() as pipe:
        pipe.outlet.put(b"x" * 100_000, 1)
        await pipe.far.aclose()
        with trio.fail_after(5):
            await pipe.outlet.drained()
        assert pipe.said == ["failed"]
