"""Gates: why a job may not start now. What admits a job is what explains it.

``closed`` yields the closed gates of a job in a fixed order; the granting step asks for the first,
``explain`` for all of them. A gate is judged from the tenant's controls, from what runs
(``occupancy``) and from what its source has done lately (``sources``).

I1  A gate with ``opens_at`` is open at that instant, and not before, if nothing else happens.
I2  Without controls and allotments a tenant's jobs meet no gate but that of their own concurrency
    key.
I3  A gate *of the lane* keeps every job of that lane; any other only the job at hand, and jobs
    behind it may go first.
I4  ``first_closed`` is the first of ``closed``. What was found open is not judged anew while
    nothing can have closed it: no source has moved, no blackout begun, and fewer jobs have started
    than there were places free (``JobRules``).

Not here: rates (``rate_bucket``), what waits at a closed gate (``waiting_room``), workers and the
place in the lane (``explain``).
"""

from collections.abc import Iterator

from jobengine.core.lease_shard.closed_gate import (
    ClosedGate,
    allotment_subject,
    in_blackout,
    key_taken,
    paused,
    place_full,
)
from jobengine.core.lease_shard.kinds import Kind, Kinds
from jobengine.core.lease_shard.occupancy import Occupancy
from jobengine.core.lease_shard.rules import JobRules, LaneRules, Part, Place
from jobengine.core.lease_shard.sources import WatchedSource
from jobengine.core.lease_shard.waiting_room import Subject
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import AT_MAX
from jobengine.domain.job import Definition, Job
from jobengine.domain.records import Lane

__all__ = ["Gates"]

_LOW_PRIORITY_MAX = 1
_NEVER_AT = AT_MAX + 1


class Gates:
    """The gates of every tenant of a shard. ``deferring`` is set while the engine is too busy for
    work of low priority. ``allotments``: how many jobs each tenant may run, and who is not in it
    none; None while no strategy across tenants is in force."""

    def __init__(self, kinds: Kinds, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self.tenants = kinds.tenants
        self.controls = kinds.controls
        self.sources = kinds.sources
        self.allotments: dict[str, int] | None = None
        self.deferring = False

    def leave_free(self, kind: Kind) -> bool:
        """Whether nothing but a concurrency key may keep a due job of this kind."""
        return kind.is_free and self.allotments is None and not self.deferring

    def first_closed(self, job: Job, kind: Kind, at: int, *, holding: int = 0) -> ClosedGate | None:
        """What ``closed`` yields first. A job that holds its places already (``holding`` 1) is
        judged as if it did not."""
        rules = kind.rules
        if rules is not None and (
            self._occupancy.taken - holding >= rules.open_taken_max
            or at >= rules.open_until_at
            or self.sources.moves != rules.open_moves
        ):
            gate = next(self._of_rules(kind, rules, at, holding), None)
            if gate is not None:
                return gate
            self._remember_open(kind, rules, at)
        definition = job.definition
        key = definition.concurrency_key
        if key is not None:
            running = self._occupancy.by_key.get((job.tenant_id, key), 0)
            if running - holding >= (definition.concurrency_limit or 1):
                return key_taken(job, key, running)
        if self.deferring or self.allotments is not None:
            return next(self._of_load(job, holding), None)
        return None

    def closed(self, job: Job, kind: Kind, at: int) -> Iterator[ClosedGate]:
        """Every closed gate of a job that is due, the same instant for all of them."""
        if kind.rules is not None:
            yield from self._of_rules(kind, kind.rules, at, 0)
        key = job.definition.concurrency_key
        if key is not None:
            running = self._occupancy.of_key(job.tenant_id, key)
            if running >= (job.definition.concurrency_limit or 1):
                yield key_taken(job, key, running)
        yield from self._of_load(job, 0)

    def _of_rules(self, kind: Kind, rules: JobRules, at: int, holding: int) -> Iterator[ClosedGate]:
        """The closed gates of a lane, then those of a project."""
        tenant_id, lane, project = kind.lane.tenant_id, rules.lane, rules.project
        for name in lane.paused:
            yield paused(tenant_id, name)
        for name, blackout in lane.blackouts:
            until_at = blackout.closed_until(at)
            if until_at is not None:
                yield in_blackout(tenant_id, name, until_at)
        if kind.source is not None:
            yield from self._source(kind.source, lane, at, holding)
        yield from self._full(lane.places, holding)
        if project is not None:
            for name in project.paused:
                yield paused(tenant_id, name, of_lane=False)
            yield from self._full(project.places, holding)

    def _remember_open(self, kind: Kind, rules: JobRules, at: int) -> None:
        """Note for how long an open lane and project stay so (I4)."""
        lane, project, running_in = rules.lane, rules.project, self._occupancy.of
        free = [place.max_active - running_in(place.part) for place in lane.places]
        if project is not None:
            free += [place.max_active - running_in(place.part) for place in project.places]
        if kind.source is not None:
            if not kind.source.lets_all:
                return
            lowered = kind.source.running_max
            if lowered is not None:
                free.append(lowered - kind.running_of_source)
            if lane.lock_key is not None:
                free.append(1 - self._occupancy.of_all(lane.lock_parts))
        changes = (blackout.next_change_at(at) for _, blackout in lane.blackouts)
        rules.open_until_at = min((each for each in changes if each is not None), default=_NEVER_AT)
        rules.open_taken_max = self._occupancy.taken + min(free, default=_NEVER_AT)
        rules.open_moves = self.sources.moves

    def _of_load(self, job: Job, holding: int) -> Iterator[ClosedGate]:
        """What the whole engine's load, and then other tenants, keep from starting."""
        tenant_id = job.tenant_id
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
            yield from self._allotment(tenant_id, self.allotments.get(tenant_id, 0), holding)

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
                controls = self.tenants.get(tenant_id)
                source = controls.source(key) if controls is not None else None
                if source is not None and source.lock_key is not None:
                    yield (tenant_id, "lock", source.lock_key)

    def _source(
        self, source: WatchedSource, rules: LaneRules, at: int, holding: int
    ) -> Iterator[ClosedGate]:
        tenant_id, source_id = source.tenant_id, source.source_id
        verdict = source.refusal(at)
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
        if rules.lock_key is not None and self._occupancy.of_all(rules.lock_parts) > holding:
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
        lowered = source.running_max
        running = self._occupancy.of(part)
        if lowered is not None and running - holding >= lowered:
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

    def _full(self, places: tuple[Place, ...], holding: int) -> Iterator[ClosedGate]:
        for place in places:
            running = self._occupancy.of(place.part)
            if running - holding >= place.max_active:
                yield place_full(place, running)

    def _allotment(self, tenant_id: str, slots: int, holding: int) -> Iterator[ClosedGate]:
        """Judged last, so that who waits for slots would use them."""
        running = self._occupancy.of((tenant_id, "tenant", ""))
        if running - holding >= slots:
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
