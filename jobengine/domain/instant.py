"""Instants: what a point in time is, and how it is written.

Two kinds of time exist and are never mixed. *Monotonic seconds* (`float`) are for waiting: they
never step, and mean nothing outside this process. *UTC microseconds* (`int`, since
1970-01-01T00:00:00Z, no leap seconds) are for records: names of such fields end in `_at`.
A `Moment` carries one reading of both, so that a decision which needs to record and to wait
takes them from the same tick.

I1  An instant lies in [AT_MIN, AT_MAX], the years 1970 to 9999; all else is a `ValueError`.
I2  `from_rfc3339(to_rfc3339(at))` is `at` rounded down to the millisecond.
I3  Within I1, text written by `to_rfc3339` sorts as the instants do.

Not here: reading a clock (`actors/runtime/clock.py`), zones and cron (`domain/cron.py`).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_QUOTED_CHARACTERS_MAX: Final = 48

AT_MIN: Final = 0
AT_MAX: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND

_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


class Moment(NamedTuple):
    """One reading of both clocks.

    `mono`: monotonic seconds, comparable with deadlines. `at`: UTC microseconds, for records.
    """

    mono: float
    at: int


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    # Instants written together mostly share their second; this makes the rest of one cheap.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def to_rfc3339(at: int) -> str:
    """`2026-11-21T10:00:00.123Z`: UTC, always three decimals, rounded down (RFC 3339 §5.6).

    Raises `ValueError` outside [AT_MIN, AT_MAX].
    """
    if not AT_MIN <= at <= AT_MAX:
        raise ValueError(f"instant {at} µs is outside the years 1970 to 9999")
    seconds, micros = divmod(at, SECOND)
    return f"{_to_the_second(seconds)}.{micros // MILLISECOND:03d}Z"


def from_rfc3339(text: str) -> int:
    """UTC microseconds of an RFC 3339 date-time with any offset; finer digits are cut off.

    `-00:00` (offset unknown) counts as UTC. Raises `ValueError` naming what is wrong: the form, a
    field out of its range, a leap second (UTC microseconds have no place for one), or a year
    outside 1970 to 9999 once the offset is applied.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{_quoted(text)} is not an RFC 3339 date-time with an offset,"
            " such as 2026-11-21T10:00:00.123Z"
        )
    *fields, fraction, sign, offset_hours, offset_minutes = match.groups()
    year, month, day, hour, minute, second = map(int, fields)
    if second == 60:
        raise ValueError(f"{_quoted(text)}: leap seconds are not supported")
    try:
        civil = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"{_quoted(text)}: {error}") from None
    at = (civil - _EPOCH) // _MICROSECOND
    if fraction is not None:
        at += int(fraction[:6].ljust(6, "0"))
    if sign is not None:
        at -= _offset(text, sign, int(offset_hours), int(offset_minutes))
    if not AT_MIN <= at <= AT_MAX:
        raise ValueError(f"{_quoted(text)} is outside the years 1970 to 9999")
    return at


def _offset(text: str, sign: str, hours: int, minutes: int) -> int:
    if hours > 23 or minutes > 59:
        raise ValueError(f"{_quoted(text)}: offset must be within -23:59 and +23:59")
    magnitude = hours * HOUR + minutes * MINUTE
    return -magnitude if sign == "-" else magnitude


def _quoted(text: str) -> str:
    if len(text) <= _QUOTED_CHARACTERS_MAX:
        return repr(text)
    return repr(text[:_QUOTED_CHARACTERS_MAX] + "…")
