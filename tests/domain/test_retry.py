"""Retry delays: bounded, spread out, and the same wherever they are computed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.job import Backoff
from jobengine.domain.retry import retry_delay_us

NAMES = st.text(max_size=40)
FAILURES = st.integers(1, 10_000)
BACKOFFS = st.builds(
    Backoff,
    base_us=st.integers(0, 10**12),
    max_us=st.integers(0, 10**12),
    kind=st.sampled_from(["exponential", "linear", "fixed"]),
    jitter=st.sampled_from(["full", "none"]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(NAMES, FAILURES, BACKOFFS, st.none() | st.integers(0, 10**13))
def test_a_delay_is_within_its_bounds_and_never_before_retry_after(
    job_id: str, failures: int, backoff: Backoff, retry_after_us: int | None
) -> None:
    delay = retry_delay_us(job_id, failures, backoff, retry_after_us)
    assert delay == retry_delay_us(job_id, failures, backoff, retry_after_us)
    assert (retry_after_us or 0) <= delay <= max(backoff.max_us, retry_after_us or 0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("exponential", [1, 2, 4, 8, 16, 30, 30]),
        ("linear", [1, 2, 3, 4, 5, 6, 7]),
        ("fixed", [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_without_jitter_delays_grow_as_their_kind_says(kind: str, expected: list[int]) -> None:
    backoff = Backoff(kind=kind, jitter="none", max_us=30_000_000)
    delays = [retry_delay_us("job", n, backoff) // 1_000_000 for n in range(1, 8)]
    assert delays == expected


def test_full_jitter_spreads_delays_evenly_and_differs_by_job_and_failure() -> None:
    backoff = Backoff(kind="fixed", base_us=1_000_000)
    delays = [retry_delay_us(f"job-{n}", 1, backoff) for n in range(2_000)]
    tenths = [sum(d * 10 // 1_000_000 == tenth for d in delays) for tenth in range(10)]
    assert min(tenths) > 150
    assert len(set(delays)) > 1_900
    assert len({retry_delay_us("job", n, backoff) for n in range(1, 100)}) > 90


def test_a_known_delay_stays_what_it_is() -> None:
    """Replays of old ledgers compute it again."""
    assert retry_delay_us("00000000-0000-7000-8000-000000000001", 3, Backoff()) == 1_847_319
