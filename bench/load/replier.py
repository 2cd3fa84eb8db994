"""Workers of many tenants in one process, which answer each lease at once: no handler, no SDK.

The SDK gives each worker a thread; a thousand of them would measure the threads.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import attrs
import trio

from bench.load.talk import Orders, Say, tell_count
from bench.load.worker_door import RefusedError, dial, hear
from jobengine.wire.engine_messages import Ack, Lease, Nack
from jobengine.wire.frames import encode_frame
from jobengine.wire.worker_messages import Complete, Credit, Hello

__all__ = ["run"]


@attrs.define(eq=False)
class _Repliers:
    """`completed` counts the completions that were acked, the last of them at `last_at`."""

    plan: dict[str, Any]
    completed: int = 0
    last_at: float = 0.0
    refs: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def stay(
        self, door: dict[str, Any], number: int, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Be one tenant's worker until cancelled; started when there is credit."""
        capacity = self.plan["capacity"]
        hello = Hello(
            worker_id=f"bench-replier-{number}",
            capacity=capacity,
            job_types=[self.plan["job_type"]],
            auto_credit=True,
        )
        async with dial(self.plan | door, hello) as socket:
            await socket.send(encode_frame([Credit(slots=capacity)]))
            task_status.started()
            while True:
                replies = []
                for message in await hear(socket):
                    if isinstance(message, Lease):
                        reply = Complete(
                            ref=next(self.refs), lease_id=message.lease_id, token=message.token
                        )
                        replies.append(reply)
                    elif isinstance(message, Ack):
                        self.completed += 1
                        self.last_at = time.monotonic()
                    elif isinstance(message, Nack):
                        raise RefusedError(repr(message))
                if replies:
                    await socket.send(encode_frame(replies))


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: job_type, capacity (of each), tenants ({tenant, token} of each). The count told is that
    of acked completions. Order: `drain`, answered with the time of the last of them."""
    repliers = _Repliers(plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: repliers.completed, say)
        for number, door in enumerate(plan["tenants"]):
            await nursery.start(repliers.stay, door, number)
        say(ready=True)
        async for _ in orders:
            say(ended_at=repliers.last_at)
