"""Runs a Trio program so that it does the same every time; the one file that touches what is
private to Trio for it.

Trio shuffles what it wakes together, by a generator of its own; here that is seeded, and time is
virtual: it stands while anything can run, and then jumps to the next deadline. So a program that
draws chance from the seed alone, touches no socket, thread or file, and does not depend on the
hashes of strings, does the same in every process.

I1  What is private and was changed is put back however the run ends.
I2  A run ends in virtual time: `deadline_s` is of it, and there is always that deadline to jump to.
I3  It ends as well where time never gets there, since something runs on and on without waiting.
I4  Who waits for all others to be blocked (`wait_all_tasks_blocked`) is woken before time jumps.

Not here: the clock (`virtual_time`); hashes of strings (`PYTHONHASHSEED` is set by whoever starts
the process, `batch`).
"""

import random
from collections.abc import Awaitable, Callable, Iterator, MutableSequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, TypeVar

import trio

from jobengine.testing.sim.virtual_time import VirtualClock

__all__ = ["SimulatedTimeOverError", "run_seeded"]

T = TypeVar("T")
_PRIVATE_MODULE: Final = "trio._core._run"
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR: Final = "_r"
_CONTEXT: Final = "GLOBAL_RUN_CONTEXT"
_LATER_S: Final = 1.0
"""Any time to sleep that is more than none: Trio wakes who waits for the others instead."""

_TURNS_MAX: Final = 20_000
"""How many turns of Trio's loop may take no time; a hundred do where much happens."""


class SimulatedTimeOverError(Exception):
    """The program did not end before its virtual deadline, or never lets time get there."""


class _Clock(VirtualClock):
    def __init__(self) -> None:
        super().__init__()
        self._context = vars(import_module(_PRIVATE_MODULE))[_CONTEXT]

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if self._context.runner.waiting_for_idle:
            return _LATER_S
        return super().deadline_to_sleep_time(deadline)


class _Order(random.Random):
    """Draws the order of tasks that wake together; most wake alone. Trio asks for it in every turn
    of its loop, so it sees where `clock` stands, and cancels `scope` then (I3)."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.clock = _Clock()
        self.scope = trio.CancelScope()
        self.turns = 0
        self._now = 0.0

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:
            super().shuffle(x)
        now = self.clock.current_time()
        if now != self._now:
            self._now, self.turns = now, 0
        self.turns += 1
        if self.turns > _TURNS_MAX:
            self.scope.cancel()


def run_seeded(main: Callable[..., Awaitable[T]], *args: Any, seed: int, deadline_s: float) -> T:
    """`trio.run(main, *args)` under a seed, in virtual time from 0.

    Raises `SimulatedTimeOverError` when it takes `deadline_s` virtual seconds, or more turns of the
    loop at one instant than any program that waits; and what `main` raises.
    """
    order = _Order(seed)

    async def bounded() -> T:
        order.scope.deadline = deadline_s
        with order.scope:
            return await main(*args)
        if trio.current_time() < deadline_s:
            told = f"something runs without end at {trio.current_time():.3f} simulated seconds"
            raise SimulatedTimeOverError(told)
        raise SimulatedTimeOverError(f"no end within {deadline_s:g} simulated seconds")

    with _deterministic(order):
        return trio.run(bounded, clock=order.clock)


@contextmanager
def _deterministic(order: _Order) -> Iterator[None]:
    names = vars(import_module(_PRIVATE_MODULE))
    before = {name: names[name] for name in (_SWITCH, _GENERATOR)}
    names.update({_SWITCH: True, _GENERATOR: order})
    try:
        yield
    finally:
        names.update(before)
