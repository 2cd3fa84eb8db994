"""Shapes of quotas: how much may run at once and start in any hour.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A patch is a JSON merge patch: what it leaves out stays, `null` takes away.

Source: RFC 7396.
"""

from typing import Literal

from msgspec import UNSET, UnsetType

from jobengine.wire.controls import Count, Request, Shown, Slug
from jobengine.wire.fields import Instant, Key

__all__ = [
    "QuotaPatch",
    "QuotaRequest",
    "QuotaUse",
    "QuotaView",
]

QuotaScope = Literal["tenant", "project", "job_type"]


class QuotaRequest(Request, kw_only=True):
    """At most `maxActive` jobs run and `maxPerHour` start in any hour, in the whole tenant (no
    `key`), a project or a job type; `burst` bounds starts at once and lets them come evenly.
    Without `quotaId` one is made up."""

    quota_id: Slug | None = None
    scope: QuotaScope
    key: Key | None = None
    max_active: Count | None = None
    max_per_hour: Count | None = None
    burst: Count | None = None
    paused: bool = False


class QuotaPatch(Request, kw_only=True):
    """A JSON merge patch of a quota; what it is about stays."""

    max_active: Count | UnsetType | None = UNSET
    max_per_hour: Count | UnsetType | None = UNSET
    burst: Count | UnsetType | None = UNSET


class QuotaView(Shown, kw_only=True):
    quota_id: str
    scope: QuotaScope
    key: str | None = None
    max_active: int | None = None
    max_per_hour: int | None = None
    burst: int | None = None
    paused: bool
    revision: int
    changed_at: Instant


class QuotaUse(Shown, kw_only=True):
    """How much of a quota is used. `waiting`: single jobs, and groups of jobs of one queue, job
    type and source, that it keeps from starting now."""

    quota_id: str
    scope: QuotaScope
    key: str | None = None
    paused: bool
    running: int
    max_active: int | None = None
    starts_this_hour: int | None = None
    max_per_hour: int | None = None
    waiting: int
