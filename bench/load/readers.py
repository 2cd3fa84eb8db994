"""Readers of a tenant's live events: many connections in one process, each checked for gaps and
repeats, with the time that each event took from its ledger entry to here.

A reader looks at no more of an event than its seq and its instant; on two cores every microsecond
here is taken from the engine.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs
import trio

from bench.harness.report import percentile
from bench.load.frames import open_frames
from bench.load.talk import Orders, Say, tell_count

__all__ = ["run"]

_PATH: Final = "/api/v1/jobengine/stream/events"
_SUBPROTOCOL: Final = "jobengine.stream.v1"
_DIALLING_MAX: Final = 32
_RECEIVE_BYTES: Final = 262_144
_ID: Final = b"id: "
_EVENT: Final = b"\nevent: "
_INSTANT: Final = re.compile(rb'"occurredAt":"([^"]+)"')


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: none of its own. The count told is that of events, over all readers.

    Orders: `open` {readers, via, stalled?, filter?}, answered when all of them are connected; one
    that is stalled reads nothing after its connection. `mark`, answered at once: what is told
    afterwards begins here. `await` {events}, answered when each reader that reads has got so many
    since the mark. `tell`, answered with what came since the mark.
    """
    crowd = _Crowd(plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: crowd.events, say)
        say(ready=True)
        async for order in orders:
            match order["do"]:
                case "open":
                    await crowd.open_all(nursery, order)
                case "mark":
                    crowd.mark()
                case "await":
                    await crowd.wait(order["events"])
                case other:
                    assert other == "tell", other
            say(done=order["do"], **crowd.told())


@attrs.define(eq=False)
class _Reader:
    """`last` is the seq up to which it has everything."""

    last: int | None = None
    events: int = 0
    gaps: int = 0
    repeats: int = 0

    def took(self, first: int, last: int) -> None:
        """All events from first to last have come, in one piece."""
        if self.last is not None and first != self.last + 1:
            self.gaps += max(0, first - self.last - 1)
            self.repeats += max(0, self.last + 1 - first)
        self.last = last
        self.events += last - first + 1


@attrs.define(eq=False)
class _Crowd:
    plan: dict[str, Any]
    readers: list[_Reader] = attrs.field(factory=list)
    events: int = 0
    _waits_s: list[float] = attrs.field(factory=list)
    _marked_at: float = attrs.field(factory=time.monotonic)
    _moved: trio.Event = attrs.field(factory=trio.Event)
    _dialling: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_DIALLING_MAX)
    )

    async def open_all(self, nursery: trio.Nursery, order: dict[str, Any]) -> None:
        async with trio.open_nursery() as dialling:
            for _ in range(order["readers"]):
                dialling.start_soon(self._open, nursery, order)

    def mark(self) -> None:
        self._waits_s.clear()
        self._marked_at = time.monotonic()
        for reader in self.readers:
            reader.events = reader.gaps = reader.repeats = 0

    async def wait(self, events: int) -> None:
        while any(reader.events < events for reader in self.readers):
            self._moved = trio.Event()
            await self._moved.wait()

    def told(self) -> dict[str, Any]:
        waits_ms = [1_000 * wait_s for wait_s in self._waits_s]
        return {
            "readers": len(self.readers),
            "events": sum(reader.events for reader in self.readers),
            "gaps": sum(reader.gaps for reader in self.readers),
            "repeats": sum(reader.repeats for reader in self.readers),
            "seconds": time.monotonic() - self._marked_at,
            "p50_ms": percentile(waits_ms, 0.5) if waits_ms else 0.0,
            "p99_ms": percentile(waits_ms, 0.99) if waits_ms else 0.0,
            "max_ms": max(waits_ms, default=0.0),
        }

    async def _open(self, nursery: trio.Nursery, order: dict[str, Any]) -> None:
        async with self._dialling:
            await nursery.start(self._stay, order)

    async def _stay(self, order: dict[str, Any], task_status: trio.TaskStatus[None]) -> None:
        reader = _Reader()
        async with _pieces(self.plan, order["via"], order.get("filter", "")) as pieces:
            if order.get("stalled"):
                task_status.started()
                await trio.sleep_forever()
            self.readers.append(reader)
            task_status.started()
            async for first, last, instant in pieces:
                self._came(reader, first, last, instant, whole=not order.get("filter"))

    def _came(self, reader: _Reader, first: int, last: int, instant: bytes, *, whole: bool) -> None:
        self._waits_s.append(time.time() - datetime.fromisoformat(instant.decode()).timestamp())
        before = reader.events
        if whole:
            reader.took(first, last)
        else:
            reader.events += 1
        self.events += reader.events - before
        self._moved.set()


_Pieces = AsyncIterator[tuple[int, int, bytes]]
"""First and last seq of what came in one piece, and the instant of its oldest event."""


@asynccontextmanager
async def _pieces(
    plan: dict[str, Any], via: Literal["sse", "websocket"], query: str
) -> AsyncIterator[_Pieces]:
    path = _PATH + (f"?{query}" if query else "")
    headers = [
        (b"Authorization", f"Bearer {plan['token']}".encode()),
        (b"X-Stella-Tenant", plan["tenant"].encode()),
    ]
    parts = urlsplit(plan["http_url"])
    if via == "websocket":
        url = parts._replace(scheme="ws", path=_PATH, query=query).geturl()
        async with open_frames(url, _SUBPROTOCOL, headers) as socket:
            await socket.receive()
            yield _of_messages(socket.receive)
        return
    request = [(b"Host", parts.netloc.encode()), (b"Accept", b"text/event-stream"), *headers]
    head = b"".join(b"%s: %s\r\n" % header for header in request)
    async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as stream:
        await stream.send_all(b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), head))
        greeted = await _greeting(stream)
        yield _of_chunks(stream, greeted)


async def _greeting(stream: trio.SocketStream) -> bytes:
    """Read to the end of the head and of the first comment; what lies behind them."""
    data = b""
    while data.count(b"\n\n") + data.count(b"\r\n\r\n") < 2:
        more = await stream.receive_some(_RECEIVE_BYTES)
        if not more:
            raise RuntimeError(f"the engine hung up: {data[:500]!r}")
        data += more
        if not data.startswith(b"HTTP/1.1 200"[: len(data)]):
            raise RuntimeError(f"the stream was refused: {data[:500]!r}")
    return data.split(b"\r\n\r\n", 1)[1].split(b"\n\n", 1)[1]


async def _of_chunks(stream: trio.SocketStream, rest: bytes) -> _Pieces:
    while True:
        whole, end, rest = rest.rpartition(b"\n\n")
        for piece in _seqs(whole + end):
            yield piece
        more = await stream.receive_some(_RECEIVE_BYTES)
        if not more:
            raise RuntimeError("the engine hung up")
        rest += more


def _seqs(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """One piece where the seqs follow each other, else one for each."""
    frames = [frame for frame in data.split(b"\n\n") if _EVENT in frame]
    if not frames:
        return
    seqs = [int(frame[len(_ID) : frame.index(b"\n")]) for frame in frames]
    instant = _INSTANT.search(frames[0])
    assert instant is not None, frames[0][:500]
    if seqs == list(range(seqs[0], seqs[-1] + 1)):
        yield seqs[0], seqs[-1], instant[1]
    else:
        for seq in seqs:
            yield seq, seq, instant[1]


async def _of_messages(receive: Any) -> _Pieces:
    while True:
        text = await receive()
        if not text.startswith('{"type":"events"'):
            continue
        said = json.loads(text)
        events = said["events"]
        if events:
            yield events[0]["seq"], events[-1]["seq"], events[0]["occurredAt"].encode()
