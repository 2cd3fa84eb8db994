"""Many connected workers that nothing is there for: hello, credit, and heartbeats when told."""

from typing import Any, Final

import trio

from bench.load.frames import FrameClient
from bench.load.talk import Orders, Say, tell_count
from bench.load.worker_door import dial, hear
from jobengine.wire.engine_messages import Lease
from jobengine.wire.frames import encode_frame
from jobengine.wire.worker_messages import Credit, Heartbeat, Hello

__all__ = ["run"]

_DIALLING_MAX: Final = 32
_SLOTS: Final = 10


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: workers, job_type. The count told is that of leases which came. Orders: `connect`,
    answered when all are welcomed; `beat` {every_s (None: never)}, evenly spread over the workers,
    answered at once."""
    idlers = _Idlers(plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: idlers.leases, say)
        say(ready=True)
        beating = trio.CancelScope()
        async for order in orders:
            if order["do"] == "connect":
                await idlers.connect_all(nursery)
            else:
                beating.cancel()
                beating = trio.CancelScope()
                if order["every_s"] is not None:
                    nursery.start_soon(_beat, idlers.sockets, order["every_s"], beating)
            say(done=order["do"])


class _Idlers:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.leases = 0
        self.sockets: list[FrameClient] = []
        self._plan = plan
        self._dialling = trio.CapacityLimiter(_DIALLING_MAX)

    async def connect_all(self, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as dialling:
            for number in range(self._plan["workers"]):
                dialling.start_soon(self._connect, nursery, number)

    async def _connect(self, nursery: trio.Nursery, number: int) -> None:
        async with self._dialling:
            await nursery.start(self._stay, number)

    async def _stay(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        """Be an idle worker until cancelled; started when there is credit."""
        hello = Hello(
            worker_id=f"bench-idle-{number}",
            capacity=_SLOTS,
            job_types=[self._plan["job_type"]],
            auto_credit=True,
        )
        async with dial(self._plan, hello) as socket:
            await socket.send(encode_frame([Credit(slots=_SLOTS)]))
            self.sockets.append(socket)
            task_status.started()
            while True:
                self.leases += sum(isinstance(message, Lease) for message in await hear(socket))


async def _beat(sockets: list[FrameClient], every_s: float, beating: trio.CancelScope) -> None:
    frame = encode_frame([Heartbeat(ref=1)])
    with beating:
        at = trio.current_time()
        while True:
            for socket in sockets:
                at += every_s / len(sockets)
                await trio.sleep_until(at)
                await socket.send(frame)
