"""The custodian: rounds of preparing and sweeping, one after another."""

import pytest

from jobengine.core.custodian import CustodianCore
from jobengine.domain.instant import DAY, HOUR, SECOND, Moment
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
    assert wakeup_of(core) == 68.0
    assert core.handle(Wake(), moment(68.0)) == ()
    assert wakeup_of(core) == 108.0
    assert core.handle(Wake(), moment(108.0)) == (Prepare(now_at=108_000_000),)


def test_a_round_that_failed_is_repeated_soon() -> None:
    core = CustodianCore(interval_s=3_600.0, first_at=0.0, log_retention_us=0)
    core.handle(Wake(), moment(0.0))
    assert core.handle(PrepareFailed(), moment(1.0)) == ()
    assert wakeup_of(core) == 61.0


@pytest.mark.parametrize("moved_us", [-3 * DAY, -DAY - 120 * SECOND, DAY, 10 * DAY])
def test_a_wall_clock_that_left_the_day_that_was_prepared_is_followed_by_a_preparation_alone(
    moved_us: int,
) -> None:
    core = rested(at=0.0)
    assert core.handle(Wake(), Moment(60.0, 60 * SECOND)) == ()
    assert wakeup_of(core) == 120.0
    at = 120 * SECOND + moved_us
    assert core.handle(Wake(), Moment(120.0, at)) == (Prepare(now_at=at),)
    assert wakeup_of(core) is None
    assert core.handle(Prepared(), Moment(121.0, at)) == ()
    assert wakeup_of(core) == 181.0
    assert core.handle(Wake(), Moment(181.0, at + 60 * SECOND)) == ()


def test_a_wall_clock_that_moved_within_the_day_is_let_be() -> None:
    core = rested(at=0.0)
    for number, at in enumerate([23 * HOUR, -23 * HOUR, 0], start=1):
        assert core.handle(Wake(), Moment(60.0 * number, at)) == ()


def test_a_preparation_alone_that_failed_is_repeated_soon_and_the_next_round_comes_in_time() -> (
    None
):
    core = rested(at=0.0)
    assert core.handle(Wake(), Moment(60.0, 9 * DAY)) == (Prepare(now_at=9 * DAY),)
    assert core.handle(PrepareFailed(), Moment(61.0, 9 * DAY)) == ()
    assert wakeup_of(core) == 121.0
    assert core.handle(Wake(), Moment(121.0, 9 * DAY)) == (Prepare(now_at=9 * DAY),)
    assert core.handle(Prepared(), Moment(3_590.0, 9 * DAY)) == ()
    assert wakeup_of(core) == 3_600.0
    core.handle(Wake(), Moment(3_600.0, 9 * DAY))
    assert len(core.handle(Prepared(), Moment(3_600.0, 9 * DAY))) == 1


def rested(at: float) -> CustodianCore:
    """After a round, at this instant."""
    core = CustodianCore(interval_s=3_600.0, first_at=at, log_retention_us=0)
    core.handle(Wake(), moment(at))
    core.handle(Prepared(), moment(at))
    core.handle(LogsDropped(), moment(at))
    core.handle(ArtifactsSwept(after=None), moment(at))
    return core
