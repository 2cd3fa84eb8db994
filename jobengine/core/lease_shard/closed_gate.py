"""A closed gate, and what it says of itself; what waits for it waits under its subject.

Not here: when one is closed (``gates``).
"""

import attrs

from jobengine.core.lease_shard.rules import Place
from jobengine.core.lease_shard.waiting_room import Subject
from jobengine.domain.job import Job

__all__ = [
    "ClosedGate",
    "allotment_subject",
    "controls_subject",
    "in_blackout",
    "key_taken",
    "paused",
    "place_full",
]

_LANE_SCOPES = frozenset({"tenant", "queue", "job_type", "source"})


@attrs.frozen(kw_only=True)
class ClosedGate:
    """Why not now; ``observed`` and ``limit`` are for people, ``opens_on`` says what opens it when
    no instant does."""

    gate: str
    key: str
    observed: str
    limit: str
    message: str
    subject: Subject
    of_lane: bool = True
    opens_at: int | None = None
    opens_on: str | None = None


def controls_subject(tenant_id: str) -> Subject:
    """What waits for an operator."""
    return (tenant_id, "controls", "")


def allotment_subject(tenant_id: str) -> Subject:
    """What waits for slots by the strategy across tenants."""
    return (tenant_id, "governance", "")


def paused(tenant_id: str, name: str, *, of_lane: bool = True) -> ClosedGate:
    return ClosedGate(
        gate="paused",
        key=name,
        observed="paused",
        limit="running",
        message=f"{name} is paused; resume it",
        subject=controls_subject(tenant_id),
        of_lane=of_lane,
        opens_on="an operator resuming it",
    )


def place_full(place: Place, running: int) -> ClosedGate:
    return ClosedGate(
        gate="quota_active",
        key=place.name,
        observed=str(running),
        limit=str(place.max_active),
        message=f"{place.name} lets {place.max_active} run at once, and {running} do",
        subject=place.part,
        of_lane=place.part[1] in _LANE_SCOPES,
        opens_on="a running job's end",
    )


def key_taken(job: Job, key: str, running: int) -> ClosedGate:
    limit = job.definition.concurrency_limit or 1
    return ClosedGate(
        gate="concurrency_key",
        key=key,
        observed=str(running),
        limit=str(limit),
        message=f"{running} of at most {limit} jobs with this key run",
        subject=(job.tenant_id, "concurrency_key", key),
        of_lane=False,
        opens_on="a running job's end",
    )


def in_blackout(tenant_id: str, name: str, until_at: int) -> ClosedGate:
    return ClosedGate(
        gate="blackout",
        key=name,
        observed="inside a window",
        limit="nothing starts",
        message=f"blackout {name} is in force",
        subject=(tenant_id, "blackout", name),
        opens_at=until_at,
    )
