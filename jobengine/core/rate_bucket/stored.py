"""What of a bucket outlives a life: to a stored state and back.

States are on the wall clock, buckets on steady time; ``drift`` is the way from the one to the other
(``timeline``). Where a state cannot be exact it errs towards fewer starts: levels are rounded down,
minutes of the hour up.
"""

from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.learning import Learned
from jobengine.core.rate_bucket.refill import MICRO
from jobengine.domain.instant import MINUTE
from jobengine.messages.rate_bucket import BucketState, Limit

__all__ = ["restore", "state_of"]


def state_of(bucket: Bucket, drift: int) -> BucketState:
    learned = bucket.learned
    return BucketState(
        at=bucket.settled_at + drift,
        ceiling_micro=None if learned is None else learned.ceiling,
        hour=() if bucket.hour is None else bucket.hour.stored(drift),
        learned_at=0 if learned is None else learned.at + drift,
        learned_micro=None if learned is None else learned.micro,
        level_micro=bucket.units // MICRO,
        open_at=bucket.open_at + drift if bucket.open_at > bucket.settled_at else 0,
        pinned=learned is not None and learned.pinned,
    )


def restore(tenant_id: str, limit: Limit, at: int, state: BucketState, drift: int) -> Bucket:
    """A bucket as it stood at ``state.at``, refilled since then.

    A clock that was set back meanwhile counts as no time, and takes every instant back with it.
    """
    state_at = state.at - drift
    back = drift + max(0, state_at - at)
    bucket = Bucket(tenant_id, limit, min(at, state_at))
    bucket.adopt(limit)
    bucket.open_at = bucket.told_open_at = state.open_at - back if state.open_at else 0
    bucket.heed(_learned(bucket, state, back))
    bucket.units = max(0, min(state.level_micro * MICRO, bucket.cap))
    if bucket.hour is not None:
        for minute, starts in state.hour:
            latest_at = min((minute + 1) * MINUTE - 1, state.at) - back
            bucket.hour.add(latest_at // MINUTE, starts)
    bucket.settle(at)
    return bucket


def _learned(bucket: Bucket, state: BucketState, back: int) -> Learned | None:
    configured, micro = bucket.limit.per_minute_micro, state.learned_micro
    if micro is None or configured is None or not bucket.learns:
        return None
    learned_at = state.learned_at - back
    return Learned(
        seed=bucket.seed,
        configured=configured,
        micro=min(micro, configured),
        at=learned_at,
        ceiling=min(state.ceiling_micro or micro, configured),
        pinned=state.pinned,
        halved_at=min(learned_at, bucket.settled_at),
    )
