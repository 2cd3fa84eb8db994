"""The controls of one tenant, compiled into what bears on a lane, a project and a rate bucket.

Controls change rarely and jobs start all the time, so every question the granting step asks is
answered here once per lane and kept until a control changes.

Not here: how a gate is judged (``gates``), who may change a control (``controls``).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from jobengine.core.lease_shard.rules import JobRules, LaneRules, Place, ProjectRules
from jobengine.domain.blackout import Blackout, BlackoutGate
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Quota,
    RatePolicy,
    Scope,
    Source,
    Throttle,
    Weight,
    control_name,
)
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import Limit

__all__ = ["ControlSet", "Revision"]

C = TypeVar("C", Source, Quota, Throttle, Blackout, Pause, Weight)
_Reach = tuple[tuple[Scope, str], ...]

_RULES_MAX: Final = 20_000
"""Lanes in projects of one tenant whose rules are kept at once."""
_ANY_COST: Final = 1 << 62
_RETRY_BURST: Final = 100
_RETRY_PER_MINUTE_MICRO: Final = 600 * 1_000_000
_RETRY_START_SHARE_MICRO: Final = 200_000
"""Retries of a source: ten a second, and one for each five first starts (spec: retry budget)."""


class Revision(NamedTuple):
    """How often a control was changed, and when last."""

    number: int
    changed_at: int


class ControlSet:
    """``changed`` is called whenever answers given before may no longer hold."""

    def __init__(self, tenant_id: str, changed: Callable[[], None]) -> None:
        self.tenant_id = tenant_id
        self._changed = changed
        self.documents: dict[tuple[ControlKind, str], Control] = {}
        self.revisions: dict[tuple[ControlKind, str], Revision] = {}
        self._blackouts: dict[str, BlackoutGate] = {}
        self._lanes: dict[Lane, LaneRules] = {}
        self._projects: dict[str, ProjectRules] = {}
        self._jobs: dict[tuple[Lane, str], JobRules] = {}
        self._sources: dict[str, Source] = {}
        self._limits: dict[str, Limit] | None = None

    def put(
        self, kind: ControlKind, name: str, control: Control | None, revision: Revision
    ) -> None:
        """Set a control, or take it away with None."""
        if kind == "blackout":
            self._blackouts.pop(name, None)
        elif kind == "source":
            self._sources.pop(name, None)
        if control is None:
            self.documents.pop((kind, name), None)
            self.revisions.pop((kind, name), None)
        else:
            self.documents[(kind, name)] = control
            self.revisions[(kind, name)] = revision
            if isinstance(control, Blackout):
                self._blackouts[name] = BlackoutGate(control)
            elif isinstance(control, Source):
                self._sources[name] = control
        self._forget_rules()
        self._limits = None
        self._changed()

    def blackout(self, name: str) -> BlackoutGate | None:
        return self._blackouts.get(name)

    def source(self, source_id: str | None) -> Source | None:
        return self._sources.get(source_id) if source_id is not None else None

    def all_of(self, type_: type[C]) -> Iterator[tuple[str, C]]:
        for (_, name), control in self.documents.items():
            if isinstance(control, type_):
                yield name, control

    def of_job(self, lane: Lane, project_id: str) -> JobRules:
        rules = self._jobs.get((lane, project_id))
        if rules is None:
            if len(self._jobs) >= _RULES_MAX:
                self._forget_rules()
            rules = self._jobs[(lane, project_id)] = self._compile_job(lane, project_id)
        return rules

    def of_lane(self, lane: Lane) -> LaneRules:
        rules = self._lanes.get(lane)
        if rules is None:
            rules = self._lanes[lane] = self._compile(lane)
        return rules

    def of_project(self, project_id: str) -> ProjectRules:
        rules = self._projects.get(project_id)
        if rules is None:
            reach: _Reach = (("project", project_id),)
            rules = self._projects[project_id] = ProjectRules(
                paused=tuple(self._pauses(reach)),
                places=tuple(self._places(reach)),
                rate_keys=(*self._throttle_keys(reach), *self._quota_keys(reach)),
            )
        return rules

    def limits(self) -> list[Limit]:
        """Every limit that jobs of this tenant can be asked tokens of."""
        return list(self._limits_by_key().values())

    def limit(self, key: str) -> Limit | None:
        return self._limits_by_key().get(key)

    def _limits_by_key(self) -> dict[str, Limit]:
        if self._limits is None:
            self._limits = {limit.key: limit for limit in self._compile_limits()}
        return self._limits

    def _compile_limits(self) -> list[Limit]:
        limits = [
            _limit(f"throttle:{name}", (throttle.rate,), adaptive=False)
            for name, throttle in self.all_of(Throttle)
        ]
        limits += [
            _hourly(name, quota)
            for name, quota in self.all_of(Quota)
            if quota.max_per_hour is not None
        ]
        by_host: dict[str, list[RatePolicy]] = {}
        for source_id, source in self.all_of(Source):
            limits.append(_retry_budget(source_id))
            if source.rate_policy is None:
                denied = Limit(key=f"source:{source_id}", gate="rate", burst=0)
                limits.append(denied)
            else:
                by_host.setdefault(source.host, []).append(source.rate_policy)
        limits += [
            _limit(f"host:{host}", policies, adaptive=True) for host, policies in by_host.items()
        ]
        return limits

    def weights(self) -> Iterator[tuple[str | tuple[str, str], int]]:
        """Weights that differ from one: sources by id, job types of a source by both."""
        job_types = dict(self.all_of(Weight))
        for source_id, source in self.all_of(Source):
            if source.weight != 1:
                yield source_id, source.weight
        sources = ["", *(source_id for source_id, _ in self.all_of(Source))]
        for weight in job_types.values():
            for source_id in sources:
                yield (source_id, weight.key), weight.weight

    def _forget_rules(self) -> None:
        self._lanes.clear()
        self._projects.clear()
        self._jobs.clear()

    def _compile_job(self, lane: Lane, project_id: str) -> JobRules:
        of_lane = self.of_lane(lane)
        project = self.of_project(project_id) if project_id else None
        rate_keys = of_lane.rate_keys if project is None else of_lane.rate_keys + project.rate_keys
        budget = () if of_lane.source_id is None else (f"retry:{of_lane.source_id}",)
        source = self.source(lane.source_id)
        return JobRules(
            lane=of_lane,
            project=project,
            rate_keys=rate_keys,
            retry_keys=rate_keys + budget,
            cost_max=_ANY_COST if of_lane.burst is None else of_lane.burst[0],
            line="\0".join(lane[1:]),
            weight=1 if source is None else source.weight,
        )

    def _compile(self, lane: Lane) -> LaneRules:
        reach: _Reach = (
            ("tenant", ""),
            ("queue", lane.queue),
            ("job_type", lane.job_type),
            *([("source", lane.source_id)] if lane.source_id else ()),
        )
        source = self.source(lane.source_id)
        lock_key = source.lock_key if source is not None else None
        return LaneRules(
            paused=tuple(self._pauses(reach)),
            blackouts=tuple(
                (name, self._blackouts[name])
                for name, blackout in self.all_of(Blackout)
                if (blackout.scope, blackout.key) in reach
            ),
            source_id=lane.source_id if source is not None else None,
            lock_key=lock_key,
            lock_parts=tuple(
                (self.tenant_id, "source", source_id)
                for source_id, other in self.all_of(Source)
                if lock_key is not None and other.lock_key == lock_key
            ),
            places=tuple(self._places(reach)),
            rate_keys=(
                *self._source_keys(lane.source_id),
                *self._throttle_keys(reach),
                *self._quota_keys(reach),
            ),
            burst=min(self._bursts(reach, lane.source_id), default=None),
        )

    def _pauses(self, reach: _Reach) -> Iterator[str]:
        """What pauses these parts, by name: pauses, and quotas that are paused."""
        for scope, key in reach:
            name = control_name(scope, key)
            if ("pause", name) in self.documents:
                yield name
        for name, quota in self.all_of(Quota):
            if quota.paused and (quota.scope, quota.key) in reach:
                yield f"quota:{name}"

    def _places(self, reach: _Reach) -> Iterator[Place]:
        for name, quota in self.all_of(Quota):
            if quota.max_active is not None and (quota.scope, quota.key) in reach:
                part = (self.tenant_id, quota.scope, quota.key)
                yield Place(f"quota:{name}", part, quota.max_active)
        for scope, key in reach:
            source = self.source(key) if scope == "source" else None
            if source is not None and source.max_active is not None:
                yield Place(f"source:{key}", (self.tenant_id, "source", key), source.max_active)

    def _source_keys(self, source_id: str) -> Iterator[str]:
        source = self.source(source_id)
        if source is not None:
            yield f"host:{source.host}" if source.rate_policy else f"source:{source_id}"

    def _throttle_keys(self, reach: _Reach) -> Iterator[str]:
        for name, throttle in self.all_of(Throttle):
            if (throttle.scope, throttle.key) in reach:
                yield f"throttle:{name}"

    def _bursts(self, reach: _Reach, source_id: str) -> Iterator[tuple[int, str]]:
        source = self.source(source_id)
        if source is not None and source.rate_policy is not None:
            yield source.rate_policy.burst, f"source {source_id}"
            burst = self._limits_by_key()[f"host:{source.host}"].burst
            if burst is not None and burst < source.rate_policy.burst:
                yield burst, f"host {source.host}"
        for name, throttle in self.all_of(Throttle):
            if (throttle.scope, throttle.key) in reach:
                yield throttle.rate.burst, f"throttle {name}"

    def _quota_keys(self, reach: _Reach) -> Iterator[str]:
        for name, quota in self.all_of(Quota):
            if quota.max_per_hour is not None and (quota.scope, quota.key) in reach:
                yield f"quota:{name}"


def _limit(key: str, policies: Sequence[RatePolicy], *, adaptive: bool) -> Limit:
    """The tightest of the policies, for sources of one host share what the host allows."""
    return Limit(
        key=key,
        gate="rate",
        per_minute_micro=min(policy.per_minute_micro for policy in policies),
        burst=min(policy.burst for policy in policies),
        cooldown_us=max(policy.cooldown_us for policy in policies),
        adaptive=adaptive,
    )


def _hourly(name: str, quota: Quota) -> Limit:
    hour_max = quota.max_per_hour
    assert hour_max is not None
    return Limit(
        key=f"quota:{name}",
        gate="quota_hour",
        hour_max=hour_max,
        per_minute_micro=None if quota.burst is None else hour_max * 1_000_000 // 60,
        burst=quota.burst,
    )


def _retry_budget(source_id: str) -> Limit:
    return Limit(
        key=f"retry:{source_id}",
        gate="retry_budget",
        per_minute_micro=_RETRY_PER_MINUTE_MICRO,
        burst=_RETRY_BURST,
        start_share_micro=_RETRY_START_SHARE_MICRO,
    )
