"""Which push-back halves a refill, which only puts off the next start, and for how long.

Definitions. A push-back is an *echo* when it comes while starts are forbidden, or for a start from
before the last halving or pause: it says nothing of what is in force. It *halves* when the refill
in force has served enough starts to be blamed, and the cooldown is over. Else the upstream refuses
at every rate (a *block*, see ``offered``): the next start is put off.

I1  Of each new refill, at least four starts were served until it is halved.
I2  Pauses of a block that does not say when it ends double, from one second to eight.

Not here: the refill (``learning``), tokens (``bucket``).
"""

from typing import Final, Literal

import attrs

from jobengine.core.rate_bucket.learning import Learned
from jobengine.core.rate_bucket.offered import Offered
from jobengine.domain.instant import SECOND

__all__ = ["Episodes", "Sort"]

Sort = Literal["halves", "pauses", "echo"]

_STARTS_TO_JUDGE: Final = 4
_PAUSE_US_FIRST: Final = SECOND
_PAUSE_DOUBLINGS_MAX: Final = 3
_PAUSES_TO_BOUND: Final = 2
_RETRY_AFTER_US_TO_BOUND: Final = 5 * SECOND
"""A Retry-After is in whole seconds: a short one says little of how long a block lasts."""


@attrs.define(eq=False)
class Episodes:
    """Instants are steady microseconds that never go back; ``starts`` those of this life."""

    offered: Offered
    _starts_to_judge: int = 0
    """How many starts there must have been until the refill in force can be blamed."""
    _starts_heard_of: int = -1
    _pauses: int = 0

    def sort(
        self,
        at: int,
        starts: int,
        open_at: int,
        learned: Learned | None,
        granted_at: int | None,
        cooldown_us: int,
    ) -> Sort:
        """What a push-back amounts to. ``granted_at`` is when its start was granted, if known."""
        if learned is None:
            return "halves"
        if granted_at is not None and granted_at <= learned.halved_at:
            return "echo"
        self._starts_to_judge += 1
        if at < open_at or starts <= self._starts_heard_of:
            return "echo"
        served = starts >= self._starts_to_judge and not learned.in_episode(at, cooldown_us)
        return "halves" if served else "pauses"

    def halve(self, starts: int) -> None:
        """An episode begins."""
        self.offered.begin_block()
        self._starts_heard_of = starts
        self._starts_to_judge = starts + _STARTS_TO_JUDGE
        self._pauses = 0

    def pause(self, starts: int, retry_after_us: int) -> int:
        """A block goes on; how long to leave the upstream alone."""
        self._starts_heard_of = starts
        if retry_after_us:
            return retry_after_us
        self._pauses += 1
        return _PAUSE_US_FIRST << min(self._pauses - 1, _PAUSE_DOUBLINGS_MAX)

    def bound(self, at: int, open_at: int, retry_after_us: int) -> int | None:
        """What the upstream bears at most, where a block tells it.

        That ends at ``open_at``, or, when it does not say so, anywhere between ``at`` and then.
        """
        self.offered.end_block(max(at, open_at))
        if retry_after_us >= _RETRY_AFTER_US_TO_BOUND:
            return self.offered.bound(open_at)
        return self.offered.bound((at + open_at) // 2) if self._pauses >= _PAUSES_TO_BOUND else None
