"""What sources have done lately: a breaker and a dynamic limit on running jobs for each.

Only registered sources are watched. Each call returns what it changed, for event and row; the rows
bring every source back to where it stood after a restart.

Not here: the arithmetic (``core/breaker``, ``core/concurrency``), rates (``rate_bucket``).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import msgspec

from jobengine.core.breaker import Breaker
from jobengine.core.breaker_state import BreakerChange, BreakerState, BreakerVerdict, Position
from jobengine.core.concurrency import AdaptiveConcurrency, ConcurrencyState, LimitChange
from jobengine.domain.outcome import Outcome

__all__ = ["SourceChange", "Sources", "WatchedSource"]

_encoder = msgspec.json.Encoder(order="sorted")
_Key = tuple[str, str]
# Bound once: an enum looks its members up by name each time.
_CLOSED: Final = Position.CLOSED
_GOOD: Final = Outcome.GOOD

_LETS_ALL = frozenset({_CLOSED, Position.FORCED_CLOSED})


@attrs.frozen
class SourceChange:
    """Something about a source moved: an entry of this kind and data, and its state to store."""

    kind: str
    data: bytes
    state_name: str
    state: bytes


class WatchedSource:
    """What is remembered of one source: no breaker while nothing bad is, no pool before its first
    job has ended."""

    __slots__ = ("breaker", "pool", "source_id", "tenant_id")

    def __init__(self, tenant_id: str, source_id: str) -> None:
        self.tenant_id = tenant_id
        self.source_id = source_id
        self.breaker: Breaker | None = None
        self.pool: AdaptiveConcurrency | None = None

    def refusal(self, at: int) -> BreakerVerdict | None:
        """What the breaker has against a start, or None."""
        if self.breaker is None:
            return None
        verdict = self.breaker.may_start(at)
        return None if verdict.admits else verdict

    @property
    def position(self) -> Position:
        """Of the breaker; one that nothing is remembered of is closed."""
        return _CLOSED if self.breaker is None else self.breaker.state.position

    @property
    def lets_all(self) -> bool:
        """Whether the breaker lets everything start until it moves."""
        return self.position in _LETS_ALL

    @property
    def running_max(self) -> int | None:
        return None if self.pool is None else self.pool.limit


class Sources:
    """By (tenant, source). ``moves`` counts what was changed about any of them."""

    def __init__(self) -> None:
        self.moves = 0
        self._watched: dict[_Key, WatchedSource] = {}

    def of(self, tenant_id: str, source_id: str) -> WatchedSource:
        watched = self._watched.get((tenant_id, source_id))
        if watched is None:
            watched = WatchedSource(tenant_id, source_id)
            self._watched[(tenant_id, source_id)] = watched
        return watched

    def position(self, tenant_id: str, source_id: str) -> Position:
        """Of a source's breaker, whether it is watched or not."""
        watched = self._watched.get((tenant_id, source_id))
        return _CLOSED if watched is None else watched.position

    def running_max(self, tenant_id: str, source_id: str) -> int | None:
        """How many jobs of a source may run, where that is lowered."""
        watched = self._watched.get((tenant_id, source_id))
        return None if watched is None else watched.running_max

    def started(self, watched: WatchedSource, lease_id: str, at: int) -> SourceChange | None:
        breaker = watched.breaker
        change = None if breaker is None else breaker.started(at, lease_id)
        return None if change is None else self.change_of(watched.source_id, change)

    def ended(
        self,
        watched: WatchedSource,
        lease_id: str,
        outcome: Outcome | None,
        *,
        at: int,
        run_us: int,
        running: int,
    ) -> Sequence[SourceChange]:
        """A lease of this source is over; ``running`` counts it still."""
        changes: tuple[SourceChange, ...] = ()
        breaker = watched.breaker
        if breaker is None and outcome is not None and outcome is not _GOOD:
            breaker = watched.breaker = Breaker()
        if breaker is not None:
            change = breaker.ended(at, lease_id, outcome)
            if change is not None:
                changes = (self.change_of(watched.source_id, change),)
            elif outcome is None and breaker.is_idle(at):
                watched.breaker = None
        pool = watched.pool
        if pool is None:
            pool = watched.pool = AdaptiveConcurrency()
        moved = pool.ended(at, run_us, running, outcome)
        if moved is not None:
            self.moves += 1
            changes += (_of_pool(watched.source_id, moved),)
        return changes

    def breaker(self, tenant_id: str, source_id: str) -> Breaker:
        """For an operator's hand."""
        watched = self.of(tenant_id, source_id)
        if watched.breaker is None:
            watched.breaker = Breaker()
        return watched.breaker

    def change_of(self, source_id: str, change: BreakerChange) -> SourceChange:
        """What a breaker's move is to be recorded as; called of each."""
        self.moves += 1
        return _of_breaker(source_id, change)

    def restore(self, tenant_id: str, name: str, body: bytes) -> bool:
        """Take up a stored state; False when it is of another kind."""
        self.moves += 1
        kind, _, source_id = name.partition(":")
        if kind == "breaker":
            state = msgspec.json.decode(body, type=BreakerState)
            self.of(tenant_id, source_id).breaker = Breaker(state=state)
        elif kind == "concurrency":
            lowered = msgspec.json.decode(body, type=ConcurrencyState)
            self.of(tenant_id, source_id).pool = AdaptiveConcurrency(state=lowered)
        else:
            return False
        return True

    def forget(self, tenant_id: str, source_id: str) -> None:
        """It is registered no longer."""
        self.moves += 1
        self._watched.pop((tenant_id, source_id), None)

    def not_closed(self) -> list[tuple[str, str]]:
        """Tenant and source of every breaker that is not simply closed."""
        closed = _CLOSED
        return [
            key
            for key, one in self._watched.items()
            if one.breaker is not None and one.breaker.state.position is not closed
        ]

    def lowered(self) -> list[tuple[str, str]]:
        """Tenant and source where fewer jobs may run for now."""
        return [
            key
            for key, one in self._watched.items()
            if one.pool is not None and one.pool.limit is not None
        ]

    def breakers_of(self, tenant_id: str) -> Iterator[tuple[str, Breaker]]:
        return (
            (source_id, watched.breaker)
            for (owner, source_id), watched in self._watched.items()
            if owner == tenant_id and watched.breaker is not None
        )

    def pools_of(self, tenant_id: str) -> Iterator[tuple[str, AdaptiveConcurrency]]:
        return (
            (source_id, watched.pool)
            for (owner, source_id), watched in self._watched.items()
            if owner == tenant_id and watched.pool is not None
        )


def _of_breaker(source_id: str, change: BreakerChange) -> SourceChange:
    state = change.state
    data = {
        "sourceId": source_id,
        "from": change.source,
        "to": state.position,
        "cause": state.cause,
        "observed": state.observed,
        "limit": state.limit,
        "opensAt": state.opens_at or None,
    }
    return SourceChange(
        change.event, _encoder.encode(data), f"breaker:{source_id}", _encoder.encode(state)
    )


def _of_pool(source_id: str, change: LimitChange) -> SourceChange:
    data = {
        "sourceId": source_id,
        "cause": change.state.cause,
        "from": change.limit_before,
        "to": change.state.limit,
    }
    return SourceChange(
        "source.concurrency_adapted",
        _encoder.encode(data),
        f"concurrency:{source_id}",
        _encoder.encode(change.state),
    )
