"""What happened to the jobs of each tenant in the last minutes, second by second.

The ledger's shell counts here what it has committed anyway; nobody else writes.

I1  Counts and `newest_seq` of a tenant move together: what they do not hold has a later seq.
I2  At most `tenants_max` tenants are held, in 24 KB each; the least recently active one leaves.
I3  A tenant's counts are complete from its `since_at` on, as far as `WINDOW_S` reaches back.

Not here: totals by kind (`LedgerActor.transitions`), history that is older (the ledger).
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from jobengine.domain.instant import SECOND

__all__ = ["WINDOW_S", "Activity", "Counts", "Recent"]

WINDOW_S: Final = 600


class Counts(NamedTuple):
    """How many entries of the kind `job.…` that has this name."""

    created: int
    scheduled: int
    started: int
    completed: int
    failed: int
    retried: int
    cancelled: int
    dead_lettered: int


_COLUMNS: Final = {f"job.{name}": column for column, name in enumerate(Counts._fields)}
_WIDTH: Final = len(_COLUMNS)
_NOTHING: Final = array("I", [0] * _WIDTH)


@attrs.frozen(kw_only=True)
class Recent:
    """Counts of a tenant by second, oldest first, each with the second's first instant; seconds in
    which nothing was counted are left out. `newest_seq` is None where nothing is held."""

    since_at: int
    newest_seq: int | None
    seconds: Sequence[tuple[int, Counts]]


@attrs.define(kw_only=True, eq=False)
class _Ring:
    """Second `s` has its counts at `s % WINDOW_S`, as long as `seconds` says so there."""

    since_at: int
    newest_seq: int = 0
    newest_second: int = 0
    seconds: "array[int]" = attrs.field(factory=lambda: array("q", [-1] * WINDOW_S))
    counts: "array[int]" = attrs.field(factory=lambda: array("I", [0] * (_WIDTH * WINDOW_S)))


@attrs.define(kw_only=True, eq=False)
class Activity:
    """`since_at`: the instant from which on everything is counted."""

    since_at: int = 0
    tenants_max: int = 1_000
    _rings: dict[str, _Ring] = attrs.field(init=False, factory=dict)

    def count(self, tenant_id: str, at: int, kinds: Mapping[str, int], last_seq: int) -> None:
        """A commit at `at` has added so many entries of each kind, the last with this seq."""
        ring = self._touch(tenant_id)
        ring.newest_seq = max(ring.newest_seq, last_seq)
        ring.newest_second = second = at // SECOND
        slot = second % WINDOW_S
        first = slot * _WIDTH
        counts = ring.counts
        if ring.seconds[slot] != second:
            ring.seconds[slot] = second
            counts[first : first + _WIDTH] = _NOTHING
        for kind, number in kinds.items():
            column = _COLUMNS.get(kind)
            if column is not None:
                counts[first + column] += number

    def recent(self, tenant_id: str, at: int, seconds: int) -> Recent:
        """The last `seconds` seconds, that of `at` among them; at most `WINDOW_S`."""
        ring = self._rings.get(tenant_id)
        if ring is None:
            return Recent(since_at=self.since_at, newest_seq=None, seconds=())
        newest = at // SECOND
        found = []
        for second in range(newest - min(seconds, WINDOW_S) + 1, newest + 1):
            slot = second % WINDOW_S
            if ring.seconds[slot] == second:
                first = slot * _WIDTH
                counts = Counts(*ring.counts[first : first + _WIDTH])
                found.append((second * SECOND, counts))
        return Recent(since_at=ring.since_at, newest_seq=ring.newest_seq, seconds=found)

    def _touch(self, tenant_id: str) -> _Ring:
        """The tenant's ring, now the most recently active one: the last in the dict."""
        ring = self._rings.pop(tenant_id, None)
        if ring is None:
            ring = _Ring(since_at=self.since_at)
            if len(self._rings) >= self.tenants_max:
                self._forget_oldest()
        self._rings[tenant_id] = ring
        return ring

    def _forget_oldest(self) -> None:
        """Whoever appears anew may have been forgotten before, so is complete from then on only."""
        ring = self._rings.pop(next(iter(self._rings)))
        self.since_at = max(self.since_at, (ring.newest_second + 1) * SECOND)
