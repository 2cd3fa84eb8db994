"""Refill: how many tokens a span of time brings, and when it has brought enough. Exact integers.

Definitions. A rate is in millionths of a token a minute. A *unit* is what a rate of 1 brings in one
microsecond: 1/60,000,000 of a millionth of a token. In units every sum here is an integer, so
nothing is rounded and nothing drifts.

A *curve* is a rate that changes with time: constant within each step of 250 ms, growing by a fixed
amount from step to step within a stretch, and from its last stretch on constant for ever.

I1  ``gained(a, b) + gained(b, c) == gained(a, c)`` for a ≤ b ≤ c.
I2  ``enough_at(a, units)`` is the first instant b with ``gained(a, b) >= units``.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from jobengine.domain.instant import MILLISECOND, MINUTE

__all__ = ["MICRO", "STEP_US", "TOKEN", "ConstantRefill", "Curve", "Refill", "Stretch"]

MICRO: Final = MINUTE
"""A millionth of a token, in units."""
TOKEN: Final = 1_000_000 * MICRO
STEP_US: Final = 250 * MILLISECOND


class Refill(Protocol):
    def rate(self, at: int, /) -> int:
        """Millionths of a token a minute."""
        ...

    def gained(self, since: int, until: int, /) -> int:
        """Units that come in [since, until)."""
        ...

    def enough_at(self, since: int, units: int, /) -> int | None:
        """The first instant by which ``units`` (> 0) have come since; None: never."""
        ...


class ConstantRefill:
    __slots__ = ("_rate",)

    def __init__(self, rate: int) -> None:
        self._rate = rate

    def rate(self, _: int) -> int:
        return self._rate

    def gained(self, since: int, until: int) -> int:
        return (until - since) * self._rate

    def enough_at(self, since: int, units: int) -> int | None:
        return since - (-units // self._rate) if self._rate else None


class Stretch(NamedTuple):
    """``steps`` steps, the first at ``rate``, each ``slope`` above the one before."""

    rate: int
    slope: int
    steps: int

    def units(self, steps: int) -> int:
        """What the first ``steps`` steps bring."""
        return STEP_US * (steps * self.rate + self.slope * (steps * (steps - 1) // 2))


class Curve:
    """From ``start_at`` on along the stretches (rates above 0), then constant at ``last_rate``.

    Before ``start_at`` the rate is that of the first stretch.
    """

    __slots__ = ("_brought", "_starts", "_stretches", "start_at")

    def __init__(self, start_at: int, stretches: Sequence[Stretch], last_rate: int) -> None:
        self.start_at = start_at
        self._stretches = [*stretches, Stretch(last_rate, 0, 0)]
        self._starts = [0]
        self._brought = [0]
        for stretch in stretches:
            self._starts.append(self._starts[-1] + stretch.steps * STEP_US)
            self._brought.append(self._brought[-1] + stretch.units(stretch.steps))

    @property
    def level_at(self) -> int:
        """When the last, constant stretch begins."""
        return self.start_at + self._starts[-1]

    def stretch_end(self, at: int) -> int | None:
        """The first instant after ``at`` at which another stretch begins; None in the last."""
        index = bisect_right(self._starts, at - self.start_at)
        return self.start_at + self._starts[index] if index < len(self._starts) else None

    def stretch_rate(self, at: int) -> int:
        """The rate at which the stretch of ``at`` begins."""
        return self._stretches[self._index(at - self.start_at)].rate

    def rate(self, at: int) -> int:
        passed = at - self.start_at
        stretch = self._stretches[index := self._index(passed)]
        return stretch.rate + stretch.slope * max(0, (passed - self._starts[index]) // STEP_US)

    def gained(self, since: int, until: int) -> int:
        return self._brought_by(until - self.start_at) - self._brought_by(since - self.start_at)

    def enough_at(self, since: int, units: int) -> int | None:
        wanted = self._brought_by(since - self.start_at) + units
        index = max(0, bisect_left(self._brought, wanted) - 1)
        stretch = self._stretches[index]
        left = wanted - self._brought[index]
        steps = _whole_steps(stretch, left) if stretch.slope and left > 0 else 0
        rate = stretch.rate + stretch.slope * steps
        rest = -((stretch.units(steps) - left) // rate)
        return self.start_at + self._starts[index] + steps * STEP_US + rest

    def _index(self, passed: int) -> int:
        return max(0, bisect_right(self._starts, passed) - 1)

    def _brought_by(self, passed: int) -> int:
        """Units since ``start_at``, negative before it."""
        if passed <= 0:
            return passed * self._stretches[0].rate
        stretch = self._stretches[index := self._index(passed)]
        steps, rest = divmod(passed - self._starts[index], STEP_US)
        rate = stretch.rate + stretch.slope * steps
        return self._brought[index] + stretch.units(steps) + rest * rate


def _whole_steps(stretch: Stretch, units: int) -> int:
    """The most steps of a stretch that bring no more than ``units``."""
    low, high = 0, stretch.steps
    while low < high:
        middle = (low + high + 1) // 2
        if stretch.units(middle) <= units:
            low = middle
        else:
            high = middle - 1
    return low
