"""How many requests a token and a tenant may make: token buckets, decided without a clock.

A *bucket* holds up to ``burst`` tokens and gains ``rate`` of them a second. A request takes one
token from the bucket of every name it is made under, or none at all.

I1  Conservation: in any span of ``t`` seconds a name is granted at most ``burst + rate * t``, as
    long as it is not forgotten.
I2  A request that is refused takes nothing, from any bucket.
I3  At most ``names_max`` names are remembered a table; the one granted longest ago is forgotten
    first, and begins with a full bucket when it comes again.
I4  Time that runs backwards adds nothing.

Not here: who is asking and how a refusal is answered (the doors).
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import attrs

__all__ = ["NAMES_MAX", "Rate", "RequestLimit", "Verdict", "take_of_all"]

NAMES_MAX: Final = 16_384
"""About 250 bytes each."""


@attrs.frozen
class Rate:
    """`per_s` requests a second on average, `burst` at once."""

    per_s: float = attrs.field(validator=attrs.validators.gt(0))
    burst: int = attrs.field(validator=attrs.validators.ge(1))


class Verdict(NamedTuple):
    """`remaining`: requests that could follow at once. `full_s`: seconds until the bucket is full
    again. `retry_s`: seconds until a refused request may come again, 0 for a granted one."""

    granted: bool
    limit: int
    remaining: int
    full_s: float
    retry_s: float


class RequestLimit:
    """The buckets of one kind of name."""

    __slots__ = ("_buckets", "_names_max", "_rate")

    def __init__(self, rate: Rate, names_max: int = NAMES_MAX) -> None:
        self._rate = rate
        self._names_max = names_max
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def level(self, name: Hashable, mono: float) -> float:
        """The tokens of a name at this instant (monotonic seconds); takes none."""
        bucket = self._buckets.get(name)
        burst = self._rate.burst
        if bucket is None:
            return burst
        tokens, since = bucket
        return min(burst, tokens + max(0.0, mono - since) * self._rate.per_s)

    def take(self, name: Hashable, mono: float) -> Verdict:
        """Take one token of a name if there is one."""
        level = self.level(name, mono)
        if level >= 1:
            level -= 1
            self._put(name, level, mono)
            return self._verdict(level, granted=True)
        return self._verdict(level, granted=False)

    def look(self, name: Hashable, mono: float) -> Verdict:
        """What `take` would answer to a request, which takes nothing."""
        level = self.level(name, mono)
        return self._verdict(level, granted=level >= 1)

    def _put(self, name: Hashable, level: float, mono: float) -> None:
        bucket = self._buckets.get(name)
        since = mono if bucket is None else max(mono, bucket[1])
        self._buckets[name] = (level, since)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)

    def _verdict(self, level: float, *, granted: bool) -> Verdict:
        per_s, burst = self._rate.per_s, self._rate.burst
        return Verdict(
            granted=granted,
            limit=burst,
            remaining=int(level),
            full_s=(burst - level) / per_s,
            retry_s=0.0 if granted else (1 - level) / per_s,
        )


def take_of_all(asked: Sequence[tuple[RequestLimit, Hashable]], mono: float) -> list[Verdict]:
    """A verdict for each limit; tokens are taken only if every one of them grants (I2)."""
    verdicts = [limit.look(name, mono) for limit, name in asked]
    if all(verdict.granted for verdict in verdicts):
        return [limit.take(name, mono) for limit, name in asked]
    return verdicts
