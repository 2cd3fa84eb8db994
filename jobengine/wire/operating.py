"""Shapes of what operators work with: backlogs, dead letters in bulk, redrives, workers.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
"""

from typing import Annotated, Literal

import msgspec

from jobengine.wire.fields import Instant
from jobengine.wire.jobs import DeadLetterView

__all__ = [
    "DeadLetterStats",
    "DeadLetterSummary",
    "DrainRequest",
    "JobSummary",
    "PrioritizeRequest",
    "RedriveFilter",
    "RedriveRequest",
    "RedriveStateName",
    "RedriveView",
    "SignatureCount",
    "SignatureGroup",
    "WorkerView",
]

RedriveStateName = Literal["running", "paused", "stopped", "completed"]
_Filter = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class PrioritizeRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """9 goes first."""

    priority: Annotated[int, msgspec.Meta(ge=0, le=9)]


class JobSummary(msgspec.Struct, rename="camel", kw_only=True):
    """Jobs of a tenant that are not finished, by state; every such state is named. `oldestDueAt`:
    since when the scheduled job waits that has been due longest, or when the first one falls due;
    null where none is scheduled."""

    tenant_id: str
    counts: dict[str, int]
    oldest_due_at: Instant | None = None


class SignatureCount(msgspec.Struct, rename="camel", kw_only=True):
    """Dead letters of one error signature, closed ones included."""

    signature: str
    letters: int
    open: int
    first_at: Instant
    last_at: Instant


class DeadLetterStats(msgspec.Struct, rename="camel", kw_only=True):
    """Counts of a tenant's dead letters, all projects together. `complete` is false where there are
    more than were counted: then the counts are of the newest `letters`."""

    letters: int
    open: int
    complete: bool
    by_state: dict[str, int]
    by_class: dict[str, int]
    by_job_type: dict[str, int]
    by_queue: dict[str, int]
    signatures: list[SignatureCount]


class SignatureGroup(msgspec.Struct, rename="camel", kw_only=True):
    """Open dead letters of one error signature; `sample` is the newest of them."""

    signature: str
    class_: str = msgspec.field(name="class")
    job_type: str
    letters: int
    first_at: Instant
    last_at: Instant
    sample: DeadLetterView


class DeadLetterSummary(msgspec.Struct, rename="camel", kw_only=True):
    """The open dead letters that match, and the signatures that most of them have: what a redrive
    with this filter would replay. `complete` as in the statistics."""

    letters: int
    complete: bool
    items: list[SignatureGroup]


class RedriveFilter(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel", kw_only=True
):
    """Which open dead letters; all that is given must hold, and nothing given means all."""

    job_type: _Filter | None = None
    queue: _Filter | None = None
    class_: _Filter | None = msgspec.field(name="class", default=None)
    signature: _Filter | None = None


class RedriveRequest(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel", kw_only=True
):
    """`perSecond` letters at most, evenly spread; `max` letters in all."""

    filter: RedriveFilter
    per_second: Annotated[float, msgspec.Meta(ge=0.001, le=1000)] = 10.0
    max: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None


class RedriveView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A redrive. `done` letters were replayed, `failed` ones could not be and are open still,
    `left` of the `matched` are to be tried; `lastError` is of the latest that failed."""

    redrive_id: str
    tenant_id: str
    state: RedriveStateName
    filter: RedriveFilter
    per_second: float
    max: int | None = None
    matched: int
    done: int
    failed: int
    left: int
    last_error: str | None = None
    created_at: Instant
    created_by: str
    reason: str | None = None
    ticket: str | None = None
    changed_at: Instant


class DrainRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """By when the worker should have ended what it holds; it is told, and not forced."""

    within_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300


class WorkerView(msgspec.Struct, rename="camel", kw_only=True):
    """A worker that is attached, its connections together. `credit`: leases it would get now."""

    worker_id: str
    task_runner_id: str
    queues: list[str]
    job_types: list[str]
    capacity: int
    leases: int
    credit: int
    draining: bool
    sessions: int
    connected_at: Instant
    last_heartbeat_at: Instant
