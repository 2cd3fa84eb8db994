"""A mailbox: what waits for one actor, in order, bounded, taken in bursts.

Definitions. A *request* is work that somebody wants of the actor; it counts against `capacity`.
A *delivery* is the answer to work that the actor itself asked for; it does not.

I1  First in, first out, requests and deliveries alike.
I2  At most `capacity` requests lie in the box. Putters wait only while it is full, so nobody
    overtakes them, and they are let in in the order in which they came.
I3  A burst wakes the taker once, however many messages it has.
I4  A message is in the box or was never put: cancelling `put` or `take` loses and doubles nothing.

Why deliveries are exempt: let A and B each have a full box and each owe the other an answer. If
answers needed room, A could not finish what it holds until B took something, nor B until A did, and
neither would ever take again. With the exemption an actor can always hand over what it finished, so
it always comes back to its box. Memory stays bounded all the same: every delivery answers a piece
of work that the receiver has outstanding, and how much that may be is a limit of its core.

A mailbox belongs to its actor's *name*: it outlives a crashed actor, and what had not been taken
waits for the successor. It belongs to one Trio run, one thread and one taker.
"""

from collections import OrderedDict, deque
from typing import Generic, NamedTuple, TypeVar

import outcome
import trio
from trio.lowlevel import (
    Abort,
    Task,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

M = TypeVar("M")


class MailboxFullError(Exception):
    """The box holds `capacity` requests: shed the work, or wait with `put`."""

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(f"mailbox {name} is full: {capacity} requests are waiting")
        self.name = name
        self.capacity = capacity


class MailboxClosedError(Exception):
    """Nobody will take from this box any more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"mailbox {name} is closed")
        self.name = name


class MailboxStatistics(NamedTuple):
    """`depth` counts deliveries too, so it may pass the capacity. `oldest_s` is an upper bound of
    how long the oldest message has waited, exact unless a backlog exceeds `take_max`."""

    depth: int
    depth_max: int
    taken_total: int
    refused_total: int
    putters: int
    oldest_s: float


class Mailbox(Generic[M]):
    """Positions number the messages of a box from 0 in the order in which they are taken."""

    __slots__ = (
        "_closed",
        "_delivered",
        "_depth_max",
        "_items",
        "_marks",
        "_putters",
        "_refused_total",
        "_taken_total",
        "_taker",
        "capacity",
        "name",
        "take_max",
    )

    def __init__(self, name: str, capacity: int, *, take_max: int = 1024) -> None:
        if capacity < 1 or take_max < 1:
            raise ValueError("capacity and take_max must be at least 1")
        self.name = name
        self.capacity = capacity
        self.take_max = take_max
        self._items: list[M] = []
        # Positions of the deliveries in the box, so that they are not counted as requests.
        self._delivered: deque[int] = deque()
        # (position, mono): messages from that position on came at or after mono. One reading of
        # the clock a burst, instead of one a message.
        self._marks: deque[tuple[int, float]] = deque()
        self._putters: OrderedDict[Task, M] = OrderedDict()
        self._taker: Task | None = None
        self._closed = False
        self._taken_total = 0
        self._refused_total = 0
        self._depth_max = 0

    @property
    def taken_total(self) -> int:
        """How many messages were taken so far: positions below it are out of the box."""
        return self._taken_total

    @property
    def depth(self) -> int:
        """How many messages wait, deliveries too."""
        return len(self._items)

    @property
    def closed(self) -> bool:
        return self._closed

    def put_nowait(self, message: M) -> int:
        """Put a request, return its position. Raises `MailboxFullError`, `MailboxClosedError`."""
        if self._closed:
            raise MailboxClosedError(self.name)
        if not self._has_room():
            self._refused_total += 1
            raise MailboxFullError(self.name, self.capacity)
        return self._add(message)

    async def put(self, message: M) -> None:
        """Put a request, waiting for room in turn. Raises `MailboxClosedError`.

        Cancelled: the message was not put.
        """
        await checkpoint_if_cancelled()
        if self._closed:
            raise MailboxClosedError(self.name)
        if self._has_room():
            self._add(message)
            await cancel_shielded_checkpoint()
            return
        task = current_task()
        self._putters[task] = message

        def abort(_: object) -> Abort:
            del self._putters[task]
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def deliver(self, message: M) -> None:
        """Put an answer to work that this actor asked for: never waits, never refused for room.

        At a closed box the answer is dropped and counted as refused: whom it was for is gone.
        """
        if self._closed:
            self._refused_total += 1
            return
        self._delivered.append(self._taken_total + len(self._items))
        self._add(message)

    async def take(self) -> list[M]:
        """Everything that waits, in order, at most `take_max`; waits for a first message.

        Raises `MailboxClosedError` once the box is closed and empty. Always a checkpoint, also when
        messages lie ready, so that a busy actor lets others run once a burst. Cancelled: nothing
        was taken.
        """
        if self._items or self._closed:
            await checkpoint()
        else:
            await self._wait()
        return self.take_nowait()

    def take_nowait(self) -> list[M]:
        """Like `take`, without waiting: [] when nothing lies ready. No checkpoint."""
        if self._items:
            return self._drain()
        if self._closed:
            raise MailboxClosedError(self.name)
        return []

    def close(self) -> None:
        """Refuse all putters from now on, waiting ones too; what lies in the box can be taken."""
        self._closed = True
        for task in self._putters:
            reschedule(task, outcome.Error(MailboxClosedError(self.name)))
        self._putters.clear()
        self._wake()

    def statistics(self) -> MailboxStatistics:
        depth = len(self._items)
        return MailboxStatistics(
            depth=depth,
            depth_max=max(depth, self._depth_max),
            taken_total=self._taken_total,
            refused_total=self._refused_total,
            putters=len(self._putters),
            oldest_s=trio.current_time() - self._marks[0][1] if depth else 0.0,
        )

    def _has_room(self) -> bool:
        return len(self._items) - len(self._delivered) < self.capacity

    def _add(self, message: M) -> int:
        items = self._items
        position = self._taken_total + len(items)
        if not items:
            self._marks.append((position, trio.current_time()))
        items.append(message)
        if self._taker is not None:
            self._wake()
        return position

    def _wake(self) -> None:
        taker = self._taker
        if taker is not None:
            self._taker = None
            reschedule(taker)

    async def _wait(self) -> None:
        if self._taker is not None:
            raise trio.BusyResourceError(f"mailbox {self.name} has a taker already")
        self._taker = current_task()
        await wait_task_rescheduled(self._abort_wait)

    def _abort_wait(self, _: object) -> Abort:
        self._taker = None
        return Abort.SUCCEEDED

    def _drain(self) -> list[M]:
        batch = self._items
        depth = len(batch)
        if depth > self._depth_max:
            self._depth_max = depth
        if depth <= self.take_max:
            self._items = []
            self._taken_total += depth
            self._delivered.clear()
            self._marks.clear()
        else:
            batch = self._drain_part()
        if self._putters:
            self._admit()
        return batch

    def _drain_part(self) -> list[M]:
        batch = self._items[: self.take_max]
        del self._items[: self.take_max]
        self._taken_total = taken_total = self._taken_total + len(batch)
        while self._delivered and self._delivered[0] < taken_total:
            self._delivered.popleft()
        self._marks.append((taken_total + len(self._items), trio.current_time()))
        while self._marks[1][0] <= taken_total:
            self._marks.popleft()
        return batch

    def _admit(self) -> None:
        while self._putters and self._has_room():
            task, message = self._putters.popitem(last=False)
            self._add(message)
            reschedule(task)
