"""Instants: two spellings of one point in time, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.instant import AT_MAX, AT_MIN, HOUR, MILLISECOND, from_rfc3339, to_rfc3339

instants = st.integers(AT_MIN, AT_MAX)


@given(instants)
def test_a_written_instant_reads_back_rounded_down_to_the_millisecond(at: int) -> None:
    assert from_rfc3339(to_rfc3339(at)) == at - at % MILLISECOND


@given(instants, instants)
def test_text_sorts_as_the_instants_do(one: int, other: int) -> None:
    if one // MILLISECOND < other // MILLISECOND:
        assert to_rfc3339(one) < to_rfc3339(other)


@given(st.integers(AT_MIN + 24 * HOUR, AT_MAX - 24 * HOUR), st.integers(-1439, 1439))
def test_any_offset_names_the_same_instant(at: int, minutes: int) -> None:
    local = to_rfc3339(at + minutes * 60_000_000).removesuffix("Z")
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    assert from_rfc3339(local + offset) == at - at % MILLISECOND


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500_000),
        ("1970-01-01 00:00:00.1234569-00:00", 123_456),
        ("2026-11-21T10:00:00.123Z", 1_795_255_200_123_000),
        ("2026-11-21T11:30:00.123+01:30", 1_795_255_200_123_000),
        ("9999-12-31T23:59:59.999999Z", AT_MAX),
    ],
)
def test_known_texts_are_read(text: str, at: int) -> None:
    assert from_rfc3339(text) == at


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an RFC 3339"),
        ("2026-11-21", "not an RFC 3339"),
        ("2026-11-21T10:00:00", "with an offset"),
        ("2026-11-21T10:00:00Z\n", "not an RFC 3339"),
        ("٢٠٢٦-11-21T10:00:00Z", "not an RFC 3339"),
        ("2026-11-21T10:00:00+0100", "not an RFC 3339"),
        ("2026-13-21T10:00:00Z", "month"),
        ("2026-02-29T10:00:00Z", "day"),
        ("2026-11-21T24:00:00Z", "hour"),
        ("2026-11-21T10:60:00Z", "minute"),
        ("2026-11-21T10:00:61Z", "second"),
        ("2016-12-31T23:59:60Z", "leap seconds"),
        ("2026-11-21T10:00:00+24:00", "offset must be"),
        ("2026-11-21T10:00:00+01:60", "offset must be"),
        ("0000-01-01T00:00:00Z", "year"),
        ("1969-12-31T23:59:59Z", "outside the years"),
        ("1970-01-01T00:00:00+00:01", "outside the years"),
        ("9999-12-31T23:59:59-00:01", "outside the years"),
    ],
)
def test_a_refusal_names_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_rfc3339(text)


def test_a_refusal_quotes_no_more_than_a_little_of_the_text() -> None:
    with pytest.raises(ValueError, match="…") as caught:
        from_rfc3339("2" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("at", [AT_MIN - 1, AT_MAX + 1])
def test_an_instant_out_of_range_is_not_written(at: int) -> None:
    with pytest.raises(ValueError, match="outside the years"):
        to_rfc3339(at)
