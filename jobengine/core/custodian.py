"""The custodian: decides when the store is made ready for the days to come, and swept.

A round is a preparation, then retention of logs, then a sweep of artifacts in bounded steps.

I1  One round at a time; the next comes an interval after the last one ended.
I2  A failed one is repeated soon, since days without a partition would refuse commits.

Not here: retention of the ledger, self-checks.
"""

from collections.abc import Sequence

from jobengine.domain.instant import Moment
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


class CustodianCore:
    """``handle`` is the only verb; see ``core/machine.py``. ``log_retention_us``: how old a day of
    log lines may be at its end."""

    def __init__(self, interval_s: float, first_at: float, log_retention_us: int) -> None:
        self._interval_s = interval_s
        self._log_retention_us = log_retention_us
        self.wakeup_at: float | None = first_at

    def handle(
        self,
        message: Prepared | PrepareFailed | LogsDropped | ArtifactsSwept | Wake,
        now: Moment,
    ) -> Sequence[Prepare | DropLogs | SweepArtifacts]:
        match message:
            case Wake():
                self.wakeup_at = None
                return (Prepare(now_at=now.at),)
            case Prepared():
                return (DropLogs(before_at=now.at - self._log_retention_us),)
            case LogsDropped():
                return (SweepArtifacts(now_at=now.at, after=None),)
            case ArtifactsSwept(after=None):
                self.wakeup_at = now.mono + self._interval_s
            case ArtifactsSwept():
                return (SweepArtifacts(now_at=now.at, after=message.after),)
            case PrepareFailed():
                self.wakeup_at = now.mono + _AGAIN_S
        return ()
