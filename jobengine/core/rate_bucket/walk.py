"""One pass over requests in their order: what each may take, or every gate that is closed to it.

Definitions. A denied request *queues* at the limit that denied it, with all that it wants of it.
What queues is set aside: a later request of that limit needs it on top of its own.

I1  ``closed_gates`` is the one judgement; ``Reserve`` heeds its first answer, ``Peek`` shows all.
I2  A request takes from all of its limits or from none.
I3  At a limit nobody overtakes: behind a denied request all are denied. One that only a changed
    limit could admit does not queue, or it would hold the others for ever.
I4  ``opens_at`` is the first instant at which that gate admits the request, if those that queue
    before it start as soon as they may.
"""

from collections.abc import Iterator, Mapping

from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.refill import TOKEN
from jobengine.core.rate_bucket.telling import hour_denial, nothing_denial, token_denial, unknown
from jobengine.messages.rate_bucket import Denial, RateRequest

__all__ = ["Walk"]

_NOBODY = (0, 0)


class Walk:
    """``at`` is steady time; ``taken_from`` are the buckets that gave anything, in order."""

    __slots__ = ("_at", "_buckets", "_drift", "_queued", "taken_from")

    def __init__(self, buckets: Mapping[str, Bucket], at: int, drift: int) -> None:
        self._buckets = buckets
        self._at = at
        self._drift = drift
        self._queued: dict[str, tuple[int, int]] = {}
        self.taken_from: dict[str, Bucket] = {}

    def closed_gates(self, request: RateRequest, at: int) -> Iterator[Denial]:
        """Every gate that keeps a request from starting at ``at``, in the order of its keys."""
        buckets, queued = self._buckets, self._queued
        for key in request.keys:
            bucket = buckets.get(key)
            if bucket is None:
                yield unknown(key)
                continue
            if bucket.settled_at < at:
                bucket.settle(at)
            need = bucket.need(request)
            if need is None:
                continue
            if queued and key in queued:
                units, starts = queued[key]
            else:
                units = starts = 0
            if not bucket.has(units + need, starts + 1):
                yield from self._denials(bucket, need, units, starts)

    def reserve(self, request: RateRequest) -> Denial | None:
        """Take what a request needs, or say what denies it first."""
        for denial in self.closed_gates(request, self._at):
            self._queue(request, denial)
            return denial
        buckets, taken_from = self._buckets, self.taken_from
        for key in request.keys:
            bucket = buckets[key]
            need = bucket.need(request)
            if need is not None:
                bucket.take(need)
                taken_from[key] = bucket
        return None

    def peek(self, request: RateRequest) -> tuple[Denial, ...]:
        """Every gate that denies a request; one that has none takes, until ``undo``."""
        denials = tuple(self.closed_gates(request, self._at))
        if denials:
            self._queue(request, denials[0])
        else:
            self.reserve(request)
        return denials

    def undo(self, request: RateRequest) -> None:
        """Give back exactly what ``peek`` took for a request; the last one first."""
        for key in request.keys:
            bucket = self._buckets[key]
            need = bucket.need(request)
            if need is not None:
                bucket.untake(need)

    def _queue(self, request: RateRequest, denial: Denial) -> None:
        if denial.opens_at is None:
            return
        need = self._buckets[denial.key].need(request)
        units, starts = self._queued.get(denial.key, _NOBODY)
        self._queued[denial.key] = units + (need or 0), starts + 1

    def _denials(self, bucket: Bucket, need: int, units: int, starts: int) -> Iterator[Denial]:
        at, drift = self._at, self._drift
        if bucket.denies_all:
            yield nothing_denial(bucket)
            return
        if bucket.has_tokens and (bucket.units < units + need or at < bucket.open_at):
            burst = (bucket.limit.burst or 0) * TOKEN
            opens_at = None if need > burst else bucket.tokens_at(units + need)
            yield token_denial(bucket, need, units, opens_at, drift)
        hour, hour_max = bucket.hour, bucket.limit.hour_max
        if hour is not None and hour_max is not None:
            count = hour.count(at)
            if count + starts + 1 > hour_max:
                yield hour_denial(bucket, count, hour.opens_at(at, hour_max, starts), drift)
