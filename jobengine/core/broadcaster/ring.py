"""The recent blocks of one tenant, and the events that were made of them so far.

Definitions. ``floor`` and ``tip`` are the seqs between which blocks are held: after the one, up to
the other. ``front`` is how far events have been made; they are made when there is time, so that
publishing costs nothing. A ring that has not *begun* holds nothing and knows no seq.

I1  Held is every seq in (floor, tip] once: a block that does not continue the ring begins it anew.
I2  ``floor <= front <= tip``; ``events`` are those of (floor, front], in order.
I3  Whole blocks are dropped from the front until the bounds hold, and up to one that is passed by.
"""

from collections import deque
from collections.abc import Sequence

from jobengine.domain.entry import Block
from jobengine.domain.event import BlockEvents, Event

__all__ = ["Ring"]


class Ring:
    __slots__ = ("_blocks", "_unmade", "begun", "events", "floor", "front", "size", "tip")

    def __init__(self) -> None:
        self.begun = False
        self.floor = self.front = self.tip = 0
        self.size = 0
        self.events: list[Event] = []
        self._blocks: deque[tuple[int, int]] = deque()  # (last seq, bytes)
        self._unmade: deque[tuple[int, BlockEvents]] = deque()

    def push(self, block: Block, events_max: int, bytes_max: int) -> None:
        """Take the next block. ``front`` moves only when the ring begins anew (I1), or when blocks
        are dropped of which no event was made."""
        if self.begun and block.last_seq <= self.tip:
            return
        if not self.begun or block.first_seq != self.tip + 1:
            self.clear()
            self.begun = True
            self.floor = self.front = block.first_seq - 1
        self.tip = block.last_seq
        self.size += len(block.body)
        self._blocks.append((block.last_seq, len(block.body)))
        self._unmade.append((block.last_seq, BlockEvents(block)))
        while self._blocks and (self.size > bytes_max or self.tip - self.floor > events_max):
            self._drop()

    def clear(self) -> None:
        """Hold nothing, as before the ring began."""
        self.begun = False
        self.floor = self.front = self.tip = 0
        self.size = 0
        self.events.clear()
        self._blocks.clear()
        self._unmade.clear()

    def make(self, bytes_min: int) -> Sequence[Event]:
        """Make the next events, of so many bytes of a block; ``front`` moves behind them."""
        _, block = self._unmade[0]
        made = block.take(bytes_min)
        if block.done:
            self._unmade.popleft()
        self.events.extend(made)
        self.front = made[-1].seq
        return made

    def next_body(self) -> bytes | None:
        """Of the next block, where no event of it has been made yet."""
        return self._unmade[0][1].untouched

    def pass_by(self) -> None:
        """Make nothing of the next block; what has come up to its end is no longer held."""
        last_seq, _ = self._unmade.popleft()
        while self._blocks and self._blocks[0][0] <= last_seq:
            self.size -= self._blocks.popleft()[1]
        self.events.clear()
        self.floor = self.front = last_seq

    def _drop(self) -> None:
        last_seq, size = self._blocks.popleft()
        del self.events[: last_seq - self.floor]
        self.floor = last_seq
        self.size -= size
        if self.front < last_seq:
            self.front = last_seq
            self._unmade.popleft()
