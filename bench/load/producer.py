"""Submits jobs over WebSocket connections, in batches, several of them in flight on each.

I1  A batch counts as done when its ack has come, which is after its commit.
I2  With `keys` each batch carries an idempotency key, and is sent again after a broken connection
    or a refusal for a database that is away, until it is acked: nothing is lost and nothing is
    submitted twice. Without, either ends the process.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from bench.load.frames import DisconnectedError, FrameClient
from bench.load.jobs import job_texts
from bench.load.talk import Orders, Say, tell_count
from bench.load.worker_door import RefusedError, dial, hear
from jobengine.wire.engine_messages import Ack, EngineMessage, Nack
from jobengine.wire.frames import encode_frame
from jobengine.wire.worker_messages import Hello, Submit

__all__ = ["run"]

_REDIAL_S: Final = 0.05
_AGAIN_S: Final = 0.05


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: connections?, redial?, tenants?. Orders: `submit` {jobs (None: until `stop`), batch,
    in_flight, job_type, payload_bytes, rate?, keys?, record?, source_id?, retry_s?}, answered when
    the last ack has come; `stop`, not answered. `rate` is in jobs/s, over all connections. With
    `record` each job is told as [id, sent, acked], nanoseconds UTC.

    `tenants` holds {tenant, token} for each of several, who have a connection each, send in turns
    and share `in_flight`, which else is for each connection.
    """
    producer = _Producer(plan)
    doors = [plan | each for each in plan.get("tenants", ())]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: producer.acked, say)
        for number, door in enumerate(doors or [plan] * plan.get("connections", 1)):
            link = _Link(door, number, producer)
            producer.links.append(link)
            await nursery.start(link.run)
        say(ready=True)
        async for order in orders:
            if order["do"] == "stop":
                producer.stopping = True
            else:
                nursery.start_soon(producer.submit, order, say)


@attrs.define
class _Batch:
    frame: str
    jobs: int
    sent_ns: int = 0
    slots: trio.Semaphore | None = None
    """Gets one back when the ack has come."""


@attrs.define(eq=False)
class _Producer:
    plan: dict[str, Any]
    links: list["_Link"] = attrs.field(factory=list)
    acked: int = 0
    stopping: bool = False
    record: list[tuple[str, int, int]] | None = None
    _refs: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def submit(self, order: dict[str, Any], say: Say) -> None:
        self.stopping = False
        self.record = [] if order.get("record") else None
        before, began_at = self.acked, time.monotonic()
        batches = self._batches(order, began_at)
        together = [self.links] if self.plan.get("tenants") else [[link] for link in self.links]
        async with trio.open_nursery() as nursery:
            for links in together:
                nursery.start_soon(_submit_over, links, batches, order["in_flight"])
        say(
            jobs=self.acked - before,
            began_at=began_at,
            ended_at=time.monotonic(),
            record=self.record,
        )

    def _batches(
        self, order: dict[str, Any], began_at: float
    ) -> Iterator[tuple[float, int, _Batch]]:
        """When to send, reference, batch; shared by all connections."""
        texts = job_texts(
            order["job_type"],
            order["payload_bytes"],
            time.time_ns(),
            order.get("source_id"),
            order.get("retry_s"),
        )
        every_s = order["batch"] / order["rate"] if order.get("rate") else 0.0
        left = order["jobs"]
        for number in itertools.count():
            if self.stopping or left == 0:
                return
            jobs = order["batch"] if left is None else min(order["batch"], left)
            left = None if left is None else left - jobs
            ref = next(self._refs)
            submit = Submit(
                ref=ref,
                jobs=[msgspec.Raw(text.encode()) for text in itertools.islice(texts, jobs)],
                idempotency_key=f"bench-{time.time_ns()}-{ref}" if order.get("keys") else None,
            )
            yield began_at + number * every_s, ref, _Batch(encode_frame([submit]), jobs)


async def _submit_over(
    links: Sequence["_Link"], batches: Iterator[tuple[float, int, _Batch]], in_flight: int
) -> None:
    """Send what `batches` gives over connections in turn, at most `in_flight` of them without an
    ack; returns when the last ack has come."""
    slots = trio.Semaphore(in_flight)
    unflushed: dict[_Link, None] = {}

    async def flush() -> None:
        while unflushed:
            await unflushed.popitem()[0].flush()

    for (at, ref, batch), link in zip(batches, itertools.cycle(links), strict=False):
        if (early_s := at - time.monotonic()) > 0:
            await flush()
            await trio.sleep(early_s)
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            await flush()
            await slots.acquire()
        batch.slots = slots
        link.submit(ref, batch)
        unflushed[link] = None
    await flush()
    for _ in range(in_flight):
        await slots.acquire()


class _Link:
    """One connection, dialled again when it breaks and the batches may be sent again."""

    def __init__(self, plan: dict[str, Any], number: int, producer: _Producer) -> None:
        self._plan = plan
        self._hello = Hello(worker_id=f"bench-producer-{number}", capacity=0)
        self._producer = producer
        self._pending: dict[int, _Batch] = {}
        self._socket: FrameClient | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        while True:
            try:
                async with dial(self._plan, self._hello) as socket, trio.open_nursery() as nursery:
                    self._socket = socket
                    nursery.start_soon(self._send_again)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    while True:
                        for message in await hear(socket):
                            self._heard(message, nursery)
            except* (DisconnectedError, OSError) as group:
                if not self._plan.get("redial"):
                    raise RefusedError("the connection broke") from group
            self._socket = None
            await trio.sleep(_REDIAL_S)

    def submit(self, ref: int, batch: _Batch) -> None:
        """Leaves with the next `flush`."""
        self._pending[ref] = batch
        batch.sent_ns = time.time_ns()
        self._send(batch)

    def _send(self, batch: _Batch) -> None:
        if self._socket is not None:
            self._socket.send_nowait(batch.frame)

    async def flush(self) -> None:
        if self._socket is not None:
            try:
                await self._socket.flush()
            except DisconnectedError:
                self._socket = None

    async def _send_again(self) -> None:
        for batch in self._pending.values():
            self._send(batch)
        await self.flush()

    def _heard(self, message: EngineMessage, nursery: trio.Nursery) -> None:
        if isinstance(message, Ack) and isinstance(message.ref, int):
            self._acked(message, time.time_ns())
        elif isinstance(message, Nack) and isinstance(message.ref, int):
            if not self._plan.get("redial"):
                raise RefusedError(repr(message))
            if (batch := self._pending.get(message.ref)) is not None:
                nursery.start_soon(self._send_later, batch)

    async def _send_later(self, batch: _Batch) -> None:
        await trio.sleep(_AGAIN_S)
        self._send(batch)
        await self.flush()

    def _acked(self, ack: Ack, now_ns: int) -> None:
        assert isinstance(ack.ref, int)
        batch = self._pending.pop(ack.ref, None)
        if batch is None:
            return
        if any(item.outcome == "rejected" for item in ack.jobs) or len(ack.jobs) != batch.jobs:
            raise RefusedError(f"{len(ack.jobs)} outcomes, of them rejected: {ack.jobs[:1]}")
        producer = self._producer
        producer.acked += batch.jobs
        if producer.record is not None:
            producer.record += [(item.job_id or "", batch.sent_ns, now_ns) for item in ack.jobs]
        assert batch.slots is not None, "what is pending was sent"
        batch.slots.release()
