"""A redrive under way: what the redriver remembers of it, and its one command in flight.

Definitions. The *flight* of a course is the one command of it that is under way. It is *unsettled*
while the store has to be asked where it stands, and *in doubt* while something that has changed it
may be under way. Its *cursor* is the last letter that was tried, in
descending order of (at, id).

Not here: what happens when (``redriver``), what is recorded of it (``redrive_records``).
"""

from collections import deque
from typing import Any

import attrs

from jobengine.domain.instant import SECOND
from jobengine.domain.redrive import Redrive, RedriveState
from jobengine.messages.lease_shard import Actor
from jobengine.messages.redriver import ChangeRedrive, Letter, ReadLetters, ReplayLetter, Settle

__all__ = ["Course"]


@attrs.define(eq=False)
class Course:
    """``again_mono``: nothing before then, after something failed; ``next_mono``: no letter before
    then. ``all_read``: no letters are left but those here."""

    redrive: Redrive
    cursor: tuple[int, str]
    flight: tuple[int, Any] | None = None
    unsettled: bool = False
    in_doubt: bool = False
    again_mono: float = 0.0
    next_mono: float = 0.0
    letters: deque[Letter] = attrs.field(factory=deque)
    all_read: bool = False
    changes: deque[ChangeRedrive] = attrs.field(factory=deque)

    @property
    def key(self) -> tuple[str, str]:
        return self.redrive.tenant_id, self.redrive.redrive_id

    @property
    def due_mono(self) -> float | None:
        """When it may do its next thing by itself; None while it may not."""
        running = self.redrive.state == RedriveState.RUNNING
        if self.flight is not None or not (self.unsettled or running):
            return None
        if self.unsettled or self.redrive.exhausted or not self.letters:
            return self.again_mono
        return max(self.again_mono, self.next_mono)

    def tried(self) -> None:
        """The first letter is behind us, whatever became of it."""
        letter = self.letters.popleft()
        self.cursor = (letter.at, letter.dead_letter_id)

    def unsettle(self, *, in_doubt: bool) -> None:
        self.unsettled = True
        self.in_doubt = in_doubt

    def settle(self, redrive: Redrive) -> None:
        """Go on from what the store holds."""
        self.redrive = redrive
        self.cursor = min(self.cursor, redrive.after or self.cursor)
        self.letters.clear()
        self.all_read = False

    def settling(self, stamp: int) -> Settle:
        redrive = self.redrive
        return Settle(
            stamp=stamp,
            tenant_id=redrive.tenant_id,
            redrive_id=redrive.redrive_id,
            fenced=self.in_doubt,
        )

    def reading(self, stamp: int, letters_max: int) -> ReadLetters:
        """Of the letters behind the cursor."""
        return ReadLetters(
            stamp=stamp,
            tenant_id=self.redrive.tenant_id,
            order=self.redrive.order,
            after=self.cursor,
            letters_max=letters_max,
        )

    def replaying(self, stamp: int, now_mono: float) -> ReplayLetter:
        """Of the first letter; the next one is not due before the rate allows it."""
        redrive, order = self.redrive, self.redrive.order
        self.next_mono = now_mono + order.spacing_us / SECOND
        return ReplayLetter(
            stamp=stamp,
            tenant_id=redrive.tenant_id,
            redrive_id=redrive.redrive_id,
            actor=Actor(order.created_by, order.reason, order.ticket),
            letter=self.letters[0],
        )
