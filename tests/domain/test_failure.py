"""Failure signatures and classes: like goes to like."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.failure import Failure, dead_letter_class, signature


def failed(message: str = "boom", class_: str = "Boom", status: int | None = None) -> Failure:
    return Failure(class_=class_, message=message, retryable=True, http_status=status)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no row 17 of 20", "no row 3 of 4000"),
        (
            "job 01890a5d-ac96-774b-bcce-b302099a8057 is gone",
            "job " + "0" * 8 + "-1111-7222-8333-444444444444 is gone",
        ),
        ("GET https://a.example/x?y=1 failed", "GET http://b.example:8080/other failed"),
        ("digest deadbeefdeadbeef0011 differs", "digest 0123456789abcdef0123456789 differs"),
        ("cannot open /var/tmp/a.json", "cannot open /srv/data/feeds/b.xml"),
        ("cannot reach registry.example.org:443", "cannot reach feeds.example.com"),
    ],
)
def test_occurrences_of_one_problem_share_a_signature(one: str, other: str) -> None:
    assert signature("scan", failed(one)) == signature("scan", failed(other))


def test_different_problems_have_different_signatures() -> None:
    problems = [
        ("scan", failed()),
        ("fetch", failed()),
        ("scan", failed("crash")),
        ("scan", failed(class_="Crash")),
        ("scan", failed(status=404)),
        ("scan", failed(status=503)),
    ]
    assert len({signature(job_type, failure) for job_type, failure in problems}) == len(problems)
    assert signature("scan", failed(status=502)) == signature("scan", failed(status=503))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=200), st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_never_tell_failures_apart(text: str, one: int, other: int) -> None:
    marks = {signature("scan", failed(f"{text} {number} left")) for number in (one, other)}
    assert len(marks) == 1
    [mark] = marks
    assert len(mark) == 16
    assert set(mark) <= set("0123456789abcdef")


def test_a_signature_of_a_hostile_message_is_found_in_no_time() -> None:
    started = time.process_time()
    for unit in ("a.", "/a", "a-", "0", "http://", "deadbeef-"):
        signature("scan", failed(unit * (16_384 // len(unit)) + "!"))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("failure", "reason", "expected"),
    [
        (failed(status=429), "error", "http_429"),
        (failed(status=500), "error", "http_5xx"),
        (failed(status=599), "error", "http_5xx"),
        (failed(status=404), "error", "other"),
        (failed(class_="ReadTimeout"), "error", "timeout"),
        (failed(), "timed_out", "timeout"),
        (failed(class_="DeadlineExceeded"), "error", "timeout"),
        (failed(class_="SchemaError"), "error", "schema_mismatch"),
        (failed(class_="ValidationError"), "error", "schema_mismatch"),
        (failed(class_="JSONDecodeError"), "error", "parse_error"),
        (failed(class_="LeaseExpired"), "lease_expired", "other"),
    ],
)
def test_dead_letters_gather_by_class(failure: Failure, reason: str, expected: str) -> None:
    assert dead_letter_class(failure, reason) == expected
