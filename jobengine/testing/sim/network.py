"""The network of a simulated run: the connections of workers, and the requests of users.

A *link* is one connection of a worker: frames of a direction stay in order, as TCP keeps them, and
take their time. It can be slow, be cut, or be *half open*: what is sent is lost and neither side is
told. A *partition* keeps everything that a worker sends or is sent until it is over. A *call* is a
request of a user, a connection of its own: it can be lost before or after it took effect, come
twice, or be overtaken by a later one.

I1  A frame arrives whole, once and behind those sent before it, or not at all; then nothing that
    was sent behind it arrives either.
I2  Whoever sends is told no more than TCP tells: nothing, or that the connection has ended.
I3  A call ends: by its answer, or by `LostError`, which says nothing about its effect.

Not here: what is said (`worker`, `users`), the engine's end of a link (`world`).
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Final, TypeVar

import attrs
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.faults import Faults
from jobengine.testing.sim.virtual_time import set_alarm, sleep

__all__ = ["CALL_S_MAX", "LinkEnd", "LostError", "Network"]

T = TypeVar("T")
CALL_S_MAX: Final = 30.0
"""How long a user waits for an answer."""

_LATENCIES_S: Final = (0.0005, 0.001, 0.005)
_SLOW_S: Final = (0.05, 0.5, 3.0)
_PARTITIONS_S: Final = (1.0, 8.0, 45.0)
_OP: Final = re.compile(r'"op":"(\w+)"')


class LostError(Exception):
    """No answer came. Whether the request took effect is unknown."""


@attrs.define(eq=False)
class _Direction:
    """Frames on their way to one end: when each arrives, and what it is."""

    frames: deque[tuple[float, str | bytes]] = attrs.field(factory=deque)
    last_at: float = 0.0
    swallows: bool = False
    ended: tuple[int, str] | None = None
    receiver: Task | None = None

    def carry(self, at: float, frame: str | bytes) -> None:
        """Have it arrive at `at`."""
        self.last_at = at
        self.frames.append((at, frame))
        set_alarm(at, self.wake)

    def end(self, code: int, reason: str) -> None:
        if self.ended is None:
            self.ended = (code, reason)
            self.wake()

    def wake(self) -> None:
        """There is something for whoever waits."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            reschedule(receiver)

    async def wait(self) -> None:
        """Until there is something; cancelled, nobody waits."""
        self.receiver = current_task()

        def abort(_: object) -> Abort:
            self.receiver = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)


class LinkEnd:
    """One end of a link; a `FrameChannel`."""

    def __init__(
        self, network: "Network", worker_id: str, incoming: _Direction, outgoing: _Direction
    ) -> None:
        self._network = network
        self._worker_id = worker_id
        self._in = incoming
        self._out = outgoing

    @property
    def arrives_at(self) -> float:
        """When what was sent last is at the other end, if it ever is."""
        return self._out.last_at

    async def send(self, text: str | bytes) -> None:
        self.put(text)

    def send_nowait(self, text: str) -> bool:
        self.put(text)
        return True

    async def flush(self) -> None:
        """Nothing waits here."""

    def put(self, text: str | bytes) -> None:
        """`send`, which never waits: the sender's buffer has no end."""
        out = self._out
        if out.ended is not None or self._in.ended is not None:
            raise ChannelClosedError(*(out.ended or self._in.ended or ()))
        self._network.carry(self, self._worker_id, out, text)

    async def receive(self) -> str | bytes:
        incoming = self._in
        while True:
            if incoming.frames and incoming.frames[0][0] <= trio.current_time():
                return incoming.frames.popleft()[1]
            if incoming.ended is not None and not incoming.frames:
                raise ChannelClosedError(*incoming.ended)
            await incoming.wait()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self._in.end(code, reason)
        if not self._out.swallows:
            self._out.end(code, reason)

    def cut(self) -> None:
        """Both sides lose it, and what is on its way."""
        for direction in (self._in, self._out):
            direction.frames.clear()
            direction.end(1006, "")


class Network:
    """`links` are those that stand, by worker."""

    def __init__(self, chance: Chance, faults: Faults) -> None:
        self._dice = chance.fork("network")
        self._faults = faults
        self._latency_s = self._dice.choice(_LATENCIES_S)
        self._partitions: dict[str, float] = {}
        self._ends: dict[LinkEnd, None] = {}

    def connect(self, worker_id: str) -> tuple[LinkEnd, LinkEnd]:
        """The worker's end and the engine's. Raises `OSError` where there is no way."""
        if trio.current_time() < self._over_at(worker_id) or self._faults.strike("link.refused"):
            raise ConnectionRefusedError("simulated")
        there, back = _Direction(), _Direction()
        near = LinkEnd(self, worker_id, back, there)
        far = LinkEnd(self, worker_id, there, back)
        self._ends[far] = None
        return near, far

    def forget(self, end: LinkEnd) -> None:
        """The engine has done with this end."""
        self._ends.pop(end, None)

    def cut_all(self) -> None:
        """The engine's machine is gone: nothing that it has sent arrives any more."""
        for end in list(self._ends):
            end.cut()
        self._ends.clear()

    def carry(self, end: LinkEnd, worker_id: str, out: _Direction, frame: str | bytes) -> None:
        """Put a frame on its way."""
        faults, now = self._faults, trio.current_time()
        found = _OP.search(frame if isinstance(frame, str) else frame.decode())
        op = found[1] if found else "?"
        if faults.strike("link.cut", op):
            end.cut()
            return
        out.swallows |= faults.strike("link.half_open", op)
        if out.swallows:
            return
        if faults.strike("link.partition", op):
            pause_s = faults.pause_s("link.partition", *_PARTITIONS_S)
            self._partitions[worker_id] = now + pause_s
        delay_s = self._latency_s * (1 + self._dice.random())
        if faults.strike("link.slow", op):
            delay_s += faults.pause_s("link.slow", *_SLOW_S)
        out.carry(max(out.last_at, now + delay_s, self._over_at(worker_id)), frame)

    async def call(self, verb: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Carry a request to the engine and its answer back. Raises `LostError`, and what `attempt`
        raises."""
        faults = self._faults
        await sleep(self._latency_s * (1 + self._dice.random()))
        if faults.strike("call.slow", verb):
            await sleep(faults.pause_s("call.slow", *_SLOW_S))
        if faults.strike("call.request_lost", verb):
            await self._wait_in_vain()
        if faults.strike("call.repeated", verb):
            # A proxy that tries again: the answer to the first is the one that nobody reads.
            with trio.move_on_after(CALL_S_MAX):
                await _whatever(attempt)
        with trio.move_on_after(CALL_S_MAX):
            answer = await attempt()
            if faults.strike("call.answer_lost", verb):
                await self._wait_in_vain()
            return answer
        raise LostError(verb)

    async def _wait_in_vain(self) -> None:
        await sleep(CALL_S_MAX)
        raise LostError("no answer")

    def _over_at(self, worker_id: str) -> float:
        """When the partition of a worker is over; in the past where there is none."""
        return -inf if self._faults.healed else self._partitions.get(worker_id, -inf)


async def _whatever(attempt: Callable[[], Awaitable[object]]) -> None:
    with suppress(Exception):  # its answer is lost, a refusal as well
        await attempt()
