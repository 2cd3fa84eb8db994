"""Blackout calendars: when nothing new may start for a tenant, a source or a job type.

A calendar is a tuple of rules: single windows (``OneOff``) and repeated ones (``Recurring``: cron,
duration, IANA zone). What overlaps or touches is one window to whoever asks.

I1  A window is half open: its ``start_at`` is closed, its ``end_at`` is free again.
I2  A duration is elapsed time: across a change of clocks, a window that starts at 22:00 and lasts
    eight hours ends at 05:00 or 07:00.
I3  The work of one question is bounded: a window merged from more than ``MERGED_MAX`` is told in
    parts, each at least as long as the windows it was made from.

Not here: what a cron line means in a zone (``cron``), which calendars are taken in
(``blackout_refusals``), schedules that create work, who may set a blackout, the draining of running
work.
"""

from collections.abc import Iterator
from enum import StrEnum
from heapq import merge
from itertools import islice
from typing import Final, NamedTuple

import attrs
import msgspec

from jobengine.domain.cron import firings
from jobengine.domain.instant import AT_MAX

__all__ = [
    "MERGED_MAX",
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
    "window_at",
    "windows_ahead",
]

MERGED_MAX: Final = 64


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


def windows_ahead(calendar: Calendar, at: int) -> Iterator[Window]:
    """Windows that end after ``at``, by their start; they may overlap."""
    return merge(*(_windows(rule, at) for rule in calendar))


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


def _merged(calendar: Calendar, at: int) -> Iterator[Window]:
    """Windows that end after ``at``, in order, with a break between any two (but see I3)."""
    held: Window | None = None
    parts = 0
    for window in windows_ahead(calendar, at):
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


def _ending_from(calendar: Calendar, at: int) -> Iterator[Window]:
    """One window of each rule that has one: the first that ends at ``at`` or later."""
    for rule in calendar:
        yield from islice(_windows(rule, at - 1), 1)


def _windows(rule: Rule, at: int) -> Iterator[Window]:
    if isinstance(rule, OneOff):
        if rule.end_at > at:
            yield Window(rule.start_at, rule.end_at)
        return
    latest_over = at - rule.duration_us
    for start_at in firings(rule.cron, rule.zone, latest_over):
        yield Window(start_at, start_at + rule.duration_us)
