"""What one read of a tenant's ledger gave: it serves every reader whose cursor lies within it.

I1  It holds all that the ledger has in (after_seq, last_seq]. What is missing at its beginning,
    up to ``gone_seq``, has been taken by retention.
I2  ``after_seq <= gone_seq <= front <= last_seq``; ``events`` are those of (gone_seq, front].
"""

from collections import deque
from collections.abc import Sequence

from jobengine.domain.entry import Block
from jobengine.domain.event import BlockEvents, Event

__all__ = ["Page"]


class Page:
    __slots__ = ("_unmade", "after_seq", "events", "front", "gone_seq", "last_seq")

    def __init__(self, after_seq: int, blocks: Sequence[Block], gone_seq: int = 0) -> None:
        """Without blocks all up to ``gone_seq`` is gone."""
        self.after_seq = after_seq
        if blocks:
            gone_seq = max(after_seq, blocks[0].first_seq - 1)
        self.gone_seq = self.front = self.last_seq = gone_seq
        self.events: list[Event] = []
        self._unmade: deque[BlockEvents] = deque()
        for block in blocks:
            if self._unmade and block.first_seq != self.last_seq + 1:
                break
            self.last_seq = block.last_seq
            self._unmade.append(BlockEvents(block))

    def covers(self, seq: int) -> bool:
        """Whether there is something in it for a reader that has come this far."""
        return self.after_seq <= seq < self.last_seq

    def make(self, bytes_min: int) -> int:
        """Make the next events, of so many bytes of a block; how many there were."""
        block = self._unmade[0]
        made = block.take(bytes_min)
        if block.done:
            self._unmade.popleft()
        self.front = max(self.front, made[-1].seq)
        skipped = self.gone_seq + 1 - made[0].seq
        self.events.extend(made[skipped:] if skipped > 0 else made)
        return len(made)
