"""The custodian: rounds of preparing and sweeping, one after another."""

from jobengine.core.custodian import CustodianCore
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

PLACE = (7, "acme", "c")


def moment(mono: float) -> Moment:
    return Moment(mono=mono, at=round(mono * 1_000_000))


def wakeup_of(core: CustodianCore) -> float | None:
    return core.wakeup_at


def test_a_round_prepares_drops_old_logs_sweeps_step_by_step_and_then_rests() -> None:
    core = CustodianCore(interval_s=100.0, first_at=5.0, log_retention_us=2_000_000)
    assert wakeup_of(core) == 5.0
    assert core.handle(Wake(), moment(5.0)) == (Prepare(now_at=5_000_000),)
    assert wakeup_of(core) is None
    assert core.handle(Prepared(), moment(6.0)) == (DropLogs(before_at=4_000_000),)
    assert core.handle(LogsDropped(), moment(6.0)) == (
        SweepArtifacts(now_at=6_000_000, after=None),
    )
    assert core.handle(ArtifactsSwept(after=PLACE), moment(7.0)) == (
        SweepArtifacts(now_at=7_000_000, after=PLACE),
    )
    assert wakeup_of(core) is None
    assert core.handle(ArtifactsSwept(after=None), moment(8.0)) == ()
    assert wakeup_of(core) == 108.0


def test_a_round_that_failed_is_repeated_soon() -> None:
    core = CustodianCore(interval_s=3_600.0, first_at=0.0, log_retention_us=0)
    core.handle(Wake(), moment(0.0))
    assert core.handle(PrepareFailed(), moment(1.0)) == ()
    assert wakeup_of(core) == 61.0
