"""Gauges of admission: where the gates of all tenants stand, for metrics, within a bound.

A *census* is taken of all shards at one instant. Of each kind it tells as many gates as were asked
for: those that keep or slow jobs before the others.

I1  Looking changes nothing.
I2  At most ``keys_max`` gauges of a kind are told, ``_PASSED_MAX`` controls and buckets are passed
    over, and ``_LOOKED_AT_MAX`` of them that are no source looked at, whatever there is; what that
    leaves out is counted. Only for what is told is anything computed.
I3  A gauge has the key by which ``explain`` names the gate.

Sources may be many and most of them are in no trouble, so they are passed over in comprehensions.

Not here: all that is known of one tenant's gates (``gate_view``), names and units of metrics
(``http``), allotments (``core/governor``).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from jobengine.core.breaker_state import Position
from jobengine.core.lease_shard.control_set import ControlSet
from jobengine.core.lease_shard.gate_view import bucket_at
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.refill import TOKEN
from jobengine.domain.blackout import Blackout
from jobengine.domain.control import Control, ControlKind, Pause, Quota, Source, Throttle
from jobengine.domain.instant import SECOND

__all__ = ["Census", "Gauge", "GaugeKind", "Shortlist"]

GaugeKind = Literal[
    "breaker", "concurrency", "quota_active", "blackout", "paused", "bucket", "quota_hour"
]
T = TypeVar("T")
_Name = tuple[ControlKind, str]

_PASSED_MAX: Final = 25_000
_LOOKED_AT_MAX: Final = 1_000
_PER_SECOND: Final = 60_000_000
"""A token a second, in millionths of a token a minute."""
_POSITIONS: Final = {
    Position.CLOSED: 0,
    Position.HALF_OPEN: 1,
    Position.OPEN: 2,
    Position.FORCED_CLOSED: 3,
    Position.FORCED_OPEN: 4,
}


class Gauge(NamedTuple):
    """Where one gate stands. ``values`` by kind:

    - breaker: 0 closed, 1 half open, 2 open, 3 forced closed, 4 forced open
    - concurrency: how many of a source's jobs may run at once while it is slow or fails
    - quota_active: jobs that run, jobs that may; quota_hour: starts that count, starts that may
    - blackout: 1 inside a window, else 0; paused: 1
    - bucket: tokens, burst, refill a second as it is and as it is configured, and seconds until a
      push-back lets anything start
    """

    tenant_id: str
    key: str
    values: tuple[float, ...]


class Shortlist(Generic[T]):
    """Of what is offered the first ``length_max``, those that are urgent before the others."""

    __slots__ = ("_calm", "_urgent", "length_max", "offered")

    def __init__(self, length_max: int) -> None:
        self.length_max = length_max
        self.offered = 0
        self._urgent: list[T] = []
        self._calm: list[T] = []

    def offer(self, items: Iterable[T], count: int, *, urgent: bool) -> None:
        """Of ``count`` items only those are asked for that find room."""
        self.offered += count
        chosen = self._urgent if urgent else self._calm
        chosen.extend(islice(items, self.length_max - len(chosen)))

    def chosen(self) -> list[T]:
        return [*self._urgent, *self._calm][: self.length_max]

    @property
    def left_out(self) -> int:
        return max(0, self.offered - self.length_max)


class _Gate(NamedTuple):
    """A gate that may be told; its values are computed when it is."""

    state: ShardState
    tenant_id: str
    key: str

    @property
    def controls(self) -> ControlSet:
        return self.state.gates.controls(self.tenant_id)


class Census:
    """``take`` each shard, then read what is ``told``, without waiting in between.

    ``at`` is the present instant in UTC microseconds.
    """

    def __init__(self, at: int, keys_max: int) -> None:
        self._at = at
        self._lists = {kind: Shortlist[_Gate](keys_max) for kind in _VALUES}
        self._passes_left = _PASSED_MAX
        self._looks_left = _LOOKED_AT_MAX
        self.unseen = 0
        """Controls and buckets that were not looked at."""

    def take(self, state: ShardState) -> None:
        watched = state.gates.sources
        troubled = watched.not_closed()
        self._offer("breaker", state, troubled, urgent=True)
        self._offer("concurrency", state, watched.lowered(), urgent=True)
        troubled_of = Counter(tenant_id for tenant_id, _ in troubled)
        for tenant_id, controls in state.gates.tenants.items():
            named = self._bounded(controls.documents)
            sources = [name for name in named if name[0] == "source"]
            calm = (
                _Gate(state, tenant_id, source_id)
                for _, source_id in sources
                if watched.position(tenant_id, source_id) is Position.CLOSED
            )
            closed = len(sources) - troubled_of[tenant_id]
            self._lists["breaker"].offer(calm, closed, urgent=False)
            if len(sources) < len(named):
                self._take_others(state, tenant_id, [name for name in named if name[0] != "source"])
            self._take_places(state, tenant_id, controls, sources)
            self._take_buckets(state, tenant_id, controls)

    def told(self) -> Iterator[tuple[GaugeKind, list[Gauge], int]]:
        """By kind: the gauges by tenant and key, and how many are left out."""
        for kind, gates in self._lists.items():
            values_of = _VALUES[kind]
            gauges = [
                Gauge(gate.tenant_id, gate.key, values_of(gate, self._at))
                for gate in gates.chosen()
            ]
            yield kind, sorted(gauges), gates.left_out

    # ---- what there is

    def _take_places(
        self, state: ShardState, tenant_id: str, controls: ControlSet, sources: Sequence[_Name]
    ) -> None:
        """Sources that may run only so many jobs at once."""
        documents = controls.documents
        limited = [
            name
            for name in sources
            if isinstance(source := documents[name], Source) and source.max_active is not None
        ]
        gates = (_Gate(state, tenant_id, f"source:{source_id}") for _, source_id in limited)
        self._lists["quota_active"].offer(gates, len(limited), urgent=False)

    def _take_others(self, state: ShardState, tenant_id: str, named: Sequence[_Name]) -> None:
        """Everything that is no source, one by one."""
        looks = min(len(named), self._looks_left)
        self._looks_left -= looks
        self.unseen += len(named) - looks
        documents = state.gates.controls(tenant_id).documents
        for name in named[:looks]:
            for kind, key, urgent in self._seen(state, tenant_id, name[1], documents[name]):
                self._offer(kind, state, ((tenant_id, key),), urgent=urgent)

    def _seen(
        self, state: ShardState, tenant_id: str, name: str, control: Control
    ) -> Iterator[tuple[GaugeKind, str, bool]]:
        """Kind and key of every gate that a control is, and whether it is urgent."""
        match control:
            case Quota():
                key = f"quota:{name}"
                if control.paused:
                    yield "paused", key, True
                if control.max_active is not None:
                    part = (tenant_id, control.scope, control.key)
                    yield "quota_active", key, state.occupancy.of(part) >= control.max_active
                if control.max_per_hour is not None:
                    yield "quota_hour", key, True
            case Blackout():
                gate = state.gates.controls(tenant_id).blackout(name)
                yield "blackout", name, gate is not None and gate.closed_until(self._at) is not None
            case Pause():
                yield "paused", name, True
            case Throttle():
                key = f"throttle:{name}"
                if state.proposals.state_of(tenant_id, key) is None:
                    yield "bucket", key, True

    def _take_buckets(self, state: ShardState, tenant_id: str, controls: ControlSet) -> None:
        """Those that were taken from, or have learned something; the others are full."""
        kept = state.proposals.states_of(tenant_id)
        keys = self._bounded(kept)
        slow = [key for key in keys if kept[key].learned_micro is not None]
        others = [key for key in keys if kept[key].learned_micro is None]
        for chosen, urgent in ((slow, True), (others, False)):
            gates = (
                _Gate(state, tenant_id, key)
                for key in chosen
                if (limit := controls.limit(key)) is not None
                if limit.per_minute_micro is not None
            )
            self._lists["bucket"].offer(gates, len(chosen), urgent=urgent)

    def _offer(
        self, kind: GaugeKind, state: ShardState, gates: Sequence[tuple[str, str]], *, urgent: bool
    ) -> None:
        """Gates by tenant and key."""
        offered = (_Gate(state, tenant_id, key) for tenant_id, key in gates)
        self._lists[kind].offer(offered, len(gates), urgent=urgent)

    def _bounded(self, items: Collection[T]) -> list[T]:
        """As many as may still be passed over."""
        passed = list(islice(items, self._passes_left))
        self._passes_left -= len(passed)
        self.unseen += len(items) - len(passed)
        return passed


# ---- values of a gate at an instant


def _breaker(gate: _Gate, _: int) -> tuple[float, ...]:
    return (_POSITIONS[gate.state.gates.sources.position(gate.tenant_id, gate.key)],)


def _concurrency(gate: _Gate, _: int) -> tuple[float, ...]:
    return (gate.state.gates.sources.running_max(gate.tenant_id, gate.key) or 0,)


def _places(gate: _Gate, at: int) -> tuple[float, ...]:
    scope, _, name = gate.key.partition(":")
    control = gate.controls.documents["source" if scope == "source" else "quota", name]
    if isinstance(control, Source):
        part = (gate.tenant_id, "source", name)
    else:
        assert isinstance(control, Quota)
        part = (gate.tenant_id, control.scope, control.key)
    return (gate.state.occupancy.of(part), control.max_active or 0)


def _blackout(gate: _Gate, at: int) -> tuple[float, ...]:
    blackout = gate.controls.blackout(gate.key)
    return (float(blackout is not None and blackout.closed_until(at) is not None),)


def _paused(_: _Gate, __: int) -> tuple[float, ...]:
    return (1,)


def _bucket(gate: _Gate, at: int) -> tuple[float, ...]:
    bucket = _bucket_of(gate, at)
    return (
        bucket.units / TOKEN,
        bucket.limit.burst or 0,
        bucket.rate() / _PER_SECOND,
        (bucket.limit.per_minute_micro or 0) / _PER_SECOND,
        max(0, bucket.open_at - at) / SECOND,
    )


def _hour(gate: _Gate, at: int) -> tuple[float, ...]:
    bucket = _bucket_of(gate, at)
    return (0 if bucket.hour is None else bucket.hour.count(at), bucket.hour_max)


def _bucket_of(gate: _Gate, at: int) -> Bucket:
    limit = gate.controls.limit(gate.key)
    assert limit is not None
    kept = gate.state.proposals.state_of(gate.tenant_id, gate.key)
    return bucket_at(gate.tenant_id, limit, kept, at)


_VALUES: Final[dict[GaugeKind, Callable[[_Gate, int], tuple[float, ...]]]] = {
    "breaker": _breaker,
    "concurrency": _concurrency,
    "quota_active": _places,
    "blackout": _blackout,
    "paused": _paused,
    "bucket": _bucket,
    "quota_hour": _hour,
}
