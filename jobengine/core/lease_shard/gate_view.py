"""Where a tenant's gates stand, for operators: breakers, buckets, quotas, lowered concurrency.

I1  A bucket is shown as it is at this instant: its last stored state, refilled since then.
I2  Looking changes nothing.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import msgspec

from jobengine.core.lease_shard.state import ShardState
from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.refill import MICRO
from jobengine.core.rate_bucket.stored import restore
from jobengine.domain.control import Quota, Source, control_name
from jobengine.messages.admission import GateFacts, GateKind, GatesAnswer
from jobengine.messages.rate_bucket import BucketState, Limit

__all__ = ["bucket_at", "gates_of"]


def gates_of(
    state: ShardState,
    tenant_id: str,
    kinds: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> GatesAnswer:
    """Every gate of a tenant that has a state, by kind and key; of these kinds and keys only, where
    they are given."""
    wanted = None if keys is None else frozenset(keys)
    found = [
        facts
        for kind, facts_of in _KINDS.items()
        if kinds is None or kind in kinds
        for facts in facts_of(state, tenant_id, wanted)
    ]
    found.sort(key=lambda facts: (facts.kind, facts.key))
    return GatesAnswer(gates=found, running=state.occupancy.of((tenant_id, "tenant", "")))


_Wanted = frozenset[str] | None


def _breakers(state: ShardState, tenant_id: str, wanted: _Wanted) -> Iterator[GateFacts]:
    for source_id, breaker in state.gates.sources.breakers_of(tenant_id):
        if wanted is None or source_id in wanted:
            failures, outcomes = breaker.counts(state.now.at)
            held = msgspec.to_builtins(breaker.state) | {"failures": failures, "outcomes": outcomes}
            yield GateFacts(kind="breaker", key=source_id, state=held)


def _pools(state: ShardState, tenant_id: str, wanted: _Wanted) -> Iterator[GateFacts]:
    for source_id, pool in state.gates.sources.pools_of(tenant_id):
        if pool.limit is not None and (wanted is None or source_id in wanted):
            yield GateFacts(kind="concurrency", key=source_id, state={"limit": pool.limit})


def _buckets(state: ShardState, tenant_id: str, wanted: _Wanted) -> Iterator[GateFacts]:
    known = state.proposals.states_of(tenant_id)
    for limit in state.gates.controls(tenant_id).limits():
        if wanted is None or limit.key in wanted:
            held = _bucket(tenant_id, limit, known.get(limit.key), state.wall_at)
            yield GateFacts(kind="bucket", key=limit.key, state=held)


def bucket_at(tenant_id: str, limit: Limit, kept: BucketState | None, at: int) -> Bucket:
    """A bucket as it is at this instant."""
    if kept is None:
        return Bucket.fresh(tenant_id, limit, at)
    return restore(tenant_id, limit, at, kept, 0)


def _bucket(tenant_id: str, limit: Limit, kept: BucketState | None, at: int) -> dict[str, Any]:
    bucket = bucket_at(tenant_id, limit, kept, at)
    learned = bucket.learned
    return {
        "perMinuteMicro": limit.per_minute_micro,
        "burst": limit.burst,
        "cooldownUs": limit.cooldown_us,
        "hourMax": limit.hour_max,
        "tokensMicro": bucket.units // MICRO,
        "refillMicro": bucket.rate() if limit.per_minute_micro is not None else 0,
        "learnedMicro": None if learned is None else bucket.rate(),
        "pinned": learned is not None and learned.pinned,
        "openAt": bucket.open_at if bucket.open_at > at else None,
        "startsInHour": 0 if bucket.hour is None else bucket.hour.count(at),
    }


def _quotas(state: ShardState, tenant_id: str, wanted: _Wanted) -> Iterator[GateFacts]:
    room = state.waiting_room
    for name, quota in state.gates.controls(tenant_id).all_of(Quota):
        if wanted is None or name in wanted:
            part = (tenant_id, quota.scope, quota.key)
            waiting = room.count(part) + room.count((tenant_id, "rate", f"quota:{name}"))
            held = {"running": state.occupancy.of(part), "waiting": waiting}
            yield GateFacts(kind="quota", key=name, state=held)


def _sources(state: ShardState, tenant_id: str, wanted: _Wanted) -> Iterator[GateFacts]:
    controls = state.gates.controls(tenant_id)
    for source_id, _ in controls.all_of(Source):
        if wanted is None or source_id in wanted:
            running = state.occupancy.of((tenant_id, "source", source_id))
            paused = ("pause", control_name("source", source_id)) in controls.documents
            held = {"running": running, "paused": paused}
            yield GateFacts(kind="source", key=source_id, state=held)


_KINDS: Final[dict[GateKind, Callable[[ShardState, str, _Wanted], Iterator[GateFacts]]]] = {
    "breaker": _breakers,
    "concurrency": _pools,
    "bucket": _buckets,
    "quota": _quotas,
    "source": _sources,
}
