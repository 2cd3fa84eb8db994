"""The arithmetic of the benchmarks."""

import json

import pytest

from bench.harness.report import Report, percentile
from bench.recovery import best_rate, median_rate, rate_before, recovered_at

SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def report(durability: dict[str, str]) -> Report:
    return Report("toy", "jobs_per_s", "jobs/s", {}, durability, {})


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile([5.0, 1.0, 3.0], 0.99) == 5.0
    assert percentile([7.0], 0.0) == 7.0


def test_the_headline_is_the_first_case_and_every_case_has_its_median() -> None:
    toy = report(SAFE)
    for case, figure in (("a", 3.0), ("b", 10.0), ("a", 1.0), ("a", 8.0)):
        toy.add(case, jobs_per_s=figure)
    document = toy.document()
    assert document["cases"] == {
        "a": {"median": 3.0, "min": 1.0, "max": 8.0},
        "b": {"median": 10.0, "min": 10.0, "max": 10.0},
    }
    assert (document["median"], document["min"], document["max"]) == (3.0, 1.0, 8.0)


@pytest.mark.parametrize(
    ("durability", "durable"),
    [(SAFE, True), (SAFE | {"fsync": "off"}, False), ({}, False)],
)
def test_only_a_server_that_is_known_to_be_durable_is_not_marked(
    durability: dict[str, str], durable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = report(durability)
    toy.add("a", jobs_per_s=1.0)
    toy.show()
    out = capsys.readouterr().out
    assert ("NOT DURABLE" in out) is not durable
    assert ("1.0 *" in out) is not durable
    assert json.loads(out.splitlines()[-1])["name"] == "toy"


def test_the_rate_before_a_kill_is_that_of_the_second_half() -> None:
    track = [(0.0, 0), (1.0, 10), (2.0, 110), (3.0, 210), (4.0, 310), (5.0, 310)]
    assert rate_before(track, at=4.0, seconds=4.0) == 100.0
    assert rate_before([], at=4.0, seconds=4.0) == 0.0


def test_recovery_is_the_start_of_the_first_window_at_full_rate() -> None:
    stalled = [(10.0 + n / 10, 100) for n in range(10)]
    flowing = [(11.0 + n / 10, 100 + 10 * n) for n in range(10)]
    assert recovered_at(stalled, 10.0, rate=80.0) is None
    at = recovered_at([*stalled, *flowing], 10.0, rate=80.0)
    assert at is not None
    assert 10.8 <= at <= 11.1


def test_the_whole_rate_is_the_median_second_before_and_one_second_after() -> None:
    uneven = [(n / 10, 10 * n if n < 70 else 10 * n + 500) for n in range(81)]
    assert median_rate(uneven, at=8.0, seconds=8.0) == pytest.approx(100.0)
    burst = [(8.0, 0), (8.5, 80), (9.0, 80), (9.5, 80), (10.0, 130), (10.5, 180)]
    assert recovered_at(burst, 8.0, rate=100.0) == 8.0
    assert recovered_at(burst, 8.0, rate=100.0, window_s=1.0) == 9.5


def test_the_best_rate_after_a_restart_is_that_of_a_whole_window() -> None:
    track = [(1.0, 0), (1.1, 90), (1.5, 100), (2.0, 400), (2.5, 450)]
    assert best_rate(track, after=1.0) == 600.0
    assert best_rate(track, after=2.2) == 0.0
