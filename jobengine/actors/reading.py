"""Reading a tenant's events batch by batch, for consumers that wait for what they do with each.

I1  At most two batches wait for the reader; while they do, it costs its cursor and nothing else.

Not here: sinks that are pushed to (`following`).
"""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import trio

from jobengine.actors.broadcaster import Streams
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EventFilter

__all__ = ["read_events"]

_BATCHES_MAX: Final = 2


async def read_events(
    streams: Streams, tenant_id: str, after_seq: int, wanted: EventFilter
) -> AsyncGenerator[Batch, None]:
    """What comes after a cursor, for ever; waits as long as the database is away."""
    waiting = _Waiting()
    subscription = streams.follow_within(tenant_id, after_seq, waiting, wanted)
    try:
        while True:
            batch = await waiting.next()
            subscription.roomy()
            yield batch
    finally:
        subscription.leave()


class _Waiting:
    """A `Sink`."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._arrived = trio.Event()

    def take(self, batch: Batch) -> bool:
        self._batches.append(batch)
        self._arrived.set()
        return len(self._batches) < _BATCHES_MAX

    def logged(self) -> None:
        """It asks for no log lines."""

    async def next(self) -> Batch:
        while not self._batches:
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint()
        return self._batches.popleft()
