"""Many connected workers that do nothing: hello, credit, heartbeats when told. A lease that comes
is kept, and named when its worker comes back. A connection that is lost ends the process."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import trio

from bench.load.frames import DisconnectedError, FrameClient
from bench.load.talk import Orders, Say, tell_count
from bench.load.worker_door import dial, hear
from jobengine.wire.engine_messages import Lease, Welcome
from jobengine.wire.frames import encode_frame
from jobengine.wire.worker_messages import Credit, Heartbeat, Hello, LeaseRef

__all__ = ["run"]

_DIALLING_MAX: Final = 32
_SLOTS: Final = 10
_LOOPBACK: Final = "ws://127."
_PER_ADDRESS: Final = 20_000
"""Connections to one port that an address of ours has ports for, with some to spare."""
_TOO_MANY_REQUESTS: Final = 429
_AGAIN_S: Final = 0.2
_HEARTBEAT: Final = encode_frame([Heartbeat(ref=1)])


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: workers, job_type, slots?. The count told is that of leases which came. Orders:
    `connect`, answered when all are welcomed; `beat` {every_s (None: no more)}, one of every worker
    at once, which is answered, and then evenly spread over the workers; `return`, which cuts all
    connections at once without a word and is answered when all workers are welcomed again, with how
    many leases they `resumed` and `lost`."""
    idlers = _Idlers(plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: idlers.leases, say)
        say(ready=True)
        beating = trio.CancelScope()
        async for order in orders:
            match order["do"]:
                case "connect":
                    await idlers.connect_all(nursery)
                case "return":
                    beating.cancel()
                    idlers.cut()
                    await idlers.connect_all(nursery)
                case other:
                    assert other == "beat", other
                    beating.cancel()
                    beating = trio.CancelScope()
                    await _beat_once(idlers.sockets)
                    if order["every_s"] is not None:
                        nursery.start_soon(_beat, idlers.sockets, order["every_s"], beating)
            say(done=order["do"], resumed=idlers.resumed, lost=idlers.lost)


class _Idlers:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.leases = 0
        self.resumed = 0
        self.lost = 0
        self.sockets: list[FrameClient] = []
        self._plan = plan
        self._slots = plan.get("slots", _SLOTS)
        self._held: dict[int, list[LeaseRef]] = {}
        self._dialling = trio.CapacityLimiter(_DIALLING_MAX)
        self._connected = trio.CancelScope()

    def cut(self) -> None:
        """Drop every connection, as a network would."""
        self._connected.cancel()
        self._connected = trio.CancelScope()
        self.sockets = []
        self.resumed = self.lost = 0

    async def connect_all(self, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as dialling:
            life = await nursery.start(self._live, self._connected)
            for number in range(self._plan["workers"]):
                dialling.start_soon(self._connect, life, number)

    async def _live(
        self, connected: trio.CancelScope, task_status: trio.TaskStatus[trio.Nursery]
    ) -> None:
        """What the connections run in, until they are cut."""
        with connected:
            async with trio.open_nursery() as life:
                task_status.started(life)
                await trio.sleep_forever()

    async def _connect(self, life: trio.Nursery, number: int) -> None:
        """Also a fleet is let in only so many at a time: who is not tries again."""
        while True:
            try:
                async with self._dialling:
                    await life.start(self._stay, number)
                return
            except DisconnectedError as error:
                if error.http_status != _TOO_MANY_REQUESTS:
                    raise
            await trio.sleep(_AGAIN_S)

    async def _stay(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        """Be an idle worker until cancelled; started when there is credit."""
        held = self._held.setdefault(number, [])
        hello = Hello(
            worker_id=f"bench-idle-{number}",
            capacity=self._slots,
            job_types=[self._plan["job_type"]],
            resume=held,
            auto_credit=True,
        )
        async with dial(
            self._plan, hello, source=self._source(number), welcomed=self._welcomed
        ) as socket:
            await socket.send(encode_frame([Credit(slots=self._slots - len(held))]))
            self.sockets.append(socket)
            task_status.started()
            while True:
                for message in await hear(socket):
                    if isinstance(message, Lease):
                        self.leases += 1
                        held.append(LeaseRef(lease_id=message.lease_id, token=message.token))

    def _welcomed(self, welcome: Welcome) -> None:
        self.resumed += len(welcome.resumed)
        self.lost += len(welcome.lost)

    def _source(self, number: int) -> str | None:
        """An address of this machine with ports left; any, where the engine is on another."""
        if not self._plan["worker_url"].startswith(_LOOPBACK):
            return None
        return f"127.0.0.{1 + number // _PER_ADDRESS}"


async def _beat_once(sockets: Sequence[FrameClient]) -> None:
    for socket in sockets:
        # Who receives over a connection that has ended says why it has.
        with suppress(DisconnectedError):
            await socket.send(_HEARTBEAT)


async def _beat(sockets: Sequence[FrameClient], every_s: float, beating: trio.CancelScope) -> None:
    with beating:
        at = trio.current_time()
        while True:
            for socket in sockets:
                at += every_s / len(sockets)
                await trio.sleep_until(at)
                await _beat_once([socket])
