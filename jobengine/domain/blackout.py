"""Blackout calendars: when nothing new may start for a tenant, a source or a job type.

A calendar is a tuple of rules: single windows (``OneOff``) and repeated ones (``Recurring``: cron,
duration, IANA zone). What overlaps or touches is one window to whoever asks.

I1  A window is half open: its ``start_at`` is closed, its ``end_at`` is free again.
I2  A local start that does not exist because clocks were put forward (or a day was left out) is the
    first instant after the gap. One that exists twice is the first of the two. A window never
    starts twice for one local time.
I3  A duration is elapsed time: across a change of clocks, a window that starts at 22:00 and lasts
    eight hours ends at 05:00 or 07:00.
I4  Zones come from the ``tzdata`` package, read once each, so every host gives the same answer.
I5  The work of one question is bounded: a window merged from more than ``MERGED_MAX`` is told in
    parts, each at least as long as the windows it was made from.

Cron has five fields (minute, hour, day of month, month, day of week), with ranges, steps, names,
``L``, ``LW`` and ``#``. A day of month and a day of week that both do not start with ``*`` are
alternatives, as in Debian's cron.

Not here: schedules that create work, who may set a blackout, the draining of running work.
Sources: PEP 495 for ambiguous and missing local times, crontab(5).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from heapq import merge
from importlib.resources import files
from itertools import islice, pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import msgspec
from cronsim import CronSim, CronSimError

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import AT_MAX, DAY, MINUTE, SECOND, to_rfc3339

__all__ = [
    "DURATION_US_MAX",
    "MERGED_MAX",
    "RECURRING_MAX",
    "RULES_MAX",
    "Blackout",
    "BlackoutGate",
    "BlackoutScope",
    "Calendar",
    "OneOff",
    "Recurring",
    "Rule",
    "Window",
    "next_change_at",
    "preview",
    "refuse_blackout",
    "window_at",
]

DURATION_US_MAX: Final = 366 * DAY
RULES_MAX: Final = 64
RECURRING_MAX: Final = 8
MERGED_MAX: Final = 64
_CRON_CHARACTERS_MAX: Final = 128
_REASON_CHARACTERS_MAX: Final = 1024
_FIRINGS_SAMPLED: Final = 64

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  local times are naive here, see _firings
_EPOCH_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class BlackoutScope(StrEnum):
    TENANT = "tenant"
    SOURCE = "source"
    JOB_TYPE = "job_type"


class OneOff(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="kind", tag="one_off"
):
    start_at: int
    end_at: int


class Recurring(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="kind", tag="recurring"
):
    """``cron`` names local starts in ``zone``; ``duration_us`` is elapsed time."""

    cron: str
    duration_us: int
    zone: str


Rule = OneOff | Recurring
Calendar = tuple[Rule, ...]


class Blackout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``key`` is the source's id or the job type, empty for the whole tenant. With ``drain``,
    running work is asked to stop when a window begins; else it goes on."""

    blackout_id: str
    calendar: Calendar
    drain: bool = False
    key: str = ""
    reason: str
    scope: BlackoutScope


class Window(NamedTuple):
    start_at: int
    end_at: int


def window_at(calendar: Calendar, at: int) -> Window | None:
    """The merged window that covers ``at``, from its true beginning."""
    window = next(_merged(calendar, at), None)
    if window is None or window.start_at > at:
        return None
    start_at = window.start_at
    for _ in range(MERGED_MAX):
        earlier = min((w.start_at for w in _ending_from(calendar, start_at)), default=start_at)
        if earlier >= start_at:
            break
        start_at = earlier
    return Window(start_at, window.end_at)


def next_change_at(calendar: Calendar, at: int) -> int | None:
    """The first instant after ``at`` at which a window begins or ends; None when none will."""
    window = next(_merged(calendar, at), None)
    if window is None:
        return None
    return window.end_at if window.start_at <= at else window.start_at


def preview(calendar: Calendar, at: int, count: int) -> tuple[Window, ...]:
    """The window that covers ``at`` and those that follow, ``count`` in all, in their order."""
    current = window_at(calendar, at)
    if current is None:
        return tuple(islice(_merged(calendar, at), count))
    return (current, *islice(_merged(calendar, current.end_at), count - 1))[:count]


@attrs.define(eq=False)
class BlackoutGate:
    """One blackout as the granting step asks for it: two comparisons, until its next change."""

    blackout: Blackout
    _valid_from: int = attrs.field(init=False, default=0)
    _valid_to: int = attrs.field(init=False, default=0)
    _window: Window | None = attrs.field(init=False, default=None)

    def window(self, at: int) -> Window | None:
        """As ``window_at``."""
        if not self._valid_from <= at < self._valid_to:
            self._recompute(at)
        return self._window

    def closed_until(self, at: int) -> int | None:
        """The end of the window that covers ``at``, or None while the gate is open."""
        window = self.window(at)
        return None if window is None else window.end_at

    def next_change_at(self, at: int) -> int | None:
        """As the function of this name: when its owner has to look again."""
        self.window(at)
        return None if self._valid_to > AT_MAX else self._valid_to

    def _recompute(self, at: int) -> None:
        calendar = self.blackout.calendar
        self._window = window_at(calendar, at)
        self._valid_from = at if self._window is None else self._window.start_at
        self._valid_to = next_change_at(calendar, at) or AT_MAX + 1


def refuse_blackout(blackout: Blackout, at: int) -> Refusal | None:
    """Why this blackout cannot be taken in at the instant ``at``; names the field and the remedy.

    A calendar may hold windows that are over, as long as something in it is still to come: a list
    of dates can be sent again as it is.
    """
    return _refuse_scope(blackout) or _refuse_calendar(blackout.calendar, at)


def _refuse_scope(blackout: Blackout) -> Refusal | None:
    if blackout.scope is BlackoutScope.TENANT and blackout.key:
        return _refusal("key", "a blackout of the whole tenant has no key; leave it out")
    if blackout.scope is not BlackoutScope.TENANT and not blackout.key:
        what = "source's id" if blackout.scope is BlackoutScope.SOURCE else "job type"
        return _refusal("key", f"is required for scope {blackout.scope}; name the {what}")
    if not blackout.reason.strip() or len(blackout.reason) > _REASON_CHARACTERS_MAX:
        return _refusal("reason", f"say why, in 1 to {_REASON_CHARACTERS_MAX} characters")
    return None


def _refuse_calendar(calendar: Calendar, at: int) -> Refusal | None:
    if not 1 <= len(calendar) <= RULES_MAX:
        return _refusal("calendar", f"holds {len(calendar)} rules; give 1 to {RULES_MAX}")
    recurring = sum(isinstance(rule, Recurring) for rule in calendar)
    if recurring > RECURRING_MAX:
        return _refusal(
            "calendar",
            f"holds {recurring} recurring rules; give at most {RECURRING_MAX}, cron takes lists",
        )
    for number, rule in enumerate(calendar):
        field = f"calendar[{number}]"
        refusal = (
            _refuse_one_off(field, rule)
            if isinstance(rule, OneOff)
            else _refuse_recurring(field, rule, at)
        )
        if refusal is not None:
            return refusal
    return _refuse_overlaps(calendar) or _refuse_first_closure(calendar, at)


def _refuse_first_closure(calendar: Calendar, at: int) -> Refusal | None:
    """There has to be one, and it has to end."""
    free_at, parts = at, 0
    for window in _ahead(calendar, at):
        if parts and window.start_at > free_at:
            return None
        if window.end_at <= free_at:
            continue
        free_at = window.end_at
        parts += 1
        if parts > MERGED_MAX:
            return _refusal(
                "calendar",
                f"more than {MERGED_MAX} of its windows touch without a break; give fewer and"
                " longer ones, or pause what should stay closed",
            )
    if not parts:
        return _refusal("calendar", "all of its windows are over; give one that ends in the future")
    return None


def _refuse_one_off(field: str, rule: OneOff) -> Refusal | None:
    if not (0 <= rule.start_at <= AT_MAX and 0 <= rule.end_at <= AT_MAX):
        return _refusal(field, "lies outside the years 1970 to 9999")
    if rule.end_at <= rule.start_at:
        start, end = to_rfc3339(rule.start_at), to_rfc3339(rule.end_at)
        return _refusal(f"{field}.endAt", f"{end} is not after startAt {start}; give a later one")
    if rule.end_at - rule.start_at > DURATION_US_MAX:
        return _refusal(
            f"{field}.endAt", "is more than 366 days after startAt; pause what should stay closed"
        )
    return None


def _refuse_recurring(field: str, rule: Recurring, at: int) -> Refusal | None:
    if not MINUTE <= rule.duration_us <= DURATION_US_MAX:
        seconds = rule.duration_us / SECOND
        return _refusal(
            f"{field}.durationSeconds", f"{seconds:g} s is not within 60 s and 366 days"
        )
    if rule.zone not in _zone_names():
        return _refusal(
            f"{field}.zone",
            f"{rule.zone[:64]!r} is no IANA time zone; give one such as Europe/Berlin or UTC",
        )
    if len(rule.cron) > _CRON_CHARACTERS_MAX or not _FIVE_FIELDS.fullmatch(rule.cron):
        return _refusal(
            f"{field}.cron",
            "is not five fields of minute, hour, day of month, month, day of week; write it as in"
            " '30 2 * * MON-FRI'",
        )
    try:
        gap = _shortest_gap(_firings(rule.cron, _local(at, _zone(rule.zone))))
    except CronSimError as error:
        why = str(error).lower()
        return _refusal(
            f"{field}.cron",
            f"{rule.cron!r} has a {why} field, out of its range or a date that does not exist;"
            " correct it",
        )
    if gap is None:
        return _refusal(f"{field}.cron", f"{rule.cron!r} never fires; give dates that exist")
    if rule.duration_us > gap // _MICROSECOND:
        return _refusal(
            f"{field}.durationSeconds",
            f"{rule.duration_us // SECOND} s overlaps the next window, which starts"
            f" {gap // timedelta(seconds=1)} s after the one before; shorten it or let cron fire"
            " less often",
        )
    return None


def _shortest_gap(firings: Iterator[datetime]) -> timedelta | None:
    """Between the firings sampled, up to one that is farther off than any window is long."""
    before = next(firings, None)
    if before is None:
        return None
    shortest = longest = timedelta(microseconds=DURATION_US_MAX)
    for local in islice(firings, _FIRINGS_SAMPLED):
        shortest = min(shortest, local - before)
        if local - before > longest:
            break
        before = local
    return shortest


_FIVE_FIELDS: Final = re.compile(r"[0-9A-Za-z*,/#-]+(?: +[0-9A-Za-z*,/#-]+){4}")


def _refuse_overlaps(calendar: Calendar) -> Refusal | None:
    """Single windows of one calendar that overlap are most likely a slip of the pen."""
    single = sorted(
        (rule.start_at, rule.end_at, number)
        for number, rule in enumerate(calendar)
        if isinstance(rule, OneOff)
    )
    for (_, end_at, first), (start_at, _, second) in pairwise(single):
        if start_at < end_at:
            return _refusal(
                f"calendar[{max(first, second)}]",
                f"overlaps calendar[{min(first, second)}] from {to_rfc3339(start_at)}; give one"
                " window for both, or move one",
            )
    return None


def _refusal(path: str, message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_FIELD, f"$.{path}: {message}", {"path": f"$.{path}"})


def _merged(calendar: Calendar, at: int) -> Iterator[Window]:
    """Windows that end after ``at``, in order, with a break between any two (but see I5)."""
    held: Window | None = None
    parts = 0
    for window in _ahead(calendar, at):
        if held is None:
            held, parts = window, 1
        elif window.end_at <= held.end_at:
            continue
        elif window.start_at <= held.end_at and parts < MERGED_MAX:
            held, parts = Window(held.start_at, window.end_at), parts + 1
        else:
            yield held
            held, parts = Window(max(window.start_at, held.end_at), window.end_at), 1
    if held is not None:
        yield held


def _ahead(calendar: Calendar, at: int) -> Iterator[Window]:
    """Windows that end after ``at``, by their start; they may overlap."""
    return merge(*(_windows(rule, at) for rule in calendar))


def _ending_from(calendar: Calendar, at: int) -> Iterator[Window]:
    """One window of each rule that has one: the first that ends at ``at`` or later."""
    for rule in calendar:
        yield from islice(_windows(rule, at - 1), 1)


def _windows(rule: Rule, at: int) -> Iterator[Window]:
    if isinstance(rule, OneOff):
        if rule.end_at > at:
            yield Window(rule.start_at, rule.end_at)
        return
    zone = _zone(rule.zone)
    latest_over = at - rule.duration_us
    for local in _firings(rule.cron, _local(latest_over, zone)):
        start_at = _start_at(local, zone)
        if start_at > latest_over:
            yield Window(start_at, start_at + rule.duration_us)


def _firings(cron: str, after: datetime) -> Iterator[datetime]:
    """Local times without a zone, which the pattern alone decides; ends with the calendar's years.

    Naive on purpose: given a zone, cronsim would apply its own rules to changes of clocks.
    """
    firings = CronSim(cron, after)
    while True:
        try:
            yield next(firings)
        except (StopIteration, OverflowError):
            return


def _local(at: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH_UTC + timedelta(microseconds=at)).astimezone(zone).replace(tzinfo=None)


def _start_at(local: datetime, zone: ZoneInfo) -> int:
    """The instant of a local time, by I2."""
    there = local.replace(tzinfo=zone)
    first_at = (there - _EPOCH_UTC) // _MICROSECOND
    if _local(first_at, zone) == local:
        return first_at
    # In a gap: read with the later offset it comes before the change, with the earlier one after.
    low, high = (there.replace(fold=1) - _EPOCH_UTC) // _MICROSECOND // SECOND, first_at // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if _local(middle * SECOND, zone) < local:
            low = middle
        else:
            high = middle
    return high * SECOND


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)
