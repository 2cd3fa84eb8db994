"""Adaptive concurrency: single windows by hand, and whole lives against simulated sources."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.concurrency import (
    AdaptiveConcurrency,
    ConcurrencyState,
    LimitCause,
    LimitChange,
)
from jobengine.domain.instant import HOUR, MILLISECOND, MINUTE, SECOND
from jobengine.domain.outcome import Outcome

T0 = 1_800_000_000 * SECOND
GOOD, BAD, UNREACHABLE = Outcome.GOOD, Outcome.BAD, Outcome.UNREACHABLE
WINDOW = 10 * SECOND


def window(
    limiter: AdaptiveConcurrency,
    at: int,
    *outcomes: Outcome | None,
    run_us: int = SECOND,
    running: int = 40,
) -> LimitChange | None:
    """The ends of one window, spread over the ten seconds before ``at``."""
    change = None
    for number, outcome in enumerate(outcomes, 1):
        ended_at = at - WINDOW + WINDOW * number // len(outcomes)
        change = limiter.ended(ended_at, run_us, running, outcome) or change
    return change


def begun() -> AdaptiveConcurrency:
    """With a baseline of a second, at the beginning of a window."""
    limiter = AdaptiveConcurrency()
    limiter.ended(T0 - WINDOW, SECOND, 1, None)
    assert window(limiter, T0, *[GOOD] * 20) is None
    assert limiter.state.baseline_us == SECOND
    return limiter


def test_nothing_is_limited_until_it_is_needed() -> None:
    limiter = begun()
    assert limiter.limit is None
    assert limiter.admits(10**6)


@pytest.mark.parametrize("bad", [BAD, UNREACHABLE])
def test_errors_halve_what_really_ran_and_say_what_was_seen(bad: Outcome) -> None:
    limiter = begun()
    change = window(limiter, T0 + WINDOW, *[GOOD] * 16, *[bad] * 4, running=40)
    assert change is not None
    assert change.limit_before is None
    assert (change.state.limit, change.state.needed) == (20, 40)
    assert change.state.cause is LimitCause.ERRORS
    assert (change.state.observed, change.state.threshold) == (20, 20)
    assert limiter.admits(19)
    assert not limiter.admits(20)


def test_fewer_errors_than_the_threshold_limit_nothing() -> None:
    assert window(begun(), T0 + WINDOW, *[GOOD] * 17, *[BAD] * 4) is None


@pytest.mark.parametrize(
    ("run_us", "limit"),
    [(2 * SECOND, None), (2_100 * MILLISECOND, 36), (2_500 * MILLISECOND, 32), (7 * SECOND, 20)],
)
def test_latency_lowers_by_how_far_it_climbed_between_a_tenth_and_a_half(
    run_us: int, limit: int | None
) -> None:
    limiter = begun()
    change = window(limiter, T0 + WINDOW, *[GOOD] * 20, run_us=run_us, running=40)
    assert limiter.limit == limit
    if change is not None:
        assert change.state.cause is LimitCause.LATENCY
        assert (change.state.observed, change.state.threshold) == (run_us, 2 * SECOND)


def test_very_short_jobs_may_double_within_the_slack() -> None:
    limiter = AdaptiveConcurrency()
    limiter.ended(T0 - WINDOW, MILLISECOND, 1, None)
    window(limiter, T0, *[GOOD] * 20, run_us=MILLISECOND)
    assert window(limiter, T0 + WINDOW, *[GOOD] * 20, run_us=8 * MILLISECOND) is None


def test_one_very_long_job_in_a_full_window_lowers_nothing() -> None:
    limiter = begun()
    window(limiter, T0 + WINDOW - 1, *[GOOD] * 19)
    assert limiter.ended(T0 + WINDOW, HOUR, 40, GOOD) is None
    assert limiter.limit is None


def test_it_is_lowered_once_a_window_however_many_errors_come() -> None:
    limiter = begun()
    window(limiter, T0 + WINDOW, *[BAD] * 20)
    assert window(limiter, T0 + 2 * WINDOW - 1, *[BAD] * 500) is None
    assert limiter.ended(T0 + 2 * WINDOW, SECOND, 20, BAD) is not None


def test_a_window_lasts_as_long_as_an_average_run_so_that_old_starts_do_not_count_twice() -> None:
    limiter = AdaptiveConcurrency()
    limiter.ended(T0 - WINDOW, MINUTE, 1, None)
    window(limiter, T0, *[GOOD] * 20, run_us=MINUTE)
    assert window(limiter, T0 + MINUTE, *[BAD] * 20) is not None
    assert window(limiter, T0 + 2 * MINUTE - 1, *[BAD] * 20) is None
    assert limiter.ended(T0 + 2 * MINUTE, MINUTE, 20, BAD) is not None


def test_it_never_goes_below_one_and_the_floor_is_no_change() -> None:
    limiter = begun()
    at = T0
    limits = []
    for _ in range(12):
        at += WINDOW
        change = window(limiter, at, *[BAD] * 20, running=limiter.limit or 40)
        if change is not None:
            limits.append(change.state.limit)
    assert limits == [20, 10, 5, 2, 1]
    assert limiter.admits(0)


def test_it_is_raised_only_when_it_was_used() -> None:
    limiter = begun()
    window(limiter, T0 + WINDOW, *[BAD] * 20)
    assert window(limiter, T0 + 2 * WINDOW, *[GOOD] * 20, running=19) is None
    change = window(limiter, T0 + 3 * WINDOW, *[GOOD] * 20, running=20)
    assert change is not None
    assert (change.limit_before, change.state.limit) == (20, 24)
    assert change.state.cause is LimitCause.USED


def test_past_what_ran_before_the_limit_is_lifted() -> None:
    limiter = begun()
    at = T0 + WINDOW
    window(limiter, at, *[BAD] * 20, running=40)
    limits = []
    while limiter.limit is not None:
        at += WINDOW
        window(limiter, at, *[GOOD] * 20, running=limiter.limit)
        limits.append(limiter.limit)
    assert limits == [24, 28, 33, 38, None]
    assert limiter.state.cause is LimitCause.OUTGROWN
    assert limiter.state.needed == 0


def test_an_hour_without_pushback_lifts_a_limit_that_is_not_used() -> None:
    limiter = begun()
    at = T0 + WINDOW
    window(limiter, at, *[BAD] * 20, running=40)
    pushed_at = at
    while limiter.limit is not None:
        at += WINDOW
        window(limiter, at, *[GOOD] * 20, running=2)
    assert at - pushed_at == HOUR
    assert limiter.state.cause is LimitCause.STALE


def test_ends_that_do_not_speak_of_the_source_decide_nothing() -> None:
    limiter = begun()
    assert window(limiter, T0 + HOUR, *[None] * 200, run_us=HOUR) is None
    assert limiter.state == begun().state


def test_a_source_that_stays_slower_becomes_the_new_normal() -> None:
    limiter = begun()
    simulation = Simulation(limiter, lambda *_: (4 * SECOND, GOOD), 40)
    simulation.run(T0 + 30 * MINUTE)
    lowered = [c for c in simulation.changes if c.state.cause is LimitCause.LATENCY]
    assert lowered
    assert lowered[-1].at < T0 + 10 * MINUTE
    assert limiter.limit is None


def test_a_clock_that_steps_back_begins_a_new_window() -> None:
    limiter = begun()
    window(limiter, T0 + WINDOW - 1, *[BAD] * 19)
    assert window(limiter, T0 - HOUR, *[GOOD] * 20) is None
    assert limiter.limit is None


def test_a_restored_limit_stands_where_it_stood() -> None:
    limiter = begun()
    window(limiter, T0 + WINDOW, *[BAD] * 20)
    stored = msgspec.json.encode(limiter.state)
    restored = AdaptiveConcurrency(state=msgspec.json.decode(stored, type=ConcurrencyState))
    assert restored.state == limiter.state
    assert restored.limit == 20
    for each in (limiter, restored):
        each.ended(T0 + WINDOW, SECOND, 20, None)
    at = T0 + 2 * WINDOW
    assert window(restored, at, *[GOOD] * 20, running=20) == window(
        limiter, at, *[GOOD] * 20, running=20
    )


@attrs.define
class Simulation:
    """``demand`` jobs want to run at all times; ``serve(at, running)`` answers how long a job that
    starts now beside the others will take and how it will end."""

    limiter: AdaptiveConcurrency
    serve: Callable[[int, int], tuple[int, Outcome]]
    demand: int
    at: int = T0
    ends: list[tuple[int, int, int, Outcome]] = attrs.field(factory=list)
    numbers: count = attrs.field(factory=count)
    changes: list[LimitChange] = attrs.field(factory=list)
    running_seen: list[tuple[int, int]] = attrs.field(factory=list)

    def run(self, until: int) -> None:
        while self.at < until:
            while len(self.ends) < self.demand and self.limiter.admits(len(self.ends)):
                run_us, outcome = self.serve(self.at, len(self.ends) + 1)
                heappush(self.ends, (self.at + run_us, next(self.numbers), run_us, outcome))
            running = len(self.ends)
            self.running_seen.append((self.at, running))
            self.at, _, run_us, outcome = heappop(self.ends)
            change = self.limiter.ended(self.at, run_us, running, outcome)
            if change is not None:
                self.changes.append(change)
            assert self.limiter.limit is None or self.limiter.limit >= 1


@settings(max_examples=20, deadline=None)
@given(
    run_us=st.integers(500 * MILLISECOND, 20 * SECOND),
    demand=st.integers(1, 40),
)
def test_equal_latency_without_errors_never_limits(run_us: int, demand: int) -> None:
    simulation = Simulation(AdaptiveConcurrency(), lambda *_: (run_us, GOOD), demand)
    simulation.run(T0 + 5 * MINUTE)
    assert simulation.changes == []


@pytest.mark.parametrize("demand", [2, 5, 20])
def test_runs_that_vary_widely_are_no_reason_to_limit(demand: int) -> None:
    dice = Random(1)

    def serve(*_: int) -> tuple[int, Outcome]:
        return int(2 * SECOND * dice.lognormvariate(0, 1)), GOOD

    simulation = Simulation(AdaptiveConcurrency(), serve, demand)
    simulation.run(T0 + HOUR)
    assert simulation.changes == []


@settings(max_examples=20, deadline=None)
@given(
    run_us=st.integers(2 * SECOND, 20 * SECOND),
    slow=st.integers(1, 10),
    outcome=st.sampled_from([GOOD, BAD, UNREACHABLE]),
    outage_s=st.integers(20, 600),
    demand=st.integers(1, 40),
)
def test_after_an_outage_it_recovers_to_unlimited(
    run_us: int, slow: int, outcome: Outcome, outage_s: int, demand: int
) -> None:
    begins = T0 + 2 * MINUTE
    ends = begins + outage_s * SECOND

    def serve(at: int, _: int) -> tuple[int, Outcome]:
        return (run_us * slow, outcome) if begins <= at < ends else (run_us, GOOD)

    simulation = Simulation(AdaptiveConcurrency(), serve, demand)
    simulation.run(ends + 30 * MINUTE)
    assert simulation.limiter.limit is None
    if outcome is not GOOD and demand > 1 and outage_s >= 120:
        assert simulation.changes


@pytest.mark.parametrize("capacity", [5, 20])
def test_a_source_that_slows_under_load_settles_near_what_it_can_bear(capacity: int) -> None:
    def serve(_: int, running: int) -> tuple[int, Outcome]:
        return max(SECOND, SECOND * running // capacity), GOOD

    limiter = AdaptiveConcurrency()
    calm = Simulation(limiter, serve, capacity)
    calm.run(T0 + MINUTE)
    assert limiter.limit is None
    flood = Simulation(limiter, serve, capacity * 8, at=calm.at)
    flood.run(T0 + 20 * MINUTE)
    settled = [running for at, running in flood.running_seen if at > T0 + 4 * MINUTE]
    assert capacity <= min(settled)
    assert max(settled) <= 3 * capacity


def test_two_runs_agree_in_every_change() -> None:
    def life() -> list[LimitChange]:
        def serve(at: int, running: int) -> tuple[int, Outcome]:
            bad = at // SECOND % 97 < 20
            return SECOND + running * 7_919, BAD if bad else GOOD

        simulation = Simulation(AdaptiveConcurrency(), serve, 30)
        simulation.run(T0 + 30 * MINUTE)
        return simulation.changes

    assert life() == life()
    assert len(life()) > 10
