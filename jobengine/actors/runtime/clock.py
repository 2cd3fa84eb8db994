"""Clocks: where shells read the `Moment` they hand to their cores.

I1  `mono` is always `trio.current_time()`, so every wait obeys `MockClock` in tests.
I2  The wall clock is for records only; nothing ever waits on it, so a step of it (NTP, an
    operator, a resumed virtual machine) delays nothing and fires nothing early.
"""

import time
from typing import Protocol

import trio

from jobengine.domain.instant import SECOND, Moment


class Clock(Protocol):
    def moment(self) -> Moment:
        """One reading of both clocks. Must be called within a Trio run."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def moment(self) -> Moment:
        return Moment(trio.current_time(), time.time_ns() // 1_000)


class SimulatedClock:
    """A wall clock that follows Trio's own: under `MockClock` it is virtual time, from `epoch_at`.

    `skew` (microseconds, may be changed at any time) is added to the wall clock alone, to simulate
    clocks that differ between nodes or step while running.
    """

    __slots__ = ("epoch_at", "skew")

    def __init__(self, epoch_at: int, skew: int = 0) -> None:
        self.epoch_at = epoch_at
        self.skew = skew

    def moment(self) -> Moment:
        mono = trio.current_time()
        return Moment(mono, self.epoch_at + round(mono * SECOND) + self.skew)
