"""Virtual time: a clock that moves only when nothing can run, and the harness's own ways to wait.

Trio's `sleep` and `move_on_at` make a cancel scope, and end it by throwing into the task. An
*alarm* of this clock calls a function when its instant comes, and a task that waits for it is woken
like any other, which is cheaper. The engine waits as it does in production; only the harness sets
alarms. Trio's `MockClock` would do, with a turn of the loop for every jump and a reading of the
real clock for every question.

I1  Time never goes back, and stands while anything can run.
I2  Alarms of one instant are called in the order in which they were set.

Not here: the seeded run (`determinism`).
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

__all__ = ["Alarm", "VirtualClock", "set_alarm", "sleep"]


class Alarm:
    """A call that is to come; `cancel` may be called at any time, also when it was called."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self._call = None

    @property
    def cancelled(self) -> bool:
        return self._call is None

    def ring(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class VirtualClock(trio.abc.Clock):
    """From 0, in seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = count()

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long to wait in real time, which Trio asks when nothing can run: not at all. Only at
        its start and end, where there is no deadline yet or any more, it waits for itself."""
        alarms = self._alarms
        while alarms and alarms[0][2].cancelled:
            heappop(alarms)
        if alarms and alarms[0][0] <= deadline:
            self._now = max(self._now, alarms[0][0])
            while alarms and alarms[0][0] <= self._now:
                heappop(alarms)[2].ring()
        elif deadline == inf:
            return inf
        else:
            self._now = max(self._now, deadline)
        return 0.0

    def set_alarm(self, at: float, call: Callable[[], object]) -> Alarm:
        """Have `call` called at `at`, or as soon as nothing can run if that is over. It runs in no
        task: it may wake tasks, and must not raise."""
        alarm = Alarm(call)
        heappush(self._alarms, (at, next(self._numbers), alarm))
        return alarm


def set_alarm(at: float, call: Callable[[], object]) -> Alarm:
    """`VirtualClock.set_alarm` of the run."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, VirtualClock)
    return clock.set_alarm(at, call)


async def sleep(seconds: float) -> None:
    """`trio.sleep`, by an alarm. A checkpoint; cancelled, the alarm is gone."""
    if seconds <= 0:
        await trio.lowlevel.checkpoint()
        return
    task = current_task()
    alarm = set_alarm(trio.current_time() + seconds, lambda: reschedule(task))

    def abort(_: Any) -> Abort:
        alarm.cancel()
        return Abort.SUCCEEDED

    await wait_task_rescheduled(abort)
