"""The rate bucket of one tenant: every rate, hour and retry budget that its jobs must respect.

Decides which requests get their tokens, when a denied one would, and how fast an upstream that
pushes back is called from now on. It hears from the tenant's lease shard alone and answers it
alone. It asks nobody: the shard brings the limits and what was stored of the buckets.

I1  What it gives in any span of time is at most the burst and what came in during that span; an
    hour never has more starts than its limit allows. That holds across restarts too, for states are
    stored with the grants they paid for.
I2  Time passes on the monotonic clock; the wall clock counts only from the stored state to the
    first message of a life (``timeline``). ``wakeup_at`` is None: tokens come when they are asked
    for.
I3  Admission and explanation are one function (``walk``).
I4  Lanes that wait for one limit take turns at it, by cost and weight (``lines``).

A ``Configure`` that leaves a key out forgets it; refunds and starts of forgotten keys are ignored.

Not here: whose turn it is among jobs, and what becomes of a grant (``core/lease_shard``).
"""

from collections.abc import Sequence
from typing import Any

from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.lines import Lines
from jobengine.core.rate_bucket.refill import MICRO
from jobengine.core.rate_bucket.stored import restore, state_of
from jobengine.core.rate_bucket.telling import number
from jobengine.core.rate_bucket.timeline import Timeline
from jobengine.core.rate_bucket.walk import Walk
from jobengine.domain.instant import SECOND, Moment
from jobengine.messages.rate_bucket import (
    Adapted,
    BucketState,
    Configure,
    Denial,
    Learn,
    Peek,
    Peeked,
    PushedBack,
    Refund,
    Reserve,
    Reserved,
    Started,
)
from jobengine.messages.wake import Wake

__all__ = ["RateBucket"]


class RateBucket:
    """``handle`` is the only verb; see ``core/machine.py``."""

    __slots__ = ("_buckets", "_lines", "_tenant_id", "_timeline")

    def __init__(self, tenant_id: str) -> None:
        self._tenant_id = tenant_id
        self._buckets: dict[str, Bucket] = {}
        self._lines = Lines()
        self._timeline: Timeline | None = None

    @property
    def wakeup_at(self) -> float | None:
        return None

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        if self._timeline is None:
            self._timeline = Timeline(now)
        at = self._timeline.steady(now)
        match message:
            case Reserve():
                return (self._reserve(message, at),)
            case Peek():
                return (self._peek(message, at),)
            case Refund():
                return self._refund(message, at)
            case Started():
                return self._started(message, at)
            case PushedBack():
                return self._pushed_back(message, at)
            case Learn():
                return self._learn(message, at)
            case Configure():
                return self._configure(message, at)
            case Wake():
                return ()
            case _:
                raise TypeError(f"a rate bucket does not understand {type(message).__name__}")

    @property
    def _drift(self) -> int:
        return 0 if self._timeline is None else self._timeline.drift

    def _configure(self, message: Configure, at: int) -> tuple[()]:
        before, self._buckets = self._buckets, {}
        self._lines.forget()
        for limit in message.limits:
            bucket = before.get(limit.key)
            if bucket is None:
                state = message.states.get(limit.key)
                if state is None:
                    bucket = Bucket.fresh(self._tenant_id, limit, at)
                else:
                    bucket = restore(self._tenant_id, limit, at, state, self._drift)
            elif bucket.limit != limit:
                bucket.settle(at)
                bucket.reconfigure(limit)
            self._buckets[limit.key] = bucket
        return ()

    def _reserve(self, message: Reserve, at: int) -> Reserved:
        drift = self._drift
        walk = Walk(self._buckets, at, drift, self._lines)
        denials = [walk.reserve(request) for request in message.requests]
        walk.finish()
        states: dict[str, BucketState] = {
            key: state_of(bucket, drift) for key, bucket in walk.taken_from.items()
        }
        return Reserved(
            tenant_id=self._tenant_id,
            stamp=message.stamp,
            at=at + drift,
            denials=denials,
            states=states,
        )

    def _peek(self, message: Peek, at: int) -> Peeked:
        walk = Walk(self._buckets, at, self._drift, self._lines.copy())
        denials: list[Sequence[Denial]] = [walk.peek(request) for request in message.requests]
        for request, closed in zip(reversed(message.requests), reversed(denials), strict=True):
            if not closed:
                walk.undo(request)
        return Peeked(tenant_id=self._tenant_id, stamp=message.stamp, denials=denials)

    def _refund(self, message: Refund, at: int) -> tuple[()]:
        for request in message.requests:
            for key in request.keys:
                bucket = self._buckets.get(key)
                if bucket is not None:
                    bucket.settle(at)
                    need = bucket.need(request)
                    if need is not None:
                        bucket.give_back(need)
        return ()

    def _started(self, message: Started, at: int) -> tuple[()]:
        for key, starts in message.starts.items():
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.settle(at)
                bucket.credit(starts * bucket.limit.start_share_micro * MICRO)
        return ()

    def _pushed_back(self, message: PushedBack, at: int) -> Sequence[Adapted]:
        bucket = self._buckets.get(message.key)
        if bucket is None or not bucket.learns:
            return ()
        bucket.settle(at)
        from_micro = bucket.rate()
        granted_at = None if message.granted_at is None else message.granted_at - self._drift
        if not bucket.push_back(message, granted_at):
            return ()
        cause = f"HTTP {message.http_status}"
        if message.retry_after_us is not None:
            cause += f", Retry-After {number(message.retry_after_us * 1_000_000 // SECOND)} s"
        return (self._adapted(bucket, from_micro, cause),)

    def _learn(self, message: Learn, at: int) -> Sequence[Adapted]:
        bucket = self._buckets.get(message.key)
        if bucket is None or not bucket.learns:
            return ()
        bucket.settle(at)
        from_micro = bucket.rate()
        bucket.be_told(message.learned_micro, pinned=message.pinned)
        return (self._adapted(bucket, from_micro, "operator"),)

    def _adapted(self, bucket: Bucket, from_micro: int, cause: str) -> Adapted:
        return Adapted(
            tenant_id=self._tenant_id,
            key=bucket.limit.key,
            state=state_of(bucket, self._drift),
            from_micro=from_micro,
            to_micro=bucket.rate(),
            cause=cause,
        )
