"""Shapes of blackouts: calendars of windows in which nothing starts.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A patch is a JSON merge patch: what it leaves out stays, `null` takes away.

Source: RFC 7396.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobengine.wire.controls import Request, Shown, Slug
from jobengine.wire.fields import Instant, Name, Text

__all__ = [
    "BlackoutPatch",
    "BlackoutPreview",
    "BlackoutRequest",
    "BlackoutView",
    "BlackoutWindow",
    "CronRule",
    "OneOffRule",
]

BlackoutScopeName = Literal["tenant", "source", "job_type"]
_Duration = Annotated[int, Meta(ge=1, le=366 * 86_400)]


class OneOffRule(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="one_off"
):
    """One window: from `startAt` up to `endAt`."""

    start_at: Instant
    end_at: Instant


class CronRule(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="recurring"
):
    """A window begins whenever `cron` (five fields) fires in `zone` (IANA) and lasts so long."""

    cron: Annotated[str, Meta(min_length=1, max_length=128)]
    duration_seconds: _Duration
    zone: Annotated[str, Meta(min_length=1, max_length=64)]


_Calendar = Annotated[list[OneOffRule | CronRule], Meta(min_length=1, max_length=64)]


class BlackoutRequest(Request, kw_only=True):
    """When nothing starts in the whole tenant (no `key`), a source or a job type. `drain` asks what
    runs to stop when a window begins. `reason` is that of the request when it is left out; without
    `blackoutId` one is made up."""

    blackout_id: Slug | None = None
    scope: BlackoutScopeName
    key: Name | None = None
    calendar: _Calendar
    drain: bool = False
    reason: Text | None = None


class BlackoutPatch(Request, kw_only=True):
    """A JSON merge patch of a blackout; what it is about stays, the calendar is replaced whole."""

    calendar: _Calendar | UnsetType = UNSET
    drain: bool | UnsetType | None = UNSET
    reason: Text | UnsetType = UNSET


class BlackoutView(Shown, kw_only=True):
    blackout_id: str
    scope: BlackoutScopeName
    key: str | None = None
    calendar: list[OneOffRule | CronRule]
    drain: bool
    reason: str
    revision: int
    changed_at: Instant


class BlackoutWindow(Shown, kw_only=True, omit_defaults=False):
    start_at: Instant
    end_at: Instant


class BlackoutPreview(Shown, kw_only=True):
    """The next windows in their order; the one that is in force now is the first."""

    blackout_id: str
    in_force: bool
    windows: list[BlackoutWindow]
