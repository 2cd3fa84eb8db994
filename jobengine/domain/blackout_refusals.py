"""Which blackouts are taken in, and what is said of one that is not: the field and the remedy.

What is taken in is bounded in its rules, windows and durations, so that every later question about
it is bounded too, and its closure ends. Not here: how windows are computed (``blackout``), what a
cron line means (``cron``), who may set a blackout.
"""

from itertools import pairwise
from typing import Final

from jobengine.domain.blackout import (
    MERGED_MAX,
    Blackout,
    BlackoutScope,
    Calendar,
    OneOff,
    Recurring,
    windows_ahead,
)
from jobengine.domain.cron import cron_fault, shortest_gap_us, zone_fault
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import AT_MAX, DAY, MINUTE, SECOND, to_rfc3339

__all__ = ["DURATION_US_MAX", "RECURRING_MAX", "RULES_MAX", "refuse_blackout"]

DURATION_US_MAX: Final = 366 * DAY
RULES_MAX: Final = 64
RECURRING_MAX: Final = 8
_REASON_CHARACTERS_MAX: Final = 1024


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
    for window in windows_ahead(calendar, at):
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
    fault = zone_fault(rule.zone)
    if fault is not None:
        return _refusal(f"{field}.zone", fault)
    fault = cron_fault(rule.cron)
    if fault is not None:
        return _refusal(f"{field}.cron", fault)
    gap_us = shortest_gap_us(rule.cron, rule.zone, at, DURATION_US_MAX)
    if gap_us is None:
        return _refusal(f"{field}.cron", f"{rule.cron!r} never fires; give dates that exist")
    if rule.duration_us > gap_us:
        return _refusal(
            f"{field}.durationSeconds",
            f"{rule.duration_us // SECOND} s overlaps the next window, which starts"
            f" {gap_us // SECOND} s after the one before; shorten it or let cron fire less often",
        )
    return None


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
