"""The positions of a circuit breaker, the moves between them, and what is told and kept of them.

``TRANSITIONS`` is the whole machine as data: a pair of position and trigger that has no row there
does nothing. ``BreakerState`` is what survives a restart.

Not here: when a trigger is pulled, and what is counted for it (``breaker``).
"""

from enum import StrEnum
from typing import Final

import attrs
import msgspec

from jobengine.domain.instant import MINUTE, SECOND

__all__ = [
    "TRANSITIONS",
    "BreakerChange",
    "BreakerPolicy",
    "BreakerState",
    "BreakerVerdict",
    "Cause",
    "Position",
    "Transition",
    "Trigger",
]


class Position(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


class Trigger(StrEnum):
    TRIP = "trip"
    PROBE = "probe"
    RECOVER = "recover"
    RELAPSE = "relapse"
    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"
    RELEASE = "release"


class Cause(StrEnum):
    """Why it moved, and what ``observed`` and ``limit`` of the change count."""

    FAILURE_RATIO = "failure_ratio"  # percent of the outcomes of the last minute
    UNREACHABLE = "unreachable"  # connection failures in a row
    OPEN_TIME_OVER = "open_time_over"  # microseconds since it opened
    PROBES_GOOD = "probes_good"  # good probes
    PROBE_FAILED = "probe_failed"  # bad probes
    FORCED = "forced"  # nothing
    RELEASED = "released"  # nothing


@attrs.frozen
class Transition:
    source: Position
    trigger: Trigger
    target: Position
    event: str


_OPENED, _HALF, _CLOSED = "breaker.opened", "breaker.half_opened", "breaker.closed"

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(Position.CLOSED, Trigger.TRIP, Position.OPEN, _OPENED),
    Transition(Position.OPEN, Trigger.PROBE, Position.HALF_OPEN, _HALF),
    Transition(Position.HALF_OPEN, Trigger.RECOVER, Position.CLOSED, _CLOSED),
    Transition(Position.HALF_OPEN, Trigger.RELAPSE, Position.OPEN, _OPENED),
    Transition(Position.CLOSED, Trigger.FORCE_OPEN, Position.FORCED_OPEN, _OPENED),
    Transition(Position.OPEN, Trigger.FORCE_OPEN, Position.FORCED_OPEN, _OPENED),
    Transition(Position.HALF_OPEN, Trigger.FORCE_OPEN, Position.FORCED_OPEN, _OPENED),
    Transition(Position.FORCED_CLOSED, Trigger.FORCE_OPEN, Position.FORCED_OPEN, _OPENED),
    Transition(Position.CLOSED, Trigger.FORCE_CLOSED, Position.FORCED_CLOSED, _CLOSED),
    Transition(Position.OPEN, Trigger.FORCE_CLOSED, Position.FORCED_CLOSED, _CLOSED),
    Transition(Position.HALF_OPEN, Trigger.FORCE_CLOSED, Position.FORCED_CLOSED, _CLOSED),
    Transition(Position.FORCED_OPEN, Trigger.FORCE_CLOSED, Position.FORCED_CLOSED, _CLOSED),
    Transition(Position.FORCED_OPEN, Trigger.RELEASE, Position.HALF_OPEN, _HALF),
    Transition(Position.FORCED_CLOSED, Trigger.RELEASE, Position.CLOSED, _CLOSED),
)


@attrs.frozen
class BreakerPolicy:
    """The numbers of one breaker; the defaults are the specification's."""

    outcomes_min: int = 20
    failures_percent: int = 50
    unreachable_max: int = 5
    open_us: int = 30 * SECOND
    open_us_max: int = 10 * MINUTE
    settled_us: int = 10 * MINUTE
    probes: int = 3


class BreakerVerdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """May a job start now; when not, what was seen against which limit.

    ``observed`` and ``limit`` are those of ``cause``, or probes taken of probes allowed while half
    open. ``opens_at`` is the instant from which probes may start, or None when an event opens the
    gate: the end of a probe, or an operator.
    """

    admits: bool
    position: Position
    cause: Cause | None = None
    observed: int = 0
    limit: int = 0
    opens_at: int | None = None


class BreakerState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a breaker stands, as it is stored; instants and spans in microseconds, 0 for none.

    ``open_us`` is how long it last opened for. The counts of the last minute and the probes under
    way are no part of it: a breaker restored as half open gives all places anew.
    """

    position: Position = Position.CLOSED
    opened_at: int = 0
    opens_at: int = 0
    open_us: int = 0
    closed_at: int = 0
    cause: Cause | None = None
    observed: int = 0
    limit: int = 0


class BreakerChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One move: the event to record, where it came from, and the state it is in from now on."""

    at: int
    event: str
    source: Position
    state: BreakerState
