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
    buckets are told once for all (``finish``).
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


class _Room:
    """What may be taken of a bucket at this instant by anybody, for nobody waits there; and what
    was taken that the bucket has not been told of."""

    __slots__ = ("bucket", "starts", "taken_starts", "taken_units", "units")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.look(waits=False)

    def look(self, *, waits: bool) -> None:
        """See anew; where somebody waits there is no room."""
        bucket = self.bucket
        self.taken_units = self.taken_starts = 0
        self.units = bucket.units if bucket.has_tokens else _PLENTY
        if waits or bucket.denies_all or bucket.settled_at < bucket.open_at:
            self.units = -1
        self.starts = _PLENTY
        if bucket.hour is not None:
            self.starts = bucket.hour_max - bucket.hour.count(bucket.settled_at)


_Plan = Sequence[tuple[_Room, int]]


class Walk:
    """``at`` is steady time; ``taken_from`` are the buckets that gave anything."""

    __slots__ = (
        "_at",
        "_buckets",
        "_denied",
        "_drift",
        "_lines",
        "_plans",
        "_queued",
        "_rooms",
        "taken_from",
    )

    def __init__(self, buckets: Mapping[str, Bucket], at: int, drift: int, lines: Lines) -> None:
        self._buckets = buckets
        self._at = at
        self._drift = drift
        self._lines = lines
        self._queued: dict[tuple[str, str], Ahead] = {}
        self._denied: set[str] = set()
        self._rooms: dict[str, _Room] = {}
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
        plan = self._plan(request)
        if plan is not None:
            for room, need in plan:
                if room.units < need or room.starts <= 0:
                    break
            else:
                for room, need in plan:
                    room.units -= need
                    room.starts -= 1
                    room.taken_units += need
                    room.taken_starts += 1
                return None
        self.finish()
        denials = self._judge(request)
        self._look_again(request.keys)
        return denials[0] if denials else None

    def finish(self) -> None:
        """Tell the buckets what was taken of them."""
        for key, room in self._rooms.items():
            if room.taken_starts:
                room.bucket.take(room.taken_units, room.taken_starts)
                self.taken_from[key] = room.bucket
                room.taken_units = room.taken_starts = 0

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

    def _plan(self, request: RateRequest) -> _Plan | None:
        """Where requests like this one take how much; None where a limit is not known."""
        name = (request.keys, request.cost, request.retry)
        try:
            return self._plans[name]
        except KeyError:
            plan = self._plans[name] = self._new_plan(request)
            return plan

    def _new_plan(self, request: RateRequest) -> _Plan | None:
        plan: list[tuple[_Room, int]] = []
        for key in request.keys:
            bucket = self._buckets.get(key)
            if bucket is None:
                return None
            bucket.settle(self._at)
            need = bucket.need(request)
            if need is None:
                continue
            room = self._rooms.get(key)
            if room is None:
                room = self._rooms[key] = _Room(bucket)
                if self._lines.waits_at(key):
                    room.look(waits=True)
            plan.append((room, need))
        return plan

    def _look_again(self, keys: Sequence[str]) -> None:
        """Rooms after a judgement: where anybody queues or waits there is none."""
        queued = {key for key, _ in self._queued}
        for key in keys:
            room = self._rooms.get(key)
            if room is not None:
                room.look(waits=key in queued or self._lines.waits_at(key))

    def _queue(self, request: RateRequest, denials: Sequence[Denial]) -> None:
        if (first := denials[0]).opens_at is not None:
            place = (first.key, request.line)
            units, starts = self._queued.get(place, NOBODY)
            need = self._buckets[first.key].need(request) or 0
            self._queued[place] = Ahead(units + need, starts + 1)
        if not request.line or request.line in self._denied:
            return
        self._denied.add(request.line)
        instants = [denial.opens_at for denial in denials if denial.opens_at is not None]
        if len(instants) < len(denials):
            self._lines.leave(request.line)
            return
        lacks = {denial.key: self._buckets[denial.key].need(request) or 0 for denial in denials}
        self._lines.wait(request, self._at, lacks, max(instants) - self._drift)

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
