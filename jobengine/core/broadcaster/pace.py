"""How much of the node's time streams get.

Work is counted in *units* of about two microseconds and done in *rounds*. After a round the core
pauses in proportion to what it took: with a *share* of s, a round of t seconds is followed by
t × (1/s − 1) seconds in which others run. The share is learned from how late the core is woken
after a pause: on time means that nobody else wanted the time (additive increase), late that many
did (multiplicative decrease; Chiu and Jain, 1989).

I1  A pause is never longer than ``_PAUSE_S_MAX``, so what is published is on its way within a few
    of them, however busy the node.
I2  A round is of about ``_ROUND_S`` by what a unit took lately: nobody else waits longer for the
    thread.
"""

from typing import Final

__all__ = ["Pace"]

_ROUND_S: Final = 0.005
_PAUSE_S_MIN: Final = 0.000_5
_PAUSE_S_MAX: Final = 0.05
_LATE_S: Final = 0.003
_SHARE_MIN: Final = 0.1
_SHARE_MAX: Final = 0.95
_INCREASE: Final = 0.03
_DECREASE: Final = 0.7
_UNITS_MIN: Final = 500
_UNITS_MAX: Final = 20_000
_UNIT_S: Final = 2e-6
_WEIGHT: Final = 0.2


class Pace:
    __slots__ = ("_units", "resume_at", "share", "unit_s")

    def __init__(self) -> None:
        self.share = _SHARE_MAX
        self.unit_s = _UNIT_S
        self.resume_at = 0.0
        """Monotonic seconds before which no round begins."""
        self._units = 0

    @property
    def units(self) -> int:
        """What a round may do."""
        return max(_UNITS_MIN, min(_UNITS_MAX, int(_ROUND_S / self.unit_s)))

    def woken(self, late_s: float) -> None:
        """A pause is over, and the core was woken so long after its end."""
        if late_s > _LATE_S:
            self.share = max(_SHARE_MIN, self.share * _DECREASE)
        else:
            self.share = min(_SHARE_MAX, self.share + _INCREASE)

    def began(self, units: int) -> None:
        """A round of so many units has been commanded."""
        self._units = units

    def rounded(self, took_s: float, mono: float) -> None:
        """It is done."""
        if self._units:
            unit_s = took_s / self._units
            self.unit_s = max(1e-9, self.unit_s + _WEIGHT * (unit_s - self.unit_s))
        pause_s = took_s * (1.0 / self.share - 1.0)
        self.resume_at = mono + max(_PAUSE_S_MIN, min(_PAUSE_S_MAX, pause_s))
