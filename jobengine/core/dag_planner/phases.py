"""The phases of a node in a live run, and the wishes that wait to be commanded.

Definitions. A node's *phase* is what has been decided of it; phases from ``COMPLETED`` on are what
has become of it, as it was told. A *wish* is what has to be commanded for a node in its phase; it
waits in a queue until a command takes it, and is void once the node is in another phase.

Not here: what is decided (``live_run``).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final

from jobengine.domain.job import State

__all__ = ["PHASE_OF", "STATE_OF", "WISHED_IN", "Phase", "Wish", "Wishes"]


class Phase(IntEnum):
    WAITING = 0
    STARTED = 1
    ENDING = 2
    SKIPPING = 3
    DOOMED = 4
    CUT = 5
    COMPLETED = 6
    FAILED = 7
    CANCELLED = 8


class Wish(IntEnum):
    """In the order in which they are commanded."""

    CUT = 0
    DOOM = 1
    SKIP = 2
    END = 3
    RELEASE = 4
    OPEN = 5


WISHED_IN: Final[Mapping[Wish, Phase]] = {
    Wish.CUT: Phase.CUT,
    Wish.DOOM: Phase.DOOMED,
    Wish.SKIP: Phase.SKIPPING,
    Wish.END: Phase.ENDING,
    Wish.RELEASE: Phase.STARTED,
    Wish.OPEN: Phase.STARTED,
}
PHASE_OF: Final[Mapping[State, Phase]] = {
    State.COMPLETED: Phase.COMPLETED,
    State.FAILED: Phase.FAILED,
    State.CANCELLED: Phase.CANCELLED,
}
STATE_OF: Final[Mapping[Phase, State]] = {phase: state for state, phase in PHASE_OF.items()}


class Wishes:
    """A queue for each wish, of numbers of nodes."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: tuple[deque[int], ...] = tuple(deque() for _ in Wish)

    def put(self, wish: Wish, numbers: Iterable[int]) -> None:
        self._queues[wish].extend(numbers)

    def put_back(self, wish: Wish, numbers: Sequence[int]) -> None:
        """What was taken last, and first of it what comes first."""
        self._queues[wish].extendleft(reversed(numbers))

    def take(self, wish: Wish, count: int, phases: bytearray) -> list[int]:
        """Up to ``count`` nodes in the order of wishing; void wishes are dropped on the way."""
        queue, phase, taken = self._queues[wish], WISHED_IN[wish], list[int]()
        while queue and len(taken) < count:
            number = queue.popleft()
            if phases[number] == phase:
                taken.append(number)
        return taken
