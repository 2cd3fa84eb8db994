"""Token buckets: what is granted is bounded, refusals cost nothing, memory is bounded."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.core.request_limit import Rate, RequestLimit, take_of_all

STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.floats(0, 5, allow_subnormal=False)), max_size=120
)
RATES = st.builds(Rate, st.floats(0.1, 50), st.integers(1, 20))


@given(RATES, STEPS)
def test_no_span_grants_more_than_burst_and_rate_allow(
    rate: Rate, steps: list[tuple[str, float]]
) -> None:
    limit, now = RequestLimit(rate), 100.0
    granted: dict[str, list[float]] = {"a": [], "b": []}
    for name, pause_s in steps:
        now += pause_s
        if limit.take(name, now).granted:
            granted[name].append(now)
    for at in granted.values():
        for first in range(len(at)):
            for last in range(first, len(at)):
                allowed = rate.burst + rate.per_s * (at[last] - at[first])
                assert last - first + 1 <= allowed + 1e-6


@given(RATES, STEPS)
def test_a_refused_request_is_granted_when_it_comes_again_after_the_time_it_was_told(
    rate: Rate, steps: list[tuple[str, float]]
) -> None:
    limit, now = RequestLimit(rate), 0.0
    for name, pause_s in steps:
        now += pause_s
        verdict = limit.take(name, now)
        assert 0 <= verdict.remaining <= rate.burst
        if not verdict.granted:
            assert verdict.retry_s > 0
            assert limit.look(name, now + verdict.retry_s + 1e-6).granted


@given(STEPS)
def test_a_bucket_is_full_again_when_it_says_so(steps: list[tuple[str, float]]) -> None:
    limit, now = RequestLimit(Rate(2.0, 5)), 0.0
    for name, pause_s in steps:
        now += pause_s
        verdict = limit.take(name, now)
        assert math.isclose(limit.level(name, now + verdict.full_s), 5)


def test_a_request_that_one_limit_refuses_takes_nothing_of_the_other() -> None:
    token, tenant = RequestLimit(Rate(1, 1)), RequestLimit(Rate(1, 5))
    asked = [(token, "t"), (tenant, "acme")]
    assert all(verdict.granted for verdict in take_of_all(asked, 0.0))
    assert [verdict.granted for verdict in take_of_all(asked, 0.0)] == [False, True]
    assert tenant.level("acme", 0.0) == 4


def test_time_that_runs_backwards_adds_nothing() -> None:
    limit = RequestLimit(Rate(1, 2))
    assert limit.take("a", 10.0).granted
    assert limit.take("a", 5.0).granted
    assert not limit.take("a", 10.0).granted
    assert limit.take("a", 11.0).granted


def test_the_name_granted_longest_ago_is_forgotten_first() -> None:
    limit = RequestLimit(Rate(0.001, 1), names_max=2)
    for name in "abac":
        limit.take(name, 0.0)
    assert len(limit) == 2
    assert not limit.take("b", 0.0).granted
    assert limit.take("a", 0.0).granted


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_grants_nothing_is_refused(per_s: float, burst: int) -> None:
    with pytest.raises(ValueError, match=r"per_s|burst"):
        Rate(per_s, burst)
