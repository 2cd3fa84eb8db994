"""How much of the node's time streams get.

Work is counted in *units* of about two microseconds and done in *rounds*. After a round that took t
seconds, with what was sent of earlier ones, the core pauses for t × (1/``_SHARE`` − 1), in which
others run: so streams never get more than that share of a node that is busy. A pause ends as soon
as nobody else has anything to do, so a node that is not busy gives them all that they can use.

How late the core is woken says nothing of this: on a machine that is shared with other programs it
is late, though its own node has nothing to do.

I1  A pause is never longer than ``_PAUSE_S_MAX``, so what is published is on its way within a few
    of them, however busy the node.
I2  A round is of about ``_ROUND_S`` by what a unit took lately: nobody else waits longer for the
    thread.
"""

from typing import Final

__all__ = ["Pace"]

_ROUND_S: Final = 0.005
_PAUSE_S_MAX: Final = 0.1
_SHARE: Final = 0.1
_UNITS_MIN: Final = 500
_UNITS_MAX: Final = 20_000
_UNIT_S: Final = 2e-6
_BYTE_S: Final = 1.5e-9
"""Of what is sent after a round, with the tasks that send it: about twice the copying alone."""
_WEIGHT: Final = 0.2


class Pace:
    __slots__ = ("_units", "resume_at", "unit_s")

    def __init__(self) -> None:
        self.unit_s = _UNIT_S
        self.resume_at = 0.0
        """Monotonic seconds before which no round begins."""
        self._units = 0

    @property
    def units(self) -> int:
        """What a round may do."""
        return max(_UNITS_MIN, min(_UNITS_MAX, int(_ROUND_S / self.unit_s)))

    def spare(self, mono: float) -> None:
        """Nobody else has anything to do."""
        self.resume_at = min(self.resume_at, mono)

    def began(self, units: int) -> None:
        """A round of so many units has been commanded."""
        self._units = units

    def rounded(self, took_s: float, sent_bytes: int, mono: float) -> None:
        """It is done; so many bytes of earlier ones were sent since the last."""
        spent_s = took_s + _BYTE_S * sent_bytes
        if self._units:
            unit_s = spent_s / self._units
            self.unit_s = max(1e-9, self.unit_s + _WEIGHT * (unit_s - self.unit_s))
        self.resume_at = mono + min(_PAUSE_S_MAX, spent_s * (1.0 / _SHARE - 1.0))
