"""What the session of a worker tells a lease shard: its life, its credit, and what it reports.

A *ref* is whatever a worker wants echoed. Sessions are named by number; what a shard tells one is
in ``session``.

Not here: what doors ask of a shard (``lease_shard``), the form of all this on the wire.
"""

from collections.abc import Sequence

import msgspec

from jobengine.domain.change import ArtifactRow
from jobengine.domain.failure import Failure
from jobengine.domain.records import NewJob

__all__ = [
    "ArtifactNamed",
    "Attach",
    "Beat",
    "Completed",
    "Detach",
    "Drain",
    "Failed",
    "GivenBack",
    "LeaseClaim",
    "Logged",
    "Progressed",
    "Report",
    "Reports",
    "SetCredit",
    "ThrottleSeen",
    "WatermarkMoved",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class LeaseClaim(msgspec.Struct, frozen=True):
    """A lease as its holder names it."""

    lease_id: str
    token: int


class Attach(_Message, frozen=True, kw_only=True):
    """A worker session opens: no credit yet. ``resume`` names every lease the worker still holds.

    A worker takes jobs that match every filter it gives; an empty filter matches all.
    ``connected_at`` is when its connection opened, 0 where there is none to speak of.
    """

    session_id: int
    tenant_id: str
    worker_id: str
    task_runner_id: str
    queues: frozenset[str]
    job_types: frozenset[str]
    capacity: int
    auto_credit: bool = False
    connected_at: int = 0
    resume: Sequence[LeaseClaim] = ()


class SetCredit(_Message, frozen=True, kw_only=True):
    session_id: int
    slots: int


class Beat(_Message, frozen=True, kw_only=True):
    """A heartbeat: renews the named leases, or all of the session."""

    session_id: int
    ref: str | int | None = None
    leases: Sequence[LeaseClaim] | None = None
    progress: dict[str, bytes] = {}
    """Canonical progress notes by lease id."""


class Drain(_Message, frozen=True, kw_only=True):
    session_id: int
    ref: str | int | None = None


class Detach(_Message, frozen=True, kw_only=True):
    """The session is gone; its leases live until they expire or are resumed."""

    session_id: int


class _Report(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    ref: str | int | None = None
    lease_id: str
    token: int


class Completed(_Report, frozen=True, kw_only=True):
    """``result`` is canonical JSON; ``follow_ups`` are created in the same commit."""

    result: bytes
    artifacts: Sequence[ArtifactRow] = ()
    follow_ups: Sequence[NewJob] = ()


class Failed(_Report, frozen=True, kw_only=True):
    error: Failure
    retry_after_us: int | None = None


class GivenBack(_Report, frozen=True, kw_only=True):
    delay_us: int = 0
    reason: str = ""


class Progressed(_Report, frozen=True, kw_only=True):
    note: bytes


class Logged(_Report, frozen=True, kw_only=True):
    lines: bytes


class ArtifactNamed(_Report, frozen=True, kw_only=True):
    artifact: ArtifactRow


class ThrottleSeen(_Report, frozen=True, kw_only=True):
    """An upstream pushed back; ``lease_id`` is empty when only the source is named."""

    http_status: int
    source_id: str | None = None
    retry_after_us: int | None = None


class WatermarkMoved(_Report, frozen=True, kw_only=True):
    source_id: str


Report = (
    Completed
    | Failed
    | GivenBack
    | Progressed
    | Logged
    | ArtifactNamed
    | ThrottleSeen
    | WatermarkMoved
)


class Reports(_Message, frozen=True, kw_only=True):
    """What one frame of a worker reports, in order."""

    session_id: int
    reports: Sequence[Report]
