"""Kinds: jobs that are alike, and all that is known of them in one record.

Definition. Jobs of one lane and one project are one *kind*. They wait in the same lane, hold the
same places, are under the same controls and call the same source. So what the granting step needs
to know of a job is found once for it, and not once for each of its names.

I1  A record that was just asked for says what the controls say now: it is *bound* anew when any
    control of the shard has changed since it was bound (``outdate``).
I2  A part has one count, shared by all kinds that have it.
I3  A kind whose jobs hold places is never forgotten; of the others at most ``idle_max`` are left by
    ``sweep``. Nobody uses a record of those across a sweep.

Not here: what the controls come to (``control_set``), who holds places (``occupancy``), how gates
are judged (``gates``).
"""

from collections.abc import Sequence

from jobengine.core.lease_shard.control_set import ControlSet
from jobengine.core.lease_shard.rules import JobRules, Part
from jobengine.core.lease_shard.sources import Sources, WatchedSource
from jobengine.domain.job import Definition
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import RateRequest

__all__ = ["Count", "Kind", "Kinds"]

_Name = tuple[str, str, str, str | None, str]
"""Of a kind: tenant, queue, job type, source and project."""


class Count:
    """Places held in one part."""

    __slots__ = ("held", "part")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.held = 0


class Kind:
    """``counts`` are those of its parts, the source's last; ``held`` is how many jobs of it hold
    places. ``rules`` is None where the tenant has no controls, ``source`` unless it is registered.
    ``is_free``: no control bears on its jobs.
    """

    __slots__ = (
        "counts",
        "held",
        "is_free",
        "lane",
        "parts",
        "project_id",
        "revision",
        "rules",
        "source",
    )

    def __init__(self, lane: Lane, project_id: str, counts: Sequence[Count]) -> None:
        self.lane = lane
        self.project_id = project_id
        self.counts = counts
        self.parts = tuple([count.part for count in counts])
        self.held = 0
        self.revision = -1
        self.is_free = True
        self.rules: JobRules | None = None
        self.source: WatchedSource | None = None

    def rate_request(
        self, job_id: str, definition: Definition, *, is_retry: bool
    ) -> RateRequest | None:
        """The tokens that a job of this kind needs to start, or None when it needs none."""
        rules = self.rules
        if rules is None:
            return None
        keys = rules.retry_keys if is_retry else rules.rate_keys
        if not keys:
            return None
        is_retry = is_retry and self.source is not None
        return RateRequest(job_id, keys, definition.cost, is_retry, rules.line, rules.weight)

    def needs_tokens(self, *, is_retry: bool) -> bool:
        """Whether ``rate_request`` gives anything."""
        rules = self.rules
        return rules is not None and bool(rules.retry_keys if is_retry else rules.rate_keys)

    @property
    def running_of_source(self) -> int:
        """Jobs of its registered source that hold places, of whatever kind."""
        return self.counts[-1].held


class Kinds:
    """Every kind of a shard, with the controls and the sources that they are bound to."""

    def __init__(self, idle_max: int) -> None:
        self.tenants: dict[str, ControlSet] = {}
        self.sources = Sources()
        self._idle_max = idle_max
        self._sweep_at = idle_max
        self._revision = 0
        self._kinds: dict[_Name, Kind] = {}
        self._counts: dict[Part, Count] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def of(self, tenant_id: str, definition: Definition) -> Kind:
        """The kind of a job, bound to the controls of now."""
        name = (
            tenant_id,
            definition.queue,
            definition.job_type,
            definition.source_id,
            definition.project_id,
        )
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = self._new(name)
        if kind.revision != self._revision:
            self._bind(kind)
        return kind

    def bind(self, kind: Kind) -> Kind:
        """The same, bound to the controls of now."""
        if kind.revision != self._revision:
            self._bind(kind)
        return kind

    def controls(self, tenant_id: str) -> ControlSet:
        found = self.tenants.get(tenant_id)
        if found is None:
            found = self.tenants[tenant_id] = ControlSet(tenant_id, self.outdate)
        return found

    def outdate(self) -> None:
        """Controls have changed (I1)."""
        self._revision += 1

    def held_in(self, part: Part) -> int:
        """Places held in a part that is no concurrency key."""
        count = self._counts.get(part)
        return 0 if count is None else count.held

    def tenants_holding(self) -> list[str]:
        """Whose jobs hold places."""
        counts = self._counts.values()
        return [count.part[0] for count in counts if count.held and count.part[1] == "tenant"]

    def sweep(self) -> None:
        """Forget kinds that no job holds places of, once there are too many (I3)."""
        if len(self._kinds) <= self._sweep_at:
            return
        self._kinds = {name: kind for name, kind in self._kinds.items() if kind.held}
        self._counts = {each.part: each for kind in self._kinds.values() for each in kind.counts}
        self._sweep_at = len(self._kinds) + self._idle_max

    def _new(self, name: _Name) -> Kind:
        tenant_id, queue, job_type, source_id, project_id = name
        parts = [(tenant_id, "tenant", ""), (tenant_id, "job_type", job_type)]
        if project_id:
            parts.append((tenant_id, "project", project_id))
        if source_id is not None:
            parts.append((tenant_id, "source", source_id))
        counts = tuple([self._count_of(part) for part in parts])
        return Kind(Lane(tenant_id, queue, job_type, source_id or ""), project_id, counts)

    def _count_of(self, part: Part) -> Count:
        count = self._counts.get(part)
        if count is None:
            count = self._counts[part] = Count(part)
        return count

    def _bind(self, kind: Kind) -> None:
        kind.revision = self._revision
        tenant_id = kind.lane.tenant_id
        controls = self.tenants.get(tenant_id)
        if controls is None:
            return
        kind.rules = controls.of_job(kind.lane, kind.project_id)
        kind.is_free = kind.rules.keep_nothing
        source_id = kind.rules.lane.source_id
        kind.source = None if source_id is None else self.sources.of(tenant_id, source_id)
