"""A TCP proxy on loopback that does to its connections what networks do.

Its harm is set by attributes and calls, for all connections: `latency_s` and `bytes_per_s` each
way, `hold` (nothing passes, nothing is lost), `cut`, `swallow` (what is sent one way or both
vanishes, and neither end is told, not even when the other one hangs up), and two ways to be half
open: after `half_open` the far end knows that a connection is gone and the near end does not, after
`lose_near_ends` it is the other way round.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

import attrs
import trio

__all__ = ["CuttingProxy", "open_proxy", "open_socket_proxy"]

_BYTES: Final = 65_536
_CHUNKS_UNDER_WAY_MAX: Final = 64
_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)

Dial = Callable[[], Awaitable[trio.SocketStream]]
Sender = trio.MemorySendChannel[tuple[float, bytes]]
Receiver = trio.MemoryReceiveChannel[tuple[float, bytes]]


@attrs.define(eq=False)
class _Link:
    """A connection that passes here; `deaf` once it is half open: what comes is dropped. What is
    sent to the ends that are `unreached` is dropped as well, and neither hears that the other went.
    """

    near: trio.SocketStream
    far: trio.SocketStream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    deaf: bool = False
    unreached: tuple[trio.SocketStream, ...] = ()


@attrs.define(eq=False)
class CuttingProxy:
    """Forwards to one address. What has been read and not yet written is lost with a cut. `cuts`
    counts connections, `vanished` the pieces of data that `swallow` has kept from an end."""

    dial: Dial
    dice: random.Random
    address: str = ""
    latency_s: float = 0.0
    bytes_per_s: float = inf
    cuts: int = 0
    vanished: int = 0
    _links: list[_Link] = attrs.field(factory=list)
    _flows: trio.Event = attrs.field(factory=trio.Event)

    def cut(self, share: float) -> None:
        """Cut this share of the connections, by chance, those that are half open among them."""
        for link in list(self._links):
            if self.dice.random() < share:
                self.cuts += 1
                link.scope.cancel()

    def half_open(self) -> None:
        """The far ends of all connections go; their near ends hear no more until they are `cut`."""
        for link in self._links:
            link.deaf = True
            link.far.socket.close()

    def lose_near_ends(self) -> None:
        """The near ends of all connections go; their far ends hear no more until they are `cut`."""
        for link in self._links:
            link.unreached = (link.far,)
            link.near.socket.close()

    def swallow(self, *, requests: bool = False, answers: bool = False) -> None:
        """What passes from near to far, or from far to near, vanishes from now on, on the
        connections that are open now, until they are `cut`; others are as they should be."""
        for link in self._links:
            link.unreached = (link.far,) * requests + (link.near,) * answers

    @property
    def open_links(self) -> int:
        """Connections that either end still holds open, or is not known to have left."""
        return len(self._links)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Nothing passes during the block; what was sent arrives after it."""
        self._flows = trio.Event()
        try:
            yield
        finally:
            self._flows.set()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        self._flows.set()
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._forward, [listener])

    async def _forward(self, near: trio.SocketStream) -> None:
        with suppress(*_BROKEN):
            async with near, await self.dial() as far:
                link = _Link(near, far)
                self._links.append(link)
                try:
                    with link.scope:
                        await self._pass_both_ways(link)
                finally:
                    self._links.remove(link)

    async def _pass_both_ways(self, link: _Link) -> None:
        async with trio.open_nursery() as nursery:
            for source, sink in ((link.near, link.far), (link.far, link.near)):
                send, receive = trio.open_memory_channel[tuple[float, bytes]](_CHUNKS_UNDER_WAY_MAX)
                nursery.start_soon(self._take, link, source, send)
                nursery.start_soon(self._deliver, link, receive, sink)

    async def _take(self, link: _Link, source: trio.SocketStream, send: Sender) -> None:
        with suppress(*_BROKEN):
            while data := await source.receive_some(_BYTES):
                await send.send((trio.current_time() + self.latency_s, data))
        if link.unreached or (link.deaf and source is link.far):
            await trio.sleep_forever()
        send.close()

    async def _deliver(self, link: _Link, receive: Receiver, sink: trio.SocketStream) -> None:
        with suppress(*_BROKEN):
            async for due_at, data in receive:
                await trio.sleep_until(due_at)
                await trio.sleep(len(data) / self.bytes_per_s)
                await self._flows.wait()
                if sink in link.unreached:
                    self.vanished += 1
                elif not link.deaf:
                    await sink.send_all(data)
        if link.deaf and sink is link.far:
            await receive.aclose()
        link.scope.cancel()


def open_proxy(host: str, port: int, seed: int) -> AbstractAsyncContextManager[CuttingProxy]:
    """A proxy for a TCP address, for the block."""
    return _opened(partial(trio.open_tcp_stream, host, port), seed)


def open_socket_proxy(path: Path, seed: int) -> AbstractAsyncContextManager[CuttingProxy]:
    """A proxy for a socket in the file system, which may go and come again, for the block."""
    return _opened(partial(_dial_socket, path), seed)


async def _dial_socket(path: Path) -> trio.SocketStream:
    stream: trio.SocketStream = await trio.open_unix_socket(path)
    return stream


@asynccontextmanager
async def _opened(dial: Dial, seed: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(dial, random.Random(seed))
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
