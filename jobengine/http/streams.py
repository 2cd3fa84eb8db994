"""Server-sent events (WHATWG HTML §9.2) of a tenant's ledger.

I1  `id` is the ledger's `seq`. What a reader gets is every event after its cursor that matches, in
    order, once; what it can no longer get (retention) is named by one `gap` event.
I2  A stream ends by itself: when its token expires or is revoked, which a last `end` event says;
    when the engine stops, or when the engine cannot serve it any more. The client comes back with
    the last id it saw.
I3  When a stream is left, nothing that it started is left over.
I4  The first signal of a run is sent when the stream begins and whenever it has become another one.
    It has no id, since it is no entry of the ledger; nor has what else is sent beside the events.

Not here: the ring, the ledger (`actors/gateway.py`), what an event looks like (`domain/event.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import attrs
import msgspec
import structlog
import trio

from jobengine.actors.gateway import Gateway
from jobengine.actors.runtime.address import ActorStoppedError
from jobengine.actors.runtime.mailbox import MailboxClosedError
from jobengine.domain.errors import ErrorCode
from jobengine.domain.event import Event
from jobengine.store.errors import StoreError
from jobengine.wire.runs import FirstSignalView

__all__ = [
    "EVENT_STREAM",
    "EventFilter",
    "EventStream",
    "ReadSignal",
    "SendBeside",
    "beside_frame",
    "newest_seq",
]

EVENT_STREAM: Final = "text/event-stream"

_HEARTBEAT: Final = b": still here\n\n"
_CHUNK_BYTES: Final = 64 * 1024
_HELLO: Final = b": following\n\n"
_FAILURES: Final = (StoreError, MailboxClosedError, ActorStoppedError)

_SIGNAL_PAUSE_S: Final = 0.5
_SIGNAL_SHARE: Final = 10

ReadSignal = Callable[[float], Awaitable[FirstSignalView | None]]
"""The first signal as it was no earlier than this instant (monotonic seconds)."""

SendBeside = Callable[[trio.MemorySendChannel[bytes]], Awaitable[None]]
"""Sends frames of its own beside the events, until it is cancelled."""

_log = structlog.get_logger("jobengine.http")


@attrs.frozen(kw_only=True)
class EventFilter:
    """An event must meet all that are given. `types` may end in `*` (`job.*`)."""

    types: frozenset[str] = frozenset()
    type_prefixes: tuple[str, ...] = ()
    job_id: str | None = None
    job_type: str | None = None
    run_id: str | None = None
    source_id: str | None = None

    @classmethod
    def of(
        cls,
        types: Sequence[str],
        job_type: str | None,
        run_id: str | None,
        source_id: str | None,
    ) -> "EventFilter":
        return cls(
            types=frozenset(name for name in types if name and not name.endswith("*")),
            type_prefixes=tuple(name[:-1] for name in types if name.endswith("*")),
            job_type=job_type,
            run_id=run_id,
            source_id=source_id,
        )

    def matches(self, event: Event) -> bool:
        return (
            (self.job_id is None or event.job_id == self.job_id)
            and (self.job_type is None or event.job_type == self.job_type)
            and (self.run_id is None or event.run_id == self.run_id)
            and (self.source_id is None or event.source_id == self.source_id)
            and self._matches_type(event.event_type)
        )

    def _matches_type(self, event_type: str) -> bool:
        if not self.types and not self.type_prefixes:
            return True
        return event_type in self.types or event_type.startswith(self.type_prefixes)


async def newest_seq(gateway: Gateway, tenant_id: str) -> int:
    """The tenant's last committed seq, 0 before the first: "now", as a cursor.

    Every commit that has been answered is at or below it (port, I3), so a client that opens a
    stream and then submits sees all that follows from its submit.
    """
    heads = await gateway.store.heads([tenant_id])
    head = heads.get(tenant_id)
    return 0 if head is None else head.next_seq - 1


@attrs.frozen(kw_only=True)
class EventStream:
    """One reader. `bearer_ended` returns, with the reason, when its token counts no more.
    `signal` reads the first signal of the run that is followed. `names` has the names under which
    events of some types are sent, where those differ."""

    gateway: Gateway
    tenant_id: str
    after_seq: int
    wanted: EventFilter
    heartbeat_s: float
    stopping: trio.Event
    bearer_ended: Callable[[], Awaitable[str]] = trio.sleep_forever
    signal: ReadSignal | None = None
    beside: SendBeside | None = None
    names: Mapping[str, str] = attrs.field(factory=dict)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run the stream; gives its chunks, each of them whole events or a comment."""
        # No buffer: a reader that does not read keeps its cursor, and the ledger waits for it.
        sender, receiver = trio.open_memory_channel[bytes](0)
        async with trio.open_nursery() as nursery:
            chunks = _Chunks(receiver, self.heartbeat_s)
            signals = None if self.signal is None else _Signals(self.signal)
            signal = None if signals is None else signals.send_to
            for send in (signal, self.beside):
                if send is not None:
                    nursery.start_soon(self._pump_beside, send, sender, chunks)
            nursery.start_soon(self._pump, sender, signals)
            nursery.start_soon(self._end_when_stopping, chunks)
            nursery.start_soon(self._end_with_bearer, chunks)
            yield chunks
            nursery.cancel_scope.cancel()

    async def _end_when_stopping(self, chunks: "_Chunks") -> None:
        await self.stopping.wait()
        chunks.end()

    async def _end_with_bearer(self, chunks: "_Chunks") -> None:
        why = await self.bearer_ended()
        chunks.end(_end(ErrorCode.TOKEN_INVALID, why))

    async def _pump_beside(
        self, send: SendBeside, sender: trio.MemorySendChannel[bytes], chunks: "_Chunks"
    ) -> None:
        try:
            await send(sender)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except _FAILURES as error:
            _log.warning("stream_ended", tenant=self.tenant_id, error=type(error).__name__)
            chunks.end()

    async def _pump(
        self, sender: trio.MemorySendChannel[bytes], signals: "_Signals | None"
    ) -> None:
        with sender:
            try:
                await self._send_events(sender, signals)
            except trio.BrokenResourceError:
                return
            except _FAILURES as error:
                _log.warning("stream_ended", tenant=self.tenant_id, error=type(error).__name__)

    async def _send_events(
        self, sender: trio.MemorySendChannel[bytes], signals: "_Signals | None"
    ) -> None:
        last = self.after_seq
        async with aclosing(self.gateway.events(self.tenant_id, last)) as batches:
            async for batch in batches:
                chunk = bytearray()
                for event in batch:
                    if event.seq > last + 1:
                        chunk += _gap(last + 1, event.seq - 1)
                    last = event.seq
                    if self.wanted.matches(event):
                        chunk += _frame(event, self.names.get(event.event_type))
                        if signals is not None:
                            signals.moved()
                    if len(chunk) >= _CHUNK_BYTES:
                        await sender.send(bytes(chunk))
                        chunk.clear()
                if chunk:
                    await sender.send(bytes(chunk))


class _Signals:
    """The first signal of a run as it changes. It is read again when an event of the run has gone
    by, and for a tenth of the time at most, for a large run takes long to read."""

    def __init__(self, read: ReadSignal) -> None:
        self._read = read
        self._since_s = trio.current_time()
        self._moved = trio.Event()

    def moved(self) -> None:
        self._since_s = trio.current_time()
        self._moved.set()

    async def send_to(self, sender: trio.MemorySendChannel[bytes]) -> None:
        tag = ""
        while True:
            self._moved, began_s = trio.Event(), trio.current_time()
            view = await self._read(self._since_s)
            if view is not None and view.summary_etag != tag:
                tag = view.summary_etag
                await sender.send(beside_frame("first_signal", view))
            took_s = trio.current_time() - began_s
            await trio.sleep(max(_SIGNAL_PAUSE_S, _SIGNAL_SHARE * took_s))
            await self._moved.wait()


class _Chunks:
    """What is sent: a greeting, so that the client knows it is connected, then the events, a
    comment whenever there was none for a while, and a last word if there is one."""

    def __init__(self, receiver: trio.MemoryReceiveChannel[bytes], heartbeat_s: float) -> None:
        self._receiver = receiver
        self._heartbeat_s = heartbeat_s
        self._greeted = False
        self._last_word = b""

    def end(self, last_word: bytes = b"") -> None:
        """Nothing of the ledger is sent any more, from now on."""
        self._last_word = last_word
        self._receiver.close()

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        if not self._greeted:
            self._greeted = True
            return _HELLO
        with trio.move_on_after(self._heartbeat_s):
            try:
                return await self._receiver.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                last_word, self._last_word = self._last_word, b""
                if last_word:
                    return last_word
                raise StopAsyncIteration from None
        return _HEARTBEAT


def _frame(event: Event, name: str | None) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        (name or event.event_type).encode(),
        event.body,
    )


def beside_frame(name: str, data: Any) -> bytes:
    """A frame without an id (I4)."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _gap(first: int, last: int) -> bytes:
    return b"id: %d\nevent: gap\ndata: %s\n\n" % (
        last,
        msgspec.json.encode({"from": first, "to": last}),
    )


def _end(code: ErrorCode, message: str) -> bytes:
    """Without an id: a client that comes back goes on after the last event."""
    return b"event: end\ndata: %s\n\n" % msgspec.json.encode({"code": code, "message": message})
