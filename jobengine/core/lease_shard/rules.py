"""Rules: what a tenant's controls come to for a lane, for a project, and for a job of both.

Not here: how they are found (``control_set``), how they are judged (``gates``).
"""

import attrs

from jobengine.domain.blackout import BlackoutGate

__all__ = ["JobRules", "LaneRules", "Part", "Place", "ProjectRules"]

Part = tuple[str, str, str]
"""Tenant, scope and key: ("acme", "source", "osv"); the whole tenant has the key ""."""


@attrs.frozen
class Place:
    """At most ``max_active`` running jobs in this part of the tenant; ``name`` says by which
    control."""

    name: str
    part: Part
    max_active: int


@attrs.frozen(kw_only=True)
class LaneRules:
    """What bears on every job of a lane; ``source_id`` only when the source is registered."""

    paused: tuple[str, ...] = ()
    blackouts: tuple[tuple[str, BlackoutGate], ...] = ()
    source_id: str | None = None
    lock_key: str | None = None
    lock_parts: tuple[Part, ...] = ()
    places: tuple[Place, ...] = ()
    rate_keys: tuple[str, ...] = ()
    burst: tuple[int, str] | None = None
    """The smallest burst of these rates, and whose it is: a job that costs more can never start."""


@attrs.frozen(kw_only=True)
class ProjectRules:
    """What a project adds to the rules of its jobs' lanes."""

    paused: tuple[str, ...]
    places: tuple[Place, ...]
    rate_keys: tuple[str, ...]


@attrs.define(eq=False, kw_only=True)
class JobRules:
    """All that bears on the jobs of a lane in one project, and for how long none of it will.

    The last three are the memo of ``gates``: nothing of this keeps a job before ``open_until_at``,
    while sources have moved ``open_moves`` times and fewer than ``open_taken_max`` jobs ever took
    their places.
    """

    lane: LaneRules
    project: ProjectRules | None
    rate_keys: tuple[str, ...]
    retry_keys: tuple[str, ...]
    """The rates of a retry: with the budget of its source, if that is registered."""
    cost_max: int
    """A job that costs more could never have its tokens."""
    line: str
    """Names the lane to the rate bucket, where it waits with the weight of its source."""
    weight: int
    open_moves: int = -1
    open_taken_max: int = 0
    open_until_at: int = 0

    @property
    def keep_nothing(self) -> bool:
        """Whether none of the tenant's controls bears on these jobs."""
        lane, project = self.lane, self.project
        return not (
            lane.paused
            or lane.blackouts
            or lane.source_id
            or lane.lock_key
            or lane.places
            or lane.burst
            or self.rate_keys
            or self.retry_keys
            or (project is not None and (project.paused or project.places))
        )
