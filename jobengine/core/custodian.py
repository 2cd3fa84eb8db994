"""The custodian: decides when the store is made ready for the days to come, and swept.

A round is a preparation, then retention of logs, then a sweep of artifacts in bounded steps. The
store holds a day on either side of the instant it was last prepared at, if not more.

I1  One round at a time; the next comes an interval after the last one ended.
I2  A failed one is repeated soon, since commits of days that were not prepared wait.
I3  Where the wall clock leaves that day, by being set or while the machine was suspended, the store
    is prepared within a minute. The rest of a round has time, and would take away what is old by a
    clock that may be wrong.

Not here: retention of the ledger, self-checks.
"""

from collections.abc import Sequence

from jobengine.domain.instant import DAY, Moment
from jobengine.messages.custodian import (
    ArtifactsSwept,
    DropLogs,
    LogsDropped,
    Prepare,
    Prepared,
    PrepareFailed,
    SweepArtifacts,
)
from jobengine.messages.wake import Wake

__all__ = ["CustodianCore"]

_AGAIN_S = 60.0
_LOOK_S = 60.0


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
        self.wakeup_at: float | None = first_at

    def handle(
        self,
        message: Prepared | PrepareFailed | LogsDropped | ArtifactsSwept | Wake,
        now: Moment,
    ) -> Sequence[Prepare | DropLogs | SweepArtifacts]:
        match message:
            case Wake():
                return self._look(now)
            case Prepared():
                self._prepared_at = self._asked_at
                if self._in_round:
                    return (DropLogs(before_at=now.at - self._log_retention_us),)
                self._rest(now)
            case LogsDropped():
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
