"""Lines: who is next at limits that cannot serve everybody, so that a dear request gets its turn.

Definitions. A *line* is a stream of requests, such as a lane of jobs; its requests come in its own
order. A line that was denied *waits*: it has a *tag*, and claims what its first request lacks at
each limit that denied it. A line that does not wait is judged by the tag that it would get.

I1  A tag is what was served when the line began to wait, plus the cost of its request by its
    weight: lines that wait take turns by cost, as in self-clocked fair queueing. What was served is
    the highest tag of a request that took anything of a limit at which others waited.
I2  Whoever has the lower tag goes first, at all limits alike, so lines never wait for each other in
    a circle. Who goes later needs, on top of its own, what those before it claim.
I3  From the moment it waits until it is served, a line that comes when it is told to sees no other
    one take more than its own cost by weight, plus one request of that other. So its wait is
    bounded by what comes in, however cheap the others are.
I4  A claim lapses shortly after the instant at which it could be met. It is within the burst, so
    until then no token is lost on a line that does not come.
I5  A line that waits at several limits claims at the one that opens last, and elsewhere only what
    could not be gained anew until then: a limit that refills in a moment holds nothing back for a
    line that waits for a slow host, or an hour for its quota.
I6  At most ``_LINES_MAX`` lines wait; while there are more, the others ask without a place.

Nothing of this is stored: after a restart the turns begin anew.

Source: S. J. Golestani, A self-clocked fair queueing scheme for broadband applications, INFOCOM
1994 (I1, I3).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

import attrs

from jobengine.domain.instant import MILLISECOND, SECOND
from jobengine.messages.rate_bucket import RateRequest

__all__ = ["NOBODY", "Ahead", "Lines"]

_SHARE: Final = 1_000_000
"""A cost of 1 at weight 1, in tags."""
_GRACE_US: Final = 500 * MILLISECOND
_NEAR_US: Final = SECOND
"""To hold something back for so long is no loss that anybody would notice."""
_LINES_MAX: Final = 1_024


class Ahead(NamedTuple):
    """Units and starts of a limit that are set aside for those who go first."""

    units: int
    starts: int


NOBODY: Final = Ahead(0, 0)


@attrs.frozen
class _Claim:
    """``place`` is the tag, and a number for lines of one tag; ``units`` by key."""

    line: str
    place: tuple[int, int]
    units: Mapping[str, int]
    lapses_at: int


class _Order(NamedTuple):
    """Who waits at one limit: places in order, and what those before each of them claim."""

    places: list[tuple[int, int]]
    before: list[int]


class Lines:
    """``at`` is steady time that never goes back. Requests without a line have no turns."""

    __slots__ = ("_claims", "_last_number", "_orders", "_served")

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}
        self._orders: dict[str, _Order] = {}
        self._last_number = 0
        self._served = 0

    def __bool__(self) -> bool:
        """Whether any line waits."""
        return bool(self._claims)

    def copy(self) -> "Lines":
        """As it stands, to look ahead with."""
        lines = Lines()
        lines._claims, lines._orders = dict(self._claims), dict(self._orders)
        lines._last_number, lines._served = self._last_number, self._served
        return lines

    def forget(self) -> None:
        """Limits have changed: everybody asks anew."""
        self._claims.clear()
        self._orders.clear()

    def lapse(self, at: int) -> None:
        """I4."""
        for claim in [claim for claim in self._claims.values() if claim.lapses_at <= at]:
            self._drop(claim.line)

    def waits_at(self, key: str) -> bool:
        return bool(self._claims) and bool(self._order_of(key).places)

    def ahead(self, key: str, request: RateRequest) -> Ahead:
        """What those who go before a request claim at a limit."""
        own = self._claims.get(request.line)
        order = self._order_of(key)
        starts = bisect_left(order.places, self._new_place(request) if own is None else own.place)
        return Ahead(order.before[starts], starts)

    def served(self, request: RateRequest) -> None:
        """The first request of a line took what it needs."""
        own = self._drop(request.line)
        if own is not None:
            self._served = max(self._served, own.place[0])
        elif any(self.waits_at(key) for key in request.keys):
            self._served = self._new_place(request)[0]

    def wait(
        self,
        request: RateRequest,
        at: int,
        lacks: Mapping[str, int],
        opens: Mapping[str, int],
        regain_us: Callable[[str, int], int],
    ) -> None:
        """The first request of a line was denied: ``lacks`` are its units by the keys that deny it,
        ``opens`` the instants at which they would not; ``regain_us`` is how long a limit takes to
        gain so many."""
        own = self._claims.get(request.line)
        if own is not None:
            place = own.place
            lacks = {**own.units, **lacks}
        elif len(self._claims) < _LINES_MAX:
            place = self._new_place(request)
            self._last_number += 1
        else:
            return
        last_at = max(opens.values())
        lacks = {
            key: units
            for key, units in lacks.items()
            if opens.get(key) == last_at or last_at - at <= max(_NEAR_US, regain_us(key, units))
        }
        if own is None or lacks != own.units:
            self._drop(request.line)
            for key in lacks:
                self._orders.pop(key, None)
        claim = _Claim(request.line, place, lacks, last_at + _GRACE_US)
        self._claims[request.line] = claim

    def leave(self, line: str) -> None:
        """The first request of a line can never be served as things are."""
        self._drop(line)

    def _new_place(self, request: RateRequest) -> tuple[int, int]:
        """Where a line would stand that begins to wait now: behind all of its tag."""
        return self._served + request.cost * _SHARE // request.weight, self._last_number + 1

    def _order_of(self, key: str) -> _Order:
        order = self._orders.get(key)
        if order is None:
            claims = [claim for claim in self._claims.values() if key in claim.units]
            claims.sort(key=lambda claim: claim.place)
            sums = accumulate((claim.units[key] for claim in claims), initial=0)
            order = self._orders[key] = _Order([claim.place for claim in claims], list(sums))
        return order

    def _drop(self, line: str) -> _Claim | None:
        claim = self._claims.pop(line, None)
        if claim is not None:
            for key in claim.units:
                self._orders.pop(key, None)
            if not self._claims:
                self._orders.clear()
        return claim
