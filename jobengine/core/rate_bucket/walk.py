"""One pass over requests in their order: what each may take, or every gate that is closed to it.

Definitions. A denied request *queues* at the limit that denied it, with all that it wants of it:
later requests of its line need that on top of their own. Between lines turns are taken (``lines``).

I1  ``closed_gates`` is the one judgement; ``Reserve`` heeds its first answer, ``Peek`` shows all.
I2  A request takes from all of its limits or from none.
I3  At a limit nobody overtakes within a line: behind a denied request all of its line are denied,
    and no other line takes what is set aside for it. One that only a changed limit could admit does
    not queue, or it would hold the others for ever.
I4  ``opens_at`` is the first instant at which that gate admits the request, if those that queue
    before it start as soon as they may.
I5  Where nobody waits, requests that are alike take from what was seen at the first of them, and
    buckets are told once for all (``finish``). A walk counts what it has *spent*: of each request
    the most that it takes of one bucket, and a start; no bucket has given more than that since it
    was looked at. A new *epoch* begins when a judgement may have changed who queues or waits.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from jobengine.core.rate_bucket.bucket import Bucket
from jobengine.core.rate_bucket.lines import NOBODY, Ahead, Lines
from jobengine.core.rate_bucket.refill import TOKEN
from jobengine.core.rate_bucket.telling import hour_denial, nothing_denial, token_denial, unknown
from jobengine.messages.rate_bucket import Denial, RateRequest

__all__ = ["Walk"]

_PLENTY: Final = 1 << 80


class _Plan:
    """Requests that are alike: how much each takes of which buckets, and how many have taken that
    the buckets were not told of.

    There is room for one more while the walk has spent no more than ``units_max`` and
    ``starts_max`` since it was looked at, in this ``epoch`` of the walk.
    """

    __slots__ = ("epoch", "needs", "starts_max", "taken", "units", "units_max")

    def __init__(self, needs: Sequence[tuple[str, Bucket, int]]) -> None:
        self.needs = needs
        self.units = max((need for _, _, need in needs), default=0)
        self.units_max = self.starts_max = -1
        self.epoch = -1
        self.taken = 0


class Walk:
    """``at`` is steady time; ``taken_from`` are the buckets that gave anything."""

    __slots__ = (
        "_at",
        "_buckets",
        "_denied",
        "_drift",
        "_epoch",
        "_lines",
        "_plans",
        "_queued",
        "_queued_at",
        "_starts_spent",
        "_starts_told",
        "_told_later",
        "_units_spent",
        "_units_told",
        "taken_from",
    )

    def __init__(self, buckets: Mapping[str, Bucket], at: int, drift: int, lines: Lines) -> None:
        self._buckets = buckets
        self._at = at
        self._drift = drift
        self._lines = lines
        self._queued: dict[tuple[str, str], Ahead] = {}
        self._queued_at: set[str] = set()
        self._denied: set[str] = set()
        self._epoch = self._units_spent = self._starts_spent = 0
        self._units_told = self._starts_told = 0
        self._told_later: list[_Plan] = []
        self._plans: dict[tuple[tuple[str, ...], int, bool], _Plan | None] = {}
        self.taken_from: dict[str, Bucket] = {}
        if lines:
            lines.lapse(at)

    def closed_gates(self, request: RateRequest, at: int) -> Iterator[Denial]:
        """Every gate that keeps a request from starting at ``at``, in the order of its keys."""
        buckets, queued, lines = self._buckets, self._queued, self._lines
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
            units, starts = lines.ahead(key, request) if lines else NOBODY
            if queued and (own := queued.get((key, request.line))) is not None:
                units += own.units
                starts += own.starts
            if not bucket.has(units + need, starts + 1):
                yield from self._denials(bucket, need, units, starts)

    def reserve(self, request: RateRequest) -> Denial | None:
        """Take what a request needs, or say what denies it first."""
        name = (request.keys, request.cost, request.retry)
        plan = self._plans.get(name)
        if plan is None and name not in self._plans:
            plan = self._plans[name] = self._new_plan(request)
        if plan is not None and (
            (
                plan.epoch == self._epoch
                and self._units_spent <= plan.units_max
                and self._starts_spent <= plan.starts_max
            )
            or self._look(plan)
        ):
            if not plan.taken:
                self._told_later.append(plan)
            plan.taken += 1
            self._units_spent += plan.units
            self._starts_spent += 1
            return None
        self.finish()
        denials = self._judge(request)
        self._epoch += 1
        return denials[0] if denials else None

    def finish(self) -> None:
        """Tell the buckets what was taken of them."""
        for plan in self._told_later:
            starts, plan.taken = plan.taken, 0
            for key, bucket, need in plan.needs:
                bucket.take(need * starts, starts)
                self.taken_from[key] = bucket
        self._told_later.clear()
        self._units_told, self._starts_told = self._units_spent, self._starts_spent

    def peek(self, request: RateRequest) -> tuple[Denial, ...]:
        """Every gate that denies a request; one that has none takes, until ``undo``."""
        return self._judge(request)

    def undo(self, request: RateRequest) -> None:
        """Give back exactly what ``peek`` took for a request; the last one first."""
        for key in request.keys:
            bucket = self._buckets[key]
            need = bucket.need(request)
            if need is not None:
                bucket.untake(need)

    def _judge(self, request: RateRequest) -> tuple[Denial, ...]:
        """Take for a request, or let it queue and its line wait."""
        denials = tuple(self.closed_gates(request, self._at))
        if denials:
            self._queue(request, denials)
            return denials
        for key in request.keys:
            bucket = self._buckets[key]
            need = bucket.need(request)
            if need is not None:
                bucket.take(need)
                self.taken_from[key] = bucket
        if self._lines and request.line not in self._denied:
            self._lines.served(request)
        return ()

    def _new_plan(self, request: RateRequest) -> _Plan | None:
        """Where requests like this one take how much; None where a limit is not known."""
        needs: list[tuple[str, Bucket, int]] = []
        for key in request.keys:
            bucket = self._buckets.get(key)
            if bucket is None:
                return None
            bucket.settle(self._at)
            need = bucket.need(request)
            if need is not None:
                needs.append((key, bucket, need))
        return _Plan(needs)

    def _look(self, plan: _Plan) -> bool:
        """See how much room there is; whether it is enough for one more request."""
        plan.epoch = self._epoch
        self._measure(plan)
        if self._told_later and not self._fits(plan):
            self.finish()
            self._measure(plan)
        return self._fits(plan)

    def _fits(self, plan: _Plan) -> bool:
        return self._units_spent <= plan.units_max and self._starts_spent <= plan.starts_max

    def _measure(self, plan: _Plan) -> None:
        """What the buckets were not told of yet may all have been taken from any one of them."""
        units, starts = self._room(plan)
        plan.units_max, plan.starts_max = self._units_told + units, self._starts_told + starts

    def _room(self, plan: _Plan) -> tuple[int, int]:
        """Units and starts that there are beyond what one more request takes, at the bucket that
        has the fewest; below 0 where it has to be judged."""
        units_left = starts_left = _PLENTY
        for key, bucket, need in plan.needs:
            at = bucket.settled_at
            if bucket.denies_all or at < bucket.open_at:
                return -1, -1
            if key in self._queued_at or self._lines.waits_at(key):
                return -1, -1
            if bucket.has_tokens and bucket.units - need < units_left:
                units_left = bucket.units - need
            if bucket.hour is not None:
                starts_left = min(starts_left, bucket.hour_max - bucket.hour.count(at) - 1)
        return units_left, starts_left

    def _queue(self, request: RateRequest, denials: Sequence[Denial]) -> None:
        if (first := denials[0]).opens_at is not None:
            place = (first.key, request.line)
            units, starts = self._queued.get(place, NOBODY)
            need = self._buckets[first.key].need(request) or 0
            self._queued[place] = Ahead(units + need, starts + 1)
            self._queued_at.add(first.key)
        if not request.line or request.line in self._denied:
            return
        self._denied.add(request.line)
        instants = [denial.opens_at for denial in denials if denial.opens_at is not None]
        if len(instants) < len(denials):
            self._lines.leave(request.line)
            return
        lacks = {denial.key: self._buckets[denial.key].need(request) or 0 for denial in denials}
        opens: dict[str, int] = {}
        for denial, opens_at in zip(denials, instants, strict=True):
            opens[denial.key] = max(opens.get(denial.key, 0), opens_at - self._drift)
        self._lines.wait(request, self._at, lacks, opens, self._regain_us)

    def _regain_us(self, key: str, units: int) -> int:
        """How long a bucket takes to gain so many; what counts starts alone gains none."""
        bucket = self._buckets[key]
        rate = bucket.rate() if bucket.has_tokens else 0
        return units // rate if rate else 0

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
