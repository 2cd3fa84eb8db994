"""Which tenant's events are published next: who is behind, and whose turn it is.

Tenants that are behind stand in line; one is taken, some of its events are published, and if it is
still behind it stands at the end again.

I1  A tenant is in line or taken, and that once, while its ledger goes on behind what is confirmed.
    Whoever took it has it alone until it is given back.
I2  What is confirmed of a tenant never moves back; neither does where its ledger ends.
I3  Of tenants that are not behind as many as `settled_max` are remembered, those that moved last.

Not here: events, cursors in the store, connections (`publisher`).
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

import attrs

from jobengine.store.feeds import FeedBehind

__all__ = ["Turns"]

_SETTLED_MAX: Final = 10_000


@attrs.define
class _Place:
    last_seq: int
    confirmed: int | None

    @property
    def is_behind(self) -> bool:
        return self.confirmed is None or self.confirmed < self.last_seq


class Turns:
    def __init__(self, settled_max: int = _SETTLED_MAX) -> None:
        self._behind: dict[str, _Place] = {}
        self._line: deque[str] = deque()
        self._settled: OrderedDict[str, int] = OrderedDict()
        self._settled_max = settled_max

    @property
    def waiting(self) -> int:
        """Tenants in line."""
        return len(self._line)

    @property
    def tenants_behind(self) -> int:
        return len(self._behind)

    @property
    def events_behind(self) -> int:
        """Of tenants whose cursor is known."""
        known = [place for place in self._behind.values() if place.confirmed is not None]
        return sum(max(0, place.last_seq - (place.confirmed or 0)) for place in known)

    def found(self, rows: Sequence[FeedBehind]) -> None:
        """What the store says of tenants; its cursors may be older than what is known here."""
        for row in rows:
            self._moved(row.tenant_id, row.last_seq, row.seq)

    def moved(self, tenant_id: str, last_seq: int) -> None:
        """A ledger ends here now."""
        self._moved(tenant_id, last_seq, None)

    def take(self) -> str | None:
        """The tenant whose turn it is, until it is given back."""
        if not self._line:
            return None
        return self._line.popleft()

    def give_back(self, tenant_id: str) -> None:
        """After its turn, however that ended."""
        place = self._behind[tenant_id]
        if place.is_behind:
            self._line.append(tenant_id)
            return
        del self._behind[tenant_id]
        self._settled[tenant_id] = place.confirmed or 0
        if len(self._settled) > self._settled_max:
            self._settled.popitem(last=False)

    def confirmed(self, tenant_id: str) -> int | None:
        """Up to where a taken tenant's events are known to be published; None: ask the store."""
        return self._behind[tenant_id].confirmed

    def confirm(self, tenant_id: str, seq: int) -> bool:
        """All events of a taken tenant up to here are published; whether it is behind still."""
        place = self._behind[tenant_id]
        place.confirmed = max(seq, place.confirmed or 0)
        return place.is_behind

    def _moved(self, tenant_id: str, last_seq: int, confirmed: int | None) -> None:
        place = self._behind.get(tenant_id)
        if place is not None:
            place.last_seq = max(place.last_seq, last_seq)
            if confirmed is not None:
                place.confirmed = max(confirmed, place.confirmed or 0)
            return
        settled = self._settled.get(tenant_id)
        if settled is not None:
            confirmed = max(settled, confirmed or 0)
            if confirmed >= last_seq:
                return
            del self._settled[tenant_id]
        self._behind[tenant_id] = _Place(last_seq, confirmed)
        self._line.append(tenant_id)
