"""What sources have done lately: a breaker and a dynamic limit on running jobs for each.

Only registered sources are watched. Each call returns what it changed, for event and row; the rows
bring every source back to where it stood after a restart.

Not here: the arithmetic (``core/breaker``, ``core/concurrency``), rates (``rate_bucket``).
"""

from collections.abc import Iterator, Sequence

import attrs
import msgspec

from jobengine.core.breaker import Breaker
from jobengine.core.breaker_state import BreakerChange, BreakerState, BreakerVerdict, Position
from jobengine.core.concurrency import AdaptiveConcurrency, ConcurrencyState, LimitChange
from jobengine.domain.outcome import Outcome

__all__ = ["SourceChange", "Sources"]

_encoder = msgspec.json.Encoder(order="sorted")
_Key = tuple[str, str]
_LETS_ALL = frozenset({Position.CLOSED, Position.FORCED_CLOSED})


@attrs.frozen
class SourceChange:
    """Something about a source moved: an entry of this kind and data, and its state to store."""

    kind: str
    data: bytes
    state_name: str
    state: bytes


class Sources:
    """By (tenant, source). ``moves`` counts what was changed about any of them."""

    def __init__(self) -> None:
        self.moves = 0
        self._breakers: dict[_Key, Breaker] = {}
        self._pools: dict[_Key, AdaptiveConcurrency] = {}

    def may_start(self, tenant_id: str, source_id: str, at: int) -> BreakerVerdict | None:
        """What the breaker has against it, or None."""
        breaker = self._breakers.get((tenant_id, source_id))
        if breaker is None:
            return None
        verdict = breaker.may_start(at)
        return None if verdict.admits else verdict

    def position(self, tenant_id: str, source_id: str) -> Position:
        """Of the breaker; one that nothing is remembered of is closed."""
        breaker = self._breakers.get((tenant_id, source_id))
        return Position.CLOSED if breaker is None else breaker.state.position

    def lets_all(self, tenant_id: str, source_id: str) -> bool:
        """Whether the breaker lets everything start until it moves."""
        return self.position(tenant_id, source_id) in _LETS_ALL

    def running_max(self, tenant_id: str, source_id: str) -> int | None:
        pool = self._pools.get((tenant_id, source_id))
        return None if pool is None else pool.limit

    def started(
        self, tenant_id: str, source_id: str, lease_id: str, at: int
    ) -> SourceChange | None:
        breaker = self._breakers.get((tenant_id, source_id))
        change = None if breaker is None else breaker.started(at, lease_id)
        return None if change is None else self.change_of(source_id, change)

    def ended(
        self,
        tenant_id: str,
        source_id: str,
        lease_id: str,
        outcome: Outcome | None,
        *,
        at: int,
        run_us: int,
        running: int,
    ) -> Sequence[SourceChange]:
        """A lease of this source is over; ``running`` counts it still."""
        key = (tenant_id, source_id)
        changes: tuple[SourceChange, ...] = ()
        breaker = self._breakers.get(key)
        if breaker is None and outcome is not None and outcome is not Outcome.GOOD:
            breaker = self._breakers[key] = Breaker()
        if breaker is not None:
            change = breaker.ended(at, lease_id, outcome)
            if change is not None:
                changes = (self.change_of(source_id, change),)
            elif outcome is None and breaker.is_idle(at):
                del self._breakers[key]
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = AdaptiveConcurrency()
        moved = pool.ended(at, run_us, running, outcome)
        if moved is not None:
            self.moves += 1
            changes += (_of_pool(source_id, moved),)
        return changes

    def breaker(self, tenant_id: str, source_id: str) -> Breaker:
        """For an operator's hand."""
        return self._breakers.setdefault((tenant_id, source_id), Breaker())

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
            self._breakers[(tenant_id, source_id)] = Breaker(state=state)
        elif kind == "concurrency":
            lowered = msgspec.json.decode(body, type=ConcurrencyState)
            self._pools[(tenant_id, source_id)] = AdaptiveConcurrency(state=lowered)
        else:
            return False
        return True

    def forget(self, tenant_id: str, source_id: str) -> None:
        self.moves += 1
        self._breakers.pop((tenant_id, source_id), None)
        self._pools.pop((tenant_id, source_id), None)

    def not_closed(self) -> list[tuple[str, str]]:
        """Tenant and source of every breaker that is not simply closed."""
        closed = Position.CLOSED
        return [key for key, one in self._breakers.items() if one.state.position is not closed]

    def lowered(self) -> list[tuple[str, str]]:
        """Tenant and source where fewer jobs may run for now."""
        return [key for key, pool in self._pools.items() if pool.limit is not None]

    def breakers_of(self, tenant_id: str) -> Iterator[tuple[str, Breaker]]:
        return (
            (source_id, breaker)
            for (owner, source_id), breaker in self._breakers.items()
            if owner == tenant_id
        )

    def pools_of(self, tenant_id: str) -> Iterator[tuple[str, AdaptiveConcurrency]]:
        return (
            (source_id, pool)
            for (owner, source_id), pool in self._pools.items()
            if owner == tenant_id
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
