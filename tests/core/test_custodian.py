"""The custodian: rounds of preparing and sweeping, one after another."""

import pytest

from jobengine.core.custodian import CustodianCore
from jobengine.domain.instant import DAY, HOUR, SECOND, Moment
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

PLACE = (7, "acme", "c")


def moment(mono: float) -> Moment:
    return Moment(mono=mono, at=round(mono * 1_000_000))


def wakeup_of(core: CustodianCore) -> float | None:
    return core.wakeup_at


def test_a_round_prepares_drops_what_is_old_sweeps_step_by_step_and_then_rests() -> None:
    core = CustodianCore(interval_s=100.0, first_at=5.0, log_retention_us=2_000_000)
    assert wakeup_of(core) == 5.0
    assert core.handle(Wake(), moment(5.0)) == (Prepare(now_at=5_000_000),)
    assert wakeup_of(core) is None
    assert core.handle(Prepared(), moment(6.0)) == ()
    for at in range(66, 607, 60):
        assert wakeup_of(core) == min(at, 605)
        if at < 605:
            assert core.handle(Wake(), moment(at)) == ()
    assert core.handle(Wake(), moment(605.0)) == (Prepare(now_at=605_000_000),)
    assert core.handle(Prepared(), moment(606.0)) == (
        DropOld(now_at=606_000_000, logs_before_at=604_000_000),
    )
    assert core.handle(OldDropped(), moment(606.0)) == (
        SweepArtifacts(now_at=606_000_000, after=None),
    )
    assert core.handle(ArtifactsSwept(after=PLACE), moment(607.0)) == (
        SweepArtifacts(now_at=607_000_000, after=PLACE),
    )
    assert wakeup_of(core) is None
    assert core.handle(ArtifactsSwept(after=None), moment(608.0)) == ()
    assert wakeup_of(core) == 668.0
    assert core.handle(Wake(), moment(668.0)) == ()
    assert wakeup_of(core) == 708.0
    assert core.handle(Wake(), moment(708.0)) == (Prepare(now_at=708_000_000),)


@pytest.mark.parametrize("moved_us", [-HOUR, HOUR])
def test_nothing_is_dropped_by_a_clock_that_was_set_until_it_has_kept_pace_for_a_while(
    moved_us: int,
) -> None:
    core = rested(at=0.0)
    at = 3_600 * SECOND + moved_us
    assert core.handle(Wake(), Moment(3_600.0, at)) == (Prepare(now_at=at),)
    assert core.handle(Prepared(), Moment(3_601.0, at + SECOND)) == ()
    for second in range(3_660, 4_200, 60):
        assert core.handle(Wake(), Moment(second, at + (second - 3_600) * SECOND)) == ()
    again_at = at + 600 * SECOND
    assert core.handle(Wake(), Moment(4_200.0, again_at)) == (Prepare(now_at=again_at),)
    assert core.handle(Prepared(), Moment(4_200.0, again_at)) == (
        DropOld(now_at=again_at, logs_before_at=again_at),
    )


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
    assert len(core.handle(Wake(), Moment(3_600.0, 9 * DAY))) == 1


def rested(at: float) -> CustodianCore:
    """After a round, at this instant."""
    core = CustodianCore(interval_s=3_600.0, first_at=at, log_retention_us=0)
    core.handle(Wake(), moment(at))
    core.handle(Prepared(), moment(at))
    core.handle(OldDropped(), moment(at))
    core.handle(ArtifactsSwept(after=None), moment(at))
    return core
