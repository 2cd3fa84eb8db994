"""A circuit breaker: keeps jobs away from a source that fails, lets a few find out when it heals.

One per source or named key. The lease shard asks ``may_start`` as one of its gates, tells it of
every lease that starts and ends, and records each ``BreakerChange`` it is handed: its event, and
its state as the row that survives a restart. ``TRANSITIONS`` (``breaker_state``) is the whole
machine; nothing else names a pair of positions.

Definitions. An *outcome* is an end of a job that speaks of its source: see ``speaks_of_source``.
A *probe* is a job that was started while the breaker was half open; there are ``probes`` places.

I1  Only outcomes count. A probe that ends without one frees its place and decides nothing.
I2  In ``half_open`` only this round's probes decide: what was started before, or as a probe of an
    earlier round, is no evidence of how the source is now.
I3  At most ``probes`` jobs are under way or have proved good in a round; all good closes, one bad
    opens.
I4  A failed round doubles the time that the breaker stays open, up to ``open_us_max``. The first
    trip that comes ``settled_us`` or more after it closed starts from ``open_us`` again; an earlier
    one opens for as long as the last time.
I5  A forced position is left by an operator only. Outcomes go on being counted under
    ``forced_closed``, so automatic operation resumes with evidence.
I6  Memory is bounded: ``BUCKETS`` buckets of outcomes and ``probes`` lease ids.

A wall clock that steps back below the instant of opening lets probes through early; it never keeps
a breaker open for longer than its time.

Not here: who may force it, where it is stored, rates (a 429 also halves the source's bucket).
Source: Nygard, "Release It!", chapter "Stability Patterns".
"""

from collections import deque
from typing import Final

import attrs

from jobengine.core.breaker_state import (
    TRANSITIONS,
    BreakerChange,
    BreakerPolicy,
    BreakerState,
    BreakerVerdict,
    Cause,
    Position,
    Transition,
    Trigger,
)
from jobengine.domain.instant import SECOND
from jobengine.domain.outcome import Outcome

__all__ = ["BUCKETS", "BUCKET_US", "Breaker"]

BUCKETS: Final = 12
BUCKET_US: Final = 5 * SECOND
"""The rolling minute is counted in buckets, so it is forgotten five seconds at a time."""

_ROWS: Final = {(row.source, row.trigger): row for row in TRANSITIONS}
# Bound once: an enum looks its members up by name each time.
_CLOSED: Final = Position.CLOSED
_HALF_OPEN: Final = Position.HALF_OPEN
_OPEN: Final = Position.OPEN
_GOOD: Final = Outcome.GOOD
_UNREACHABLE: Final = Outcome.UNREACHABLE

_LETS_ALL: Final = frozenset({_CLOSED, Position.FORCED_CLOSED})
_LETS_NONE: Final = frozenset({_OPEN, Position.FORCED_OPEN})
_ADMITTED: Final = {
    position: BreakerVerdict(admits=True, position=position) for position in Position
}


@attrs.define(eq=False)
class Breaker:
    """``may_start`` looks; ``started``, ``ended`` and the operators' calls return what they moved.

    A breaker is restored by giving it the ``state`` of its last change.
    """

    policy: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    state: BreakerState = attrs.field(factory=BreakerState)
    _buckets: deque[list[int]] = attrs.field(init=False, factory=deque)  # [number, good, bad]
    _good: int = attrs.field(init=False, default=0)  # of all buckets that are kept
    _bad: int = attrs.field(init=False, default=0)
    _unreachable: int = attrs.field(init=False, default=0)
    _probes: set[str] = attrs.field(init=False, factory=set)
    _good_probes: int = attrs.field(init=False, default=0)

    def may_start(self, at: int) -> BreakerVerdict:
        state = self.state
        position = state.position
        if position in _LETS_ALL:
            return _ADMITTED[position]
        if position is _HALF_OPEN:
            taken, probes = self._places_taken, self.policy.probes
            if taken < probes:
                return _ADMITTED[position]
            return BreakerVerdict(
                admits=False, position=position, cause=state.cause, observed=taken, limit=probes
            )
        if position is _OPEN and self._open_time_is_over(at):
            return _ADMITTED[position]
        return BreakerVerdict(
            admits=False,
            position=position,
            cause=state.cause,
            observed=state.observed,
            limit=state.limit,
            opens_at=state.opens_at or None,
        )

    def counts(self, at: int) -> tuple[int, int]:
        """Failures and outcomes of the last minute."""
        oldest = at // BUCKET_US - BUCKETS
        good = bad = 0
        for number, good_here, bad_here in self._buckets:
            if number > oldest:
                good += good_here
                bad += bad_here
        return bad, good + bad

    def is_idle(self, at: int) -> bool:
        """It holds nothing that a new breaker would not: it can be forgotten."""
        return (
            self.state.position is _CLOSED
            and not self._unreachable
            and self.counts(at)[1] == 0
            and self._has_settled(at)
        )

    def started(self, at: int, lease_id: str) -> BreakerChange | None:
        """A job got its lease. One that ``may_start`` did not admit is nobody's probe."""
        change = None
        state = self.state
        if state.position is _OPEN and self._open_time_is_over(at):
            change = self._move(
                Trigger.PROBE, at, Cause.OPEN_TIME_OVER, at - state.opened_at, state.open_us
            )
        if self.state.position is _HALF_OPEN and self._places_taken < self.policy.probes:
            self._probes.add(lease_id)
        return change

    def ended(self, at: int, lease_id: str, outcome: Outcome | None) -> BreakerChange | None:
        """A lease is over; without an outcome when its end does not speak of the source.

        So are a cancel, a give-back, an expired lease, a grant that did not commit, and a failure
        for which ``speaks_of_source`` is None.
        """
        position = self.state.position
        if position is _HALF_OPEN:
            return self._end_probe(at, lease_id, outcome)
        if outcome is None or position not in _LETS_ALL:
            return None
        self._count(at, outcome)
        return self._trip_when_due(at) if position is _CLOSED else None

    def force_open(self, at: int) -> BreakerChange | None:
        """Nothing starts until an operator says otherwise."""
        return self._move(Trigger.FORCE_OPEN, at, Cause.FORCED)

    def force_closed(self, at: int) -> BreakerChange | None:
        """Everything starts, whatever the outcomes, until an operator says otherwise."""
        return self._move(Trigger.FORCE_CLOSED, at, Cause.FORCED)

    def release(self, at: int) -> BreakerChange | None:
        """Back to automatic: from forced open by probes, from forced closed as closed."""
        return self._move(Trigger.RELEASE, at, Cause.RELEASED)

    @property
    def _places_taken(self) -> int:
        return len(self._probes) + self._good_probes

    def _open_time_is_over(self, at: int) -> bool:
        return not self.state.opened_at <= at < self.state.opens_at

    def _has_settled(self, at: int) -> bool:
        closed_at = self.state.closed_at
        return not (closed_at and closed_at <= at < closed_at + self.policy.settled_us)

    def _end_probe(self, at: int, lease_id: str, outcome: Outcome | None) -> BreakerChange | None:
        if lease_id not in self._probes:
            return None  # I2
        self._probes.remove(lease_id)
        if outcome is None:
            return None  # I1
        if outcome is not _GOOD:
            return self._move(Trigger.RELAPSE, at, Cause.PROBE_FAILED, 1, 1)
        self._good_probes += 1
        wanted = self.policy.probes
        if self._good_probes < wanted:
            return None
        return self._move(Trigger.RECOVER, at, Cause.PROBES_GOOD, wanted, wanted)

    def _count(self, at: int, outcome: Outcome) -> None:
        self._unreachable = self._unreachable + 1 if outcome is _UNREACHABLE else 0
        place = 1 if outcome is _GOOD else 2
        buckets, number = self._buckets, at // BUCKET_US
        newest = buckets[-1][0] if buckets else number
        if place == 1:
            self._good += 1
        else:
            self._bad += 1
        if buckets and number == newest:
            buckets[-1][place] += 1
            return
        if number < newest <= number + BUCKETS:
            number = newest  # the clock stepped back a little
        elif number < newest:
            buckets.clear()
            self._good, self._bad = 2 - place, place - 1
        if not buckets or buckets[-1][0] != number:
            buckets.append([number, 0, 0])
        while buckets[0][0] <= number - BUCKETS:
            _, good, bad = buckets.popleft()
            self._good -= good
            self._bad -= bad
        buckets[-1][place] += 1

    def _trip_when_due(self, at: int) -> BreakerChange | None:
        """After an outcome was counted, so what is kept is of the last minute."""
        if not self._bad:
            return None
        policy = self.policy
        if self._unreachable >= policy.unreachable_max:
            return self._move(
                Trigger.TRIP, at, Cause.UNREACHABLE, self._unreachable, policy.unreachable_max
            )
        failures, outcomes = self._bad, self._good + self._bad
        limit = policy.failures_percent
        if outcomes < policy.outcomes_min or failures * 100 < outcomes * limit:
            return None
        return self._move(Trigger.TRIP, at, Cause.FAILURE_RATIO, failures * 100 // outcomes, limit)

    def _move(
        self, trigger: Trigger, at: int, cause: Cause, observed: int = 0, limit: int = 0
    ) -> BreakerChange | None:
        """Take the row of the table for where it stands; without one, nothing happens."""
        before = self.state
        row = _ROWS.get((before.position, trigger))
        if row is None:
            return None
        closes = row.target in _LETS_ALL and row.source not in _LETS_ALL
        open_us = self._next_open_us(row, at)
        self.state = BreakerState(
            position=row.target,
            opened_at=at if row.target in _LETS_NONE else before.opened_at,
            opens_at=at + open_us if row.target is _OPEN else 0,
            open_us=open_us,
            closed_at=at if closes else before.closed_at,
            cause=cause,
            observed=observed,
            limit=limit,
        )
        self._probes.clear()
        self._good_probes = 0
        if closes:
            self._buckets.clear()
            self._good = self._bad = 0
            self._unreachable = 0
        return BreakerChange(at=at, event=row.event, source=row.source, state=self.state)

    def _next_open_us(self, row: Transition, at: int) -> int:
        """I4; a breaker that was closed for long has forgotten what came before."""
        open_us = self.state.open_us
        if row.source in _LETS_ALL and self._has_settled(at):
            open_us = 0
        if row.target is not _OPEN:
            return open_us
        if row.trigger is Trigger.RELAPSE:
            open_us = min(open_us * 2, self.policy.open_us_max)
        return open_us or self.policy.open_us
