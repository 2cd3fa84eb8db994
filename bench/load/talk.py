"""How load processes speak, and how they tell how far they are."""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

__all__ = ["Orders", "Say", "tell_count"]

Orders = trio.MemoryReceiveChannel[dict[str, Any]]
_TELL_EVERY_S: Final = 0.02


class Say(Protocol):
    def __call__(self, **said: Any) -> None: ...


async def tell_count(count: Callable[[], int], say: Say) -> None:
    """Say how much is done whenever it has changed, at most every 20 ms; until cancelled."""
    told = -1
    while True:
        if (now := count()) != told:
            told = now
            say(count=now, at=time.monotonic())
        await trio.sleep(_TELL_EVERY_S)
