"""Gates: why a job may not start now. What admits a job is what explains it.

``closed`` yields the closed gates of a job in a fixed order; the granting step asks for the first,
``explain`` for all of them. A gate is judged from the tenant's controls, from what runs
(``occupancy``) and from what its source has done lately (``sources``).

I1  A gate with ``opens_at`` is open at that instant, and not before, if nothing else happens.
I2  Without controls and allotments a tenant's jobs meet no gate but that of their own concurrency
    key.
I3  A gate *of the lane* keeps every job of that lane; any other only the job at hand, and jobs
    behind it may go first.

Not here: rates (``rate_bucket``), what waits at a closed gate (``waiting_room``), workers and the
place in the lane (``explain``).
"""

from collections.abc import Iterator

import attrs

from jobengine.core.lease_shard.control_set import ControlSet, LaneRules, Place
from jobengine.core.lease_shard.occupancy import Occupancy, Part
from jobengine.core.lease_shard.sources import Sources
from jobengine.core.lease_shard.waiting_room import Subject
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Definition, Job
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import RateRequest

__all__ = ["ClosedGate", "Gates", "allotment_subject", "controls_subject"]

_LANE_SCOPES = frozenset({"tenant", "queue", "job_type", "source"})
_LOW_PRIORITY_MAX = 1


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


class Gates:
    """The gates of every tenant of a shard. ``deferring`` is set while the engine is too busy for
    work of low priority. ``allotments``: how many jobs each tenant may run, and who is not in it
    none; None while no strategy across tenants is in force."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self.tenants: dict[str, ControlSet] = {}
        self.sources = Sources()
        self.allotments: dict[str, int] | None = None
        self.deferring = False

    def controls(self, tenant_id: str) -> ControlSet:
        found = self.tenants.get(tenant_id)
        if found is None:
            found = self.tenants[tenant_id] = ControlSet(tenant_id)
        return found

    def first_closed(self, job: Job, lane: Lane, at: int) -> ClosedGate | None:
        return next(self.closed(job, lane, at), None)

    def closed(self, job: Job, lane: Lane, at: int) -> Iterator[ClosedGate]:
        """Every closed gate of a job that is due, the same instant for all of them."""
        tenant_id = job.tenant_id
        controls = self.tenants.get(tenant_id)
        if controls is not None:
            rules = controls.of_lane(lane)
            if rules.paused:
                yield from self._pauses(tenant_id, rules.paused)
            for name, blackout in rules.blackouts:
                until_at = blackout.closed_until(at)
                if until_at is not None:
                    yield _in_blackout(tenant_id, name, until_at)
            if rules.source_id is not None:
                yield from self._source(tenant_id, rules, at)
            running_in = self._occupancy.of
            for place in rules.places:
                if running_in(place.part) >= place.max_active:
                    yield self._full(place)
            project_id = job.definition.project_id
            if project_id:
                project = controls.of_project(project_id)
                if project.paused:
                    yield from self._pauses(tenant_id, project.paused, of_lane=False)
                for place in project.places:
                    if running_in(place.part) >= place.max_active:
                        yield self._full(place)
        if job.definition.concurrency_key is not None:
            yield from self._concurrency_key(job, job.definition.concurrency_key)
        if self.deferring and job.definition.priority <= _LOW_PRIORITY_MAX:
            yield ClosedGate(
                gate="behind",
                key="load",
                observed="elevated",
                limit="normal",
                message="the engine is busy; work of low priority waits until the load is normal",
                subject=(tenant_id, "load", ""),
                of_lane=False,
                opens_on="the load level returning to normal",
            )
        if self.allotments is not None:
            yield from self._allotment(tenant_id, self.allotments.get(tenant_id, 0))

    def refuse_cost(self, definition: Definition, lane: Lane) -> Refusal | None:
        """Why a job to be created could never have its tokens, if it could not."""
        controls = self.tenants.get(lane.tenant_id)
        burst = None if controls is None else controls.of_lane(lane).burst
        if burst is None or definition.cost <= burst[0]:
            return None
        return Refusal(
            ErrorCode.INVALID_FIELD,
            f"cost {definition.cost} is above the burst {burst[0]} of {burst[1]}, so the job could "
            "never start; lower its cost, or raise the burst",
            {"path": "cost", "burst": burst[0], "limit": burst[1]},
        )

    def rate_request(self, job: Job, lane: Lane) -> RateRequest | None:
        """The tokens a job needs to start, or None when it needs none."""
        return self.rate_request_of(job.job_id, job.definition, lane, is_retry=job.failures > 0)

    def rate_request_of(
        self, job_id: str, definition: Definition, lane: Lane, *, is_retry: bool = False
    ) -> RateRequest | None:
        controls = self.tenants.get(lane.tenant_id)
        if controls is None:
            return None
        rules = controls.of_lane(lane)
        keys = rules.rate_keys
        if definition.project_id:
            keys += controls.of_project(definition.project_id).rate_keys
        is_retry = is_retry and rules.source_id is not None
        if is_retry:
            keys += (f"retry:{rules.source_id}",)
        if not keys:
            return None
        return RateRequest(job_id, keys, definition.cost, is_retry)

    def is_of_lane(self, lane: Lane, rate_key: str) -> bool:
        """Whether a limit bears on every job of a lane."""
        controls = self.tenants.get(lane.tenant_id)
        return controls is not None and rate_key in controls.of_lane(lane).rate_keys

    def subjects_freed(self, parts: tuple[Part, ...]) -> Iterator[Subject]:
        """What may open when a job has let go of its places."""
        yield from parts
        if self.allotments is not None and parts:
            yield allotment_subject(parts[0][0])
        for tenant_id, scope, key in parts:
            if scope == "source":
                yield (tenant_id, "breaker", key)
                controls = self.tenants.get(tenant_id)
                source = controls.source(key) if controls is not None else None
                if source is not None and source.lock_key is not None:
                    yield (tenant_id, "lock", source.lock_key)

    def _pauses(
        self, tenant_id: str, paused: tuple[str, ...], *, of_lane: bool = True
    ) -> Iterator[ClosedGate]:
        for name in paused:
            yield ClosedGate(
                gate="paused",
                key=name,
                observed="paused",
                limit="running",
                message=f"{name} is paused; resume it",
                subject=controls_subject(tenant_id),
                of_lane=of_lane,
                opens_on="an operator resuming it",
            )

    def _source(self, tenant_id: str, rules: LaneRules, at: int) -> Iterator[ClosedGate]:
        source_id = rules.source_id
        assert source_id is not None
        verdict = self.sources.may_start(tenant_id, source_id, at)
        if verdict is not None:
            yield ClosedGate(
                gate="breaker",
                key=source_id,
                observed=f"{verdict.position}: {verdict.observed}",
                limit=str(verdict.limit),
                message=(
                    f"the breaker of source {source_id} is {verdict.position} "
                    f"({verdict.cause}: {verdict.observed}, limit {verdict.limit})"
                ),
                subject=(tenant_id, "breaker", source_id),
                opens_at=verdict.opens_at,
                opens_on=None if verdict.opens_at else "the end of a probe, or an operator",
            )
        if rules.lock_key is not None and self._occupancy.of_all(rules.lock_parts):
            yield ClosedGate(
                gate="concurrency_key",
                key=rules.lock_key,
                observed=str(self._occupancy.of_all(rules.lock_parts)),
                limit="1",
                message=f"a job of a source with lock key {rules.lock_key!r} is running",
                subject=(tenant_id, "lock", rules.lock_key),
                opens_on="the running job's end",
            )
        part = (tenant_id, "source", source_id)
        lowered = self.sources.running_max(tenant_id, source_id)
        running = self._occupancy.of(part)
        if lowered is not None and running >= lowered:
            yield ClosedGate(
                gate="no_slot",
                key=f"source:{source_id}",
                observed=str(running),
                limit=str(lowered),
                message=(
                    f"source {source_id} is slow or failing: at most {lowered} of its jobs run "
                    "until it recovers"
                ),
                subject=part,
                opens_on="a running job's end, or the source's recovery",
            )

    def _full(self, place: Place) -> ClosedGate:
        running = self._occupancy.of(place.part)
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

    def _allotment(self, tenant_id: str, slots: int) -> Iterator[ClosedGate]:
        """Judged last, so that who waits for slots would use them."""
        running = self._occupancy.of((tenant_id, "tenant", ""))
        if running >= slots:
            yield ClosedGate(
                gate="quota_active",
                key="governance",
                observed=str(running),
                limit=str(slots),
                message=(
                    f"governance lets {slots} jobs of this tenant run at once now, and {running} do"
                ),
                subject=allotment_subject(tenant_id),
                opens_on="a running job's end, or slots that other tenants leave",
            )

    def _concurrency_key(self, job: Job, key: str) -> Iterator[ClosedGate]:
        part = (job.tenant_id, "concurrency_key", key)
        running = self._occupancy.of(part)
        limit = job.definition.concurrency_limit or 1
        if running >= limit:
            yield ClosedGate(
                gate="concurrency_key",
                key=key,
                observed=str(running),
                limit=str(limit),
                message=f"{running} of at most {limit} jobs with this key run",
                subject=part,
                of_lane=False,
                opens_on="a running job's end",
            )


def _in_blackout(tenant_id: str, name: str, until_at: int) -> ClosedGate:
    return ClosedGate(
        gate="blackout",
        key=name,
        observed="inside a window",
        limit="nothing starts",
        message=f"blackout {name} is in force",
        subject=(tenant_id, "blackout", name),
        opens_at=until_at,
    )
