"""The custodian: decides when the store is made ready for the days to come, and swept.

A round is a preparation, then what is old is dropped, then a sweep of artifacts in bounded steps.
The store holds a day on either side of the instant it was last prepared at, if not more.

I1  One round at a time; the next comes an interval after the last one ended.
I2  A failed one is repeated soon, since commits of days that were not prepared wait.
I3  Where the wall clock leaves that day, by being set or while the machine was suspended, the store
    is prepared within a minute. The rest of a round has time.
I4  Nothing is dropped by a clock that may be wrong: only where it has kept pace with the monotonic
    one for ten minutes.

Not here: retention of the ledger, self-checks.
"""

from collections.abc import Sequence

from jobengine.domain.instant import DAY, SECOND, Moment
from jobengine.messages.custodian import (
    ArtifactsSwept,
    DropOld,
    OldDropped,
    Prepare,
    Prepared,
    PrepareFailed,
    SweepArtifacts,
)
from jobengine.messages.wake import Wake

__all__ = ["CustodianCore"]

_AGAIN_S = 60.0
_LOOK_S = 60.0
_STEADY_S = 600.0
_STEP_US = 10 * SECOND


class CustodianCore:
    """``handle`` is the only verb; see ``core/machine.py``. ``log_retention_us``: how old a day of
    log lines may be at its end."""

    def __init__(self, interval_s: float, first_at: float, log_retention_us: int) -> None:
        self._interval_s = interval_s
        self._log_retention_us = log_retention_us
        self._round_at = first_at
        self._in_round = False
        self._asked_at = 0
        self._prepared_at: int | None = None
        self._epoch_at: float | None = None
        """What the wall clock said where the monotonic one was 0."""
        self._steady_from = 0.0
        self.wakeup_at: float | None = first_at

    def handle(
        self,
        message: Prepared | PrepareFailed | OldDropped | ArtifactsSwept | Wake,
        now: Moment,
    ) -> Sequence[Prepare | DropOld | SweepArtifacts]:
        self._watch_clock(now)
        match message:
            case Wake():
                return self._look(now)
            case Prepared():
                self._prepared_at = self._asked_at
                if self._in_round and now.mono >= self._steady_from:
                    return (DropOld(now_at=now.at, logs_before_at=now.at - self._log_retention_us),)
                if self._in_round:
                    self._round_at = self._steady_from
                self._rest(now)
            case OldDropped():
                return (SweepArtifacts(now_at=now.at, after=None),)
            case ArtifactsSwept(after=None):
                self._round_at = now.mono + self._interval_s
                self._rest(now)
            case ArtifactsSwept():
                return (SweepArtifacts(now_at=now.at, after=message.after),)
            case PrepareFailed():
                if self._in_round:
                    self._round_at = now.mono + _AGAIN_S
                self._rest(now)
        return ()

    def _watch_clock(self, now: Moment) -> None:
        """I4"""
        epoch_at = now.at - now.mono * SECOND
        if self._epoch_at is None or abs(epoch_at - self._epoch_at) >= _STEP_US:
            self._epoch_at = epoch_at
            self._steady_from = now.mono + _STEADY_S

    def _look(self, now: Moment) -> Sequence[Prepare]:
        self._in_round = now.mono >= self._round_at
        if not self._in_round and not self._is_away(now.at):
            self._rest(now)
            return ()
        self.wakeup_at = None
        self._asked_at = now.at
        return (Prepare(now_at=now.at),)

    def _is_away(self, at: int) -> bool:
        """I3"""
        return self._prepared_at is not None and abs(at - self._prepared_at) >= DAY

    def _rest(self, now: Moment) -> None:
        self.wakeup_at = min(self._round_at, now.mono + _LOOK_S)
