"""The time of one life of a bucket: microseconds that never step, and their place in the calendar.

Definitions. *Steady* time is the wall clock at the first message of this life plus what the
monotonic clock has run since. *Drift* is how far the wall clock has gone from it: 0 until it steps.

I1  Steady time never goes back, and a step of the wall clock does not move it; so a step neither
    fills a bucket nor empties an hour.
I2  Whatever leaves the bucket (``opens_at``, states) is steady time plus drift: the wall clock of
    now. Drift is taken anew only when it moved by more than a millisecond, for less is the distance
    between the two readings of one moment.
"""

from typing import Final

from jobengine.domain.instant import MILLISECOND, SECOND, Moment

__all__ = ["Timeline"]

_JITTER_US: Final = MILLISECOND


class Timeline:
    __slots__ = ("_at", "_mono", "drift")

    def __init__(self, now: Moment) -> None:
        self._mono = now.mono
        self._at = now.at
        self.drift = 0

    def steady(self, now: Moment) -> int:
        """Steady microseconds at ``now``; brings the drift up to date."""
        steady = self._at + round((now.mono - self._mono) * SECOND)
        drift = now.at - steady
        if abs(drift - self.drift) > _JITTER_US:
            self.drift = drift
        return steady
