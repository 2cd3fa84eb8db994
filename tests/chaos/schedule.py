"""How long these tests last, and which fault comes when: all of it from a seed."""

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

__all__ = ["LONG", "SECONDS", "WITHIN_S", "Fault", "come", "strike"]

SECONDS: Final = float(os.environ.get("JOBENGINE_CHAOS_S", "1"))
LONG: Final = SECONDS >= 30
WITHIN_S: Final = 180.0 + SECONDS
"""The longest that a test may take: what it does in `SECONDS`, and the end of all its work."""

_LOOK_AGAIN_S: Final = 0.02

Fault = Callable[[], Awaitable[None]]
"""Does harm, and returns once it is undone: a killed process runs again, a frozen one goes on."""


async def strike(dice: random.Random, faults: Sequence[Fault], pause_s: tuple[float, float]) -> int:
    """Every fault once, in an order by chance, and again until `SECONDS` are over; how many came.

    Between two of them there is a pause within these bounds, so that work goes on.
    """
    until = trio.current_time() + SECONDS
    struck = 0
    while struck == 0 or trio.current_time() < until:
        for fault in dice.sample(list(faults), len(faults)):
            await trio.sleep(dice.uniform(*pause_s))
            await fault()
            struck += 1
    return struck


async def come(look: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What `look`, which may block, finds once it finds something; other processes cannot be
    waited on. Raises `trio.TooSlowError`."""
    with trio.fail_after(within_s):
        while not (found := await trio.to_thread.run_sync(look)):  # noqa: ASYNC110
            await trio.sleep(_LOOK_AGAIN_S)
    return found
