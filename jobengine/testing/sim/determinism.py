"""Runs a Trio program so that it does the same every time; the one file that touches Trio's private
switch for it.

Trio shuffles what it wakes together, by a generator of its own; here that is seeded, and time is
virtual: it stands while anything can run, and then jumps to the next deadline. So a program that
draws chance from the seed alone, touches no socket, thread or file, and does not depend on the
hashes of strings, does the same in every process.

I1  Both private names are put back however the run ends.
I2  A run ends in virtual time: `deadline_s` is of it, and there is always that deadline to jump to.

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


class SimulatedTimeOverError(Exception):
    """The program did not end before its virtual deadline."""


class _Order(random.Random):
    """Draws the order of tasks that wake together; most wake alone."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:
            super().shuffle(x)


def run_seeded(main: Callable[..., Awaitable[T]], *args: Any, seed: int, deadline_s: float) -> T:
    """`trio.run(main, *args)` under a seed, in virtual time from 0.

    Raises `SimulatedTimeOverError` when it takes `deadline_s` virtual seconds, and what `main`
    raises.
    """

    async def bounded() -> T:
        with trio.move_on_after(deadline_s):
            return await main(*args)
        raise SimulatedTimeOverError(f"no end within {deadline_s:g} simulated seconds")

    with _deterministic(seed):
        return trio.run(bounded, clock=VirtualClock())


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    names = vars(import_module(_PRIVATE_MODULE))
    before = {name: names[name] for name in (_SWITCH, _GENERATOR)}
    names.update({_SWITCH: True, _GENERATOR: _Order(seed)})
    try:
        yield
    finally:
        names.update(before)
