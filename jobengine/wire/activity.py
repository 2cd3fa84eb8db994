"""Shape of what happened to a tenant's jobs lately, second by second.

I1  An answer may grow fields, so a reader ignores those it does not know.
"""

import msgspec

from jobengine.wire.fields import Instant

__all__ = ["ActivitySecond", "ActivityView"]


class ActivitySecond(msgspec.Struct, rename="camel", kw_only=True):
    """What happened in the second that begins at `at`; a job may count in several columns."""

    at: Instant
    created: int
    scheduled: int
    started: int
    completed: int
    failed: int
    retried: int
    cancelled: int
    dead_lettered: int


class ActivityView(msgspec.Struct, rename="camel", kw_only=True):
    """`seconds` are oldest first, that of `at` is the last; where nothing happened they are left
    out. All events up to `newestSeq` are counted and none behind it. `since`: what happened
    earlier may not be counted."""

    tenant_id: str
    at: Instant
    newest_seq: int
    since: Instant
    seconds: list[ActivitySecond]
