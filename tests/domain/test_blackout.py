"""Blackout calendars: golden cases for changes of clocks, and an oracle that walks each minute."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import TZPATH, ZoneInfo, reset_tzpath

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.blackout import (
    MERGED_MAX,
    Blackout,
    BlackoutGate,
    BlackoutScope,
    Calendar,
    OneOff,
    Recurring,
    Rule,
    Window,
    next_change_at,
    preview,
    window_at,
)
from jobengine.domain.blackout_refusals import (
    DURATION_US_MAX,
    RECURRING_MAX,
    RULES_MAX,
    refuse_blackout,
)
from jobengine.domain.instant import DAY, HOUR, MINUTE, SECOND, from_rfc3339, to_rfc3339

NOW = from_rfc3339("2026-11-22T10:00:00Z")


def at(text: str) -> int:
    return from_rfc3339(f"{text}:00Z")


def once(start: str, end: str) -> OneOff:
    return OneOff(start_at=at(start), end_at=at(end))


def cron(pattern: str, duration_us: int = HOUR, zone: str = "UTC") -> Recurring:
    return Recurring(cron=pattern, duration_us=duration_us, zone=zone)


def blackout(*rules: Rule) -> Blackout:
    return Blackout(
        blackout_id="b1", scope=BlackoutScope.TENANT, reason="quarter end", calendar=rules
    )


def shown(windows: tuple[Window, ...]) -> list[str]:
    """To the minute, which is exact here."""
    assert all(instant % MINUTE == 0 for window in windows for instant in window)
    return [f"{to_rfc3339(w.start_at)[:16]} {to_rfc3339(w.end_at)[:16]}" for w in windows]


GOLDEN = {
    "Berlin, a start in the gap begins when the gap is over": (
        cron("30 2 * * *", HOUR, "Europe/Berlin"),
        "2026-03-28T00:00",
        [
            "2026-03-28T01:30 2026-03-28T02:30",
            "2026-03-29T01:00 2026-03-29T02:00",
            "2026-03-30T00:30 2026-03-30T01:30",
        ],
    ),
    "Berlin, all starts in one gap are one": (
        cron("*/15 2 * * *", 10 * MINUTE, "Europe/Berlin"),
        "2026-03-29T00:00",
        ["2026-03-29T01:00 2026-03-29T01:10", "2026-03-30T00:00 2026-03-30T00:10"],
    ),
    "Berlin, a start that exists twice begins once, at the first": (
        cron("30 2 * * *", HOUR, "Europe/Berlin"),
        "2026-10-24T00:00",
        [
            "2026-10-24T00:30 2026-10-24T01:30",
            "2026-10-25T00:30 2026-10-25T01:30",
            "2026-10-26T01:30 2026-10-26T02:30",
        ],
    ),
    "Berlin, a duration is elapsed time in spring": (
        cron("0 22 * * *", 8 * HOUR, "Europe/Berlin"),
        "2026-03-28T12:00",
        ["2026-03-28T21:00 2026-03-29T05:00", "2026-03-29T20:00 2026-03-30T04:00"],
    ),
    "Berlin, a duration is elapsed time in autumn": (
        cron("0 22 * * *", 8 * HOUR, "Europe/Berlin"),
        "2026-10-24T12:00",
        ["2026-10-24T20:00 2026-10-25T04:00", "2026-10-25T21:00 2026-10-26T05:00"],
    ),
    "New York, gap": (
        cron("30 2 * * SUN", HOUR, "America/New_York"),
        "2026-03-01T00:00",
        [
            "2026-03-01T07:30 2026-03-01T08:30",
            "2026-03-08T07:00 2026-03-08T08:00",
            "2026-03-15T06:30 2026-03-15T07:30",
        ],
    ),
    "New York, overlap": (
        cron("30 1 * * *", HOUR, "America/New_York"),
        "2026-11-01T00:00",
        ["2026-11-01T05:30 2026-11-01T06:30", "2026-11-02T06:30 2026-11-02T07:30"],
    ),
    "Lord Howe, a gap of half an hour": (
        cron("15 2 * * *", HOUR, "Australia/Lord_Howe"),
        "2026-10-02T00:00",
        [
            "2026-10-02T15:45 2026-10-02T16:45",
            "2026-10-03T15:30 2026-10-03T16:30",
            "2026-10-04T15:15 2026-10-04T16:15",
        ],
    ),
    "Lord Howe, half an hour twice": (
        cron("45 1 * * *", 20 * MINUTE, "Australia/Lord_Howe"),
        "2026-04-04T12:00",
        ["2026-04-04T14:45 2026-04-04T15:05", "2026-04-05T15:15 2026-04-05T15:35"],
    ),
    "Kolkata, half an hour off and no change": (
        cron("30 2 * * *", HOUR, "Asia/Kolkata"),
        "2026-03-28T12:00",
        ["2026-03-28T21:00 2026-03-28T22:00", "2026-03-29T21:00 2026-03-29T22:00"],
    ),
    "UTC": (
        cron("30 2 29 * *", HOUR, "UTC"),
        "2026-03-01T00:00",
        ["2026-03-29T02:30 2026-03-29T03:30", "2026-04-29T02:30 2026-04-29T03:30"],
    ),
    "Apia, a start on the day that was left out begins with the next": (
        cron("0 6 * * *", HOUR, "Pacific/Apia"),
        "2011-12-29T12:00",
        [
            "2011-12-29T16:00 2011-12-29T17:00",
            "2011-12-30T10:00 2011-12-30T11:00",
            "2011-12-30T16:00 2011-12-30T17:00",
        ],
    ),
    "Apia, only the day that was left out": (
        cron("0 6 30 12 *", HOUR, "Pacific/Apia"),
        "2011-12-29T12:00",
        ["2011-12-30T10:00 2011-12-30T11:00", "2012-12-29T16:00 2012-12-29T17:00"],
    ),
    "a leap day": (
        cron("0 0 29 2 *", DAY),
        "2026-01-01T00:00",
        ["2028-02-29T00:00 2028-03-01T00:00", "2032-02-29T00:00 2032-03-01T00:00"],
    ),
    "the last day of a month, and days by name": (
        cron("0 0 L * *", HOUR),
        "2026-02-01T00:00",
        ["2026-02-28T00:00 2026-02-28T01:00", "2026-03-31T00:00 2026-03-31T01:00"],
    ),
    "two days that touch are one window": (
        cron("0 0 * * SAT,SUN", DAY),
        "2026-11-22T10:00",
        ["2026-11-21T00:00 2026-11-23T00:00", "2026-11-28T00:00 2026-11-30T00:00"],
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_changes_of_clocks_are_treated_as_written_down(case: str) -> None:
    rule, start, expected = GOLDEN[case]
    windows = preview((rule,), at(start), len(expected))
    assert shown(windows) == expected
    for window in windows:
        assert window_at((rule,), window.start_at) == window
        assert window_at((rule,), window.end_at - 1) == window
        assert window_at((rule,), window.end_at) is None
        assert window_at((rule,), window.start_at - 1) is None
        assert next_change_at((rule,), window.start_at - 1) == window.start_at
        assert next_change_at((rule,), window.start_at) == window.end_at


def test_the_host_s_own_zones_are_not_asked() -> None:
    kept = TZPATH
    reset_tzpath(to=())
    try:
        windows = preview((cron("0 0 * * *", HOUR, "Europe/Vienna"),), NOW, 1)
    finally:
        reset_tzpath(to=kept)
    assert shown(windows) == ["2026-11-22T23:00 2026-11-23T00:00"]


def test_a_window_that_began_in_the_first_of_two_equal_hours_is_over_in_the_second() -> None:
    calendar: Calendar = (cron("45 2 * * *", 5 * MINUTE, "Europe/Berlin"),)
    assert window_at(calendar, at("2026-10-25T00:49")) is not None
    for instant in ("2026-10-25T00:50", "2026-10-25T01:35", "2026-10-25T01:45"):
        assert window_at(calendar, at(instant)) is None
        assert next_change_at(calendar, at(instant)) == at("2026-10-26T01:45")


@pytest.mark.parametrize("minute", range(60))
def test_every_minute_of_a_gap_leads_to_the_same_instant(minute: int) -> None:
    calendar: Calendar = (cron(f"{minute} 2 * * *", HOUR, "Europe/Berlin"),)
    assert next_change_at(calendar, at("2026-03-29T00:00")) == at("2026-03-29T01:00")


def test_many_starts_in_one_gap_are_no_chain_of_windows() -> None:
    asked = blackout(cron("*/2 0-22 * * *", MINUTE, "Pacific/Apia"))
    assert refuse_blackout(asked, at("2011-12-30T09:59")) is None


def test_windows_of_different_rules_that_overlap_or_touch_are_one() -> None:
    calendar: Calendar = (
        once("2026-12-24T12:00", "2026-12-27T00:00"),
        cron("0 22 * * *", 8 * HOUR),
        once("2026-12-27T06:00", "2026-12-27T09:00"),
    )
    expected = Window(at("2026-12-23T22:00"), at("2026-12-24T06:00"))
    assert window_at(calendar, at("2026-12-24T01:00")) == expected
    merged = Window(at("2026-12-24T12:00"), at("2026-12-27T09:00"))
    for instant in ("2026-12-24T12:00", "2026-12-25T05:00", "2026-12-27T08:59"):
        assert window_at(calendar, at(instant)) == merged
    assert next_change_at(calendar, at("2026-12-25T05:00")) == merged.end_at


def test_a_preview_begins_with_the_window_that_covers_the_instant() -> None:
    calendar: Calendar = (once("2026-11-22T09:00", "2026-11-22T11:00"), cron("0 10 * * MON"))
    assert shown(preview(calendar, NOW, 2)) == [
        "2026-11-22T09:00 2026-11-22T11:00",
        "2026-11-23T10:00 2026-11-23T11:00",
    ]
    assert len(preview(calendar, NOW, 1)) == 1


def test_a_calendar_that_is_over_never_changes_again() -> None:
    calendar: Calendar = (once("2026-11-20T00:00", "2026-11-21T00:00"),)
    assert window_at(calendar, NOW) is None
    assert next_change_at(calendar, NOW) is None
    assert preview(calendar, NOW, 5) == ()
    gate = BlackoutGate(blackout(*calendar))
    assert gate.closed_until(NOW) is None
    assert gate.next_change_at(NOW) is None


def test_the_gate_answers_as_the_functions_do_in_any_order_of_time() -> None:
    calendar: Calendar = (
        once("2026-11-22T23:00", "2026-11-23T03:00"),
        cron("*/30 2 * * *", 20 * MINUTE, "Europe/Berlin"),
    )
    gate = BlackoutGate(blackout(*calendar))
    instants = [NOW + n * 11 * MINUTE for n in range(150)]
    for instant in (*instants, *reversed(instants), NOW - 300 * DAY, NOW + 300 * DAY):
        window = window_at(calendar, instant)
        assert gate.window(instant) == window
        assert gate.closed_until(instant) == (window and window.end_at)
        assert gate.next_change_at(instant) == next_change_at(calendar, instant)


def test_the_gate_keeps_its_answer_until_time_has_passed_the_next_change() -> None:
    gate = BlackoutGate(blackout(cron("0 12 * * *")))
    window = gate.window(at("2026-11-22T12:00"))
    assert window is not None
    assert gate.window(at("2026-11-22T12:59")) is window
    assert gate.window(at("2026-11-22T13:00")) is None
    assert gate.window(at("2026-11-22T12:59")) is not window


def test_a_closure_of_very_many_windows_is_told_in_parts_that_leave_no_break() -> None:
    calendar: Calendar = (cron("* * * * *", MINUTE),)
    instant = NOW
    for _ in range(5):
        window = window_at(calendar, instant)
        assert window is not None
        assert window.end_at - instant == MERGED_MAX * MINUTE
        instant = window.end_at
    parts = preview(calendar, NOW, 4)
    assert all(a.end_at == b.start_at for a, b in pairwise(parts))


PATTERNS = st.tuples(
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.sets(st.integers(0, 4), min_size=1, max_size=3),
)
CHANGES = st.sampled_from(
    [
        ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 10, 4, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 5, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 4, 5, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),
    ]
)


@cache
def walked(zone: str, day: datetime) -> tuple[datetime, list[datetime], dict[datetime, int]]:
    """The wall's time at each minute around ``day``, and the first minute that shows each time."""
    begin = day - timedelta(days=2)
    minutes = [begin + timedelta(minutes=n) for n in range(5 * 24 * 60)]
    walls = [m.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for m in minutes]
    return begin, walls, {wall: n for n, wall in reversed(list(enumerate(walls)))}


def closed_minutes(
    zone: str, day: datetime, patterns: list[tuple[set[int], set[int], int]]
) -> tuple[datetime, list[bool]]:
    """Which of the minutes around ``day`` are closed, by walking all of them."""
    begin, walls, first_with = walked(zone, day)
    closed = [False] * len(walls)
    local = walls[0]
    while local < walls[-1]:
        for in_minutes, in_hours, duration in patterns:
            if local.minute in in_minutes and local.hour in in_hours:
                start = first_with.get(local)
                if start is None:
                    start = next(n for n, wall in enumerate(walls) if wall > local)
                closed[start : start + duration] = [True] * len(closed[start : start + duration])
        local += timedelta(minutes=1)
    return begin, closed


@settings(max_examples=60, deadline=None)
@given(
    change=CHANGES,
    rules=st.lists(st.tuples(PATTERNS, st.integers(1, 200)), min_size=1, max_size=2),
    probes=st.lists(st.integers(26 * 60, 84 * 60), min_size=1, max_size=20),
)
def test_a_calendar_closes_exactly_the_minutes_that_a_walk_over_all_of_them_closes(
    change: tuple[str, datetime],
    rules: list[tuple[tuple[set[int], set[int]], int]],
    probes: list[int],
) -> None:
    zone, day = change
    calendar = tuple(
        cron(
            f"{','.join(map(str, sorted(minutes)))} {','.join(map(str, sorted(hours)))} * * *",
            duration * MINUTE,
            zone,
        )
        for (minutes, hours), duration in rules
    )
    begin, closed = closed_minutes(zone, day, [(*pattern, length) for pattern, length in rules])
    begin_at = int(begin.timestamp()) * SECOND
    for probe in probes:
        window = window_at(calendar, begin_at + probe * MINUTE)
        assert (window is not None) == closed[probe]
        change_at = next_change_at(calendar, begin_at + probe * MINUTE)
        later = [n for n in range(probe + 1, len(closed)) if closed[n] != closed[probe]]
        assert change_at == begin_at + later[0] * MINUTE
        if window is not None:
            first = (window.start_at - begin_at) // MINUTE
            assert all(closed[first:probe])
            assert not closed[first - 1]


REFUSED: dict[str, tuple[Blackout, str, str]] = {
    "inverted": (
        blackout(once("2026-12-02T00:00", "2026-12-01T00:00")),
        "$.calendar[0].endAt",
        "is not after startAt",
    ),
    "empty": (
        blackout(once("2026-12-02T00:00", "2026-12-02T00:00")),
        "$.calendar[0].endAt",
        "give a later one",
    ),
    "longer than a year": (
        blackout(OneOff(start_at=NOW, end_at=NOW + DURATION_US_MAX + 1)),
        "$.calendar[0].endAt",
        "pause what should stay closed",
    ),
    "before 1970": (blackout(OneOff(start_at=-1, end_at=NOW)), "$.calendar[0]", "1970"),
    "after 9999": (blackout(OneOff(start_at=NOW, end_at=2**62)), "$.calendar[0]", "9999"),
    "all over": (
        blackout(once("2025-12-01T00:00", "2025-12-02T00:00")),
        "$.calendar",
        "all of its windows are over",
    ),
    "no rule": (blackout(), "$.calendar", "give 1 to 64"),
    "too many rules": (
        blackout(*[once("2026-12-02T00:00", "2026-12-03T00:00")] * (RULES_MAX + 1)),
        "$.calendar",
        "holds 65 rules",
    ),
    "too many recurring rules": (
        blackout(*[cron("0 0 * * *")] * (RECURRING_MAX + 1)),
        "$.calendar",
        "holds 9 recurring rules; give at most 8",
    ),
    "zero": (blackout(cron("0 0 * * *", 0)), "$.calendar[0].durationSeconds", "0 s is not"),
    "negative": (blackout(cron("0 0 * * *", -HOUR)), "$.calendar[0].durationSeconds", "-3600 s"),
    "huge": (
        blackout(cron("0 0 1 1 *", 2**62)),
        "$.calendar[0].durationSeconds",
        "within 60 s and 366 days",
    ),
    "overlaps itself": (
        blackout(cron("0 */2 * * *", 3 * HOUR)),
        "$.calendar[0].durationSeconds",
        "10800 s overlaps the next window, which starts 7200 s after",
    ),
    "never opens": (blackout(cron("0 0 * * *", DAY)), "$.calendar", "touch without a break"),
    "two rules that never open": (
        blackout(cron("0 0 * * *", 12 * HOUR), cron("0 12 * * *", 12 * HOUR)),
        "$.calendar",
        "touch without a break",
    ),
    "unknown zone": (
        blackout(cron("0 0 * * *", HOUR, "Europe/Atlantis")),
        "$.calendar[0].zone",
        "'Europe/Atlantis' is no IANA time zone",
    ),
    "a path for a zone": (
        blackout(cron("0 0 * * *", HOUR, "../../etc/passwd")),
        "$.calendar[0].zone",
        "is no IANA time zone",
    ),
    "four fields": (blackout(cron("0 0 * *")), "$.calendar[0].cron", "is not five fields"),
    "six fields": (blackout(cron("0 0 0 * * *")), "$.calendar[0].cron", "is not five fields"),
    "a nickname": (blackout(cron("@daily")), "$.calendar[0].cron", "is not five fields"),
    "a bad minute": (
        blackout(cron("0 0 * * MON"), cron("60 0 * * *")),
        "$.calendar[1].cron",
        "bad minute field",
    ),
    "very long": (
        blackout(cron(",".join(["0"] * 100) + " 0 * * *")),
        "$.calendar[0].cron",
        "is not five fields",
    ),
    "an impossible date": (
        blackout(cron("0 0 31 2 *")),
        "$.calendar[0].cron",
        "a date that does not exist",
    ),
    "a day that never comes": (
        blackout(cron("0 0 */29 2 MON#5")),
        "$.calendar[0].cron",
        "never fires",
    ),
    "single windows that overlap": (
        blackout(
            once("2026-12-05T00:00", "2026-12-07T00:00"),
            cron("0 0 * * *"),
            once("2026-12-04T00:00", "2026-12-05T00:01"),
        ),
        "$.calendar[2]",
        "overlaps calendar[0] from 2026-12-05T00:00",
    ),
    "a key for a tenant": (
        msgspec.structs.replace(blackout(cron("0 0 * * *")), key="k"),
        "$.key",
        "leave it out",
    ),
    "no key for a source": (
        msgspec.structs.replace(blackout(cron("0 0 * * *")), scope=BlackoutScope.SOURCE),
        "$.key",
        "name the source's id",
    ),
    "no key for a job type": (
        msgspec.structs.replace(blackout(cron("0 0 * * *")), scope=BlackoutScope.JOB_TYPE),
        "$.key",
        "name the job type",
    ),
    "no reason": (
        msgspec.structs.replace(blackout(cron("0 0 * * *")), reason="  "),
        "$.reason",
        "say why",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_field_and_the_remedy(case: str) -> None:
    asked, path, words = REFUSED[case]
    refusal = refuse_blackout(asked, NOW)
    assert refusal is not None
    assert refusal.details == {"path": path}
    assert refusal.message.startswith(f"{path}: ")
    assert words in refusal.message


ACCEPTED: dict[str, Callable[[], Blackout]] = {
    "a running window": lambda: blackout(once("2026-11-22T00:00", "2026-11-23T00:00")),
    "a window that is over beside one to come": lambda: blackout(
        once("2025-12-24T00:00", "2025-12-27T00:00"), once("2026-12-24T00:00", "2026-12-27T00:00")
    ),
    "single windows that touch": lambda: blackout(
        once("2026-12-24T00:00", "2026-12-25T00:00"), once("2026-12-25T00:00", "2026-12-26T00:00")
    ),
    "a repeated window over a single one": lambda: blackout(
        once("2026-12-24T00:00", "2026-12-27T00:00"), cron("0 2 * * *")
    ),
    "whole weekends": lambda: blackout(cron("0 0 * * SAT,SUN", DAY, "Europe/Berlin")),
    "an old name of a zone": lambda: blackout(cron("0 0 * * *", HOUR, "US/Eastern")),
    "a leap day": lambda: blackout(cron("0 0 29 2 *", DAY)),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_makes_sense_is_taken(case: str) -> None:
    assert refuse_blackout(ACCEPTED[case](), NOW) is None


def test_what_is_stored_reads_back_as_it_was() -> None:
    whole = msgspec.structs.replace(
        blackout(once("2026-12-24T00:00", "2026-12-25T00:00"), cron("0 2 * * *")), drain=True
    )
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Blackout) == whole


FIELD = st.text(alphabet="0123456789*,-/#LWMONJAFRI ", min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(pattern=st.one_of(st.lists(FIELD, min_size=5, max_size=5).map(" ".join), st.text()))
def test_no_pattern_is_answered_by_a_fault(pattern: str) -> None:
    asked = blackout(cron(pattern, MINUTE, "Europe/Berlin"))
    if refuse_blackout(asked, NOW) is None:
        windows = preview(asked.calendar, NOW, 3)
        assert windows
        assert all(a.end_at < b.start_at for a, b in pairwise(windows))
