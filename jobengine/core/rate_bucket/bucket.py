"""One limit of a tenant: its tokens, its hour, and what its upstream has taught.

Definitions. The *cap* is how many tokens may lie in the bucket: the burst, or, while something is
learned, one request's worth and, unless starts are forbidden, a quarter of a second.

I1  0 ≤ tokens ≤ burst, always; what is taken in any span is at most the burst, what came in that
    span, and what was given back in it.
I2  Tokens come lazily: the bucket is *settled* before it is looked at, and how often that is done
    changes nothing.
I3  After a push-back no token of before is left, so no burst follows.

Not here: requests and their order (``walk``), the wall clock (``timeline``), what outlives it
(``stored``).
"""

from typing import Final

import attrs

from jobengine.core.rate_bucket.episodes import Episodes
from jobengine.core.rate_bucket.hour import HourCount
from jobengine.core.rate_bucket.learning import Learned
from jobengine.core.rate_bucket.offered import Offered
from jobengine.core.rate_bucket.refill import TOKEN, ConstantRefill, Curve, Refill
from jobengine.domain.instant import DAY, MINUTE, SECOND
from jobengine.messages.rate_bucket import Limit, PushedBack, RateRequest

__all__ = ["Bucket"]

_SLACK_PARTS_OF_MINUTE: Final = 240
_RETRY_AFTER_US_MAX: Final = DAY
_PUT_OFF_US_MIN: Final = SECOND
_NOTHING: Final = ConstantRefill(0)


@attrs.define(eq=False)
class Bucket:
    """Methods take steady microseconds that never go back; ``settle`` comes before the others."""

    tenant_id: str
    limit: Limit
    settled_at: int
    units: int = 0
    open_at: int = 0
    told_open_at: int = 0
    cost_max: int = 1
    starts: int = 0
    """Starts paid for in this life."""
    episodes: Episodes | None = None
    """Of a limit that learns."""
    hour: HourCount | None = None
    learned: Learned | None = None
    refill: Refill = _NOTHING
    cap: int = 0
    has_tokens: bool = False
    """Whether it limits a rate; else only starts an hour, or everything."""
    by_cost: bool = False
    retries_only: bool = False
    hour_max: int = 0

    # ---- beginning

    @classmethod
    def fresh(cls, tenant_id: str, limit: Limit, at: int) -> "Bucket":
        """Full."""
        bucket = cls(tenant_id, limit, at)
        bucket.adopt(limit)
        bucket.units = bucket.cap
        bucket.episodes = Episodes(Offered(at, bucket.units)) if bucket.learns else None
        return bucket

    def reconfigure(self, limit: Limit) -> None:
        """Another limit under the same key: what is in the bucket stays, as far as it fits."""
        was_refilled = self.has_tokens
        learned = self.learned
        self.limit = limit
        self.adopt(limit)
        configured = limit.per_minute_micro
        if learned is not None and configured and limit.adaptive:
            self.heed(learned.under(configured))
        self.units = min(self.units, self.cap) if was_refilled else self.cap

    # ---- time

    def settle(self, at: int) -> None:
        """Bring in the tokens that have come until ``at``."""
        while (since := self.settled_at) < at:
            until = at if self.learned is None else self._part_end(since, at)
            gained = self.refill.gained(since, until)
            self.units = min(self.cap, self.units + gained)
            self.settled_at = until
            if self.episodes is not None and since >= self.open_at:
                self.episodes.offered.add(gained, until)
            if self.learned is not None:
                self._turn(until)

    def _part_end(self, since: int, at: int) -> int:
        """Where the span from ``since`` with one and the same cap ends, at most ``at``."""
        learned, refill = self.learned, self.refill
        ends = (
            self.open_at,
            None if learned is None else learned.forget_at,
            refill.stretch_end(since) if isinstance(refill, Curve) else None,
        )
        return min([at, *(end for end in ends if end is not None and end > since)])

    # ---- admission

    @property
    def seed(self) -> str:
        return f"{self.tenant_id}\0{self.limit.key}"

    @property
    def denies_all(self) -> bool:
        """A source without a rate policy."""
        return self.limit.per_minute_micro is None and self.limit.hour_max is None

    def need(self, request: RateRequest) -> int | None:
        """Units that a request takes, None when it is none of this bucket's concern."""
        if self.by_cost:
            cost = request.cost
            if cost > self.cost_max:
                self._widen(cost)
            return cost * TOKEN
        return None if self.retries_only and not request.retry else TOKEN

    def has(self, units: int, starts: int) -> bool:
        """Whether so many units and starts can be had at the instant it is settled to."""
        hour = self.hour
        if self.has_tokens:
            if self.units < units or self.settled_at < self.open_at:
                return False
        elif hour is None:
            return False
        return hour is None or hour.count(self.settled_at) + starts <= self.hour_max

    def tokens_at(self, units: int) -> int | None:
        """When there will be so many, if they may pile up; None: never."""
        if self.units >= units:
            return max(self.settled_at, self.open_at)
        enough_at = self.refill.enough_at(self.settled_at, units - self.units)
        return None if enough_at is None else max(enough_at, self.open_at)

    def take(self, units: int, starts: int = 1) -> None:
        """``units`` for all of these starts together."""
        if self.has_tokens:
            self.units -= units
        self.starts += starts
        if self.hour is not None:
            self.hour.take(self.settled_at, starts)

    def untake(self, units: int) -> None:
        """Undo the last ``take``."""
        if self.has_tokens:
            self.units += units
        self.starts -= 1
        if self.hour is not None:
            self.hour.untake()

    def give_back(self, units: int) -> None:
        """A start that was paid for did not happen."""
        self.credit(units)
        if self.hour is not None:
            self.hour.give_back()

    def credit(self, units: int) -> None:
        if self.has_tokens:
            self.units = min(self.cap, self.units + units)

    # ---- learning

    @property
    def learns(self) -> bool:
        return self.limit.adaptive and bool(self.limit.per_minute_micro)

    def rate(self) -> int:
        """The refill in force."""
        return self.refill.rate(self.settled_at)

    def push_back(self, message: PushedBack, granted_at: int | None) -> bool:
        """Heed an upstream; whether that changed anything to be told.

        ``granted_at`` is steady time. That a pause grew by less than a second is not told: every
        call in flight would say so.
        """
        at, learned, limit = self.settled_at, self.learned, self.limit
        episodes = self._episodes()
        retry_after_us = min(message.retry_after_us or 0, _RETRY_AFTER_US_MAX)
        sort = episodes.sort(at, self.starts, self.open_at, learned, granted_at, limit.cooldown_us)
        if sort == "echo":
            return self._pause(retry_after_us)
        if sort == "pauses":
            told = self._pause(episodes.pause(self.starts, retry_after_us))
            self._bear(retry_after_us)
            if not retry_after_us and self.learned is not None:
                self.heed(self.learned.probing())
            return told
        episodes.halve(self.starts)
        told = self._pause(max(retry_after_us, limit.cooldown_us))
        if learned is not None and learned.pinned:
            return told
        self.told_open_at = self.open_at
        if learned is None:
            assert limit.per_minute_micro is not None
            learned = Learned.first(self.seed, limit.per_minute_micro, at, self.open_at)
        else:
            learned = learned.halved(at, self.open_at)
        self.units = 0
        self.heed(learned)
        self._bear(retry_after_us)
        return True

    def _bear(self, retry_after_us: int) -> None:
        bound = self._episodes().bound(self.settled_at, self.open_at, retry_after_us)
        if bound is not None and self.learned is not None:
            self.heed(self.learned.bearing(bound))

    def _episodes(self) -> Episodes:
        if self.episodes is None:
            lately = self.refill.rate(self.settled_at) * MINUTE
            self.episodes = Episodes(Offered(self.settled_at - MINUTE, lately))
        return self.episodes

    def _pause(self, pause_us: int) -> bool:
        """Forbid starts; whether it is worth telling."""
        at = self.settled_at
        if not pause_us or at + pause_us <= self.open_at:
            return False
        self.open_at = at + pause_us
        if self.learned is not None:
            self.heed(self.learned.put_off(at, self.open_at))
        if self.open_at - self.told_open_at < _PUT_OFF_US_MIN:
            return False
        self.told_open_at = self.open_at
        return True

    def be_told(self, learned_micro: int | None, *, pinned: bool) -> None:
        """An operator sets what is learned, or wipes it out with the pause that came with it."""
        configured = self.limit.per_minute_micro
        if learned_micro is None or configured is None:
            self.open_at = self.told_open_at = 0
            self.heed(None)
            return
        at = self.settled_at
        self.heed(Learned.told(self.seed, configured, at, learned_micro, pinned=pinned))

    # ---- fitting together

    def adopt(self, limit: Limit) -> None:
        """Be what a limit says, with nothing learned."""
        self.has_tokens = limit.per_minute_micro is not None
        self.by_cost = limit.gate == "rate"
        self.retries_only = limit.gate == "retry_budget"
        self.hour_max = limit.hour_max or 0
        if limit.hour_max is None:
            self.hour = None
        elif self.hour is None:
            self.hour = HourCount()
        self.heed(None)

    def heed(self, learned: Learned | None) -> None:
        """Refill as was learned, or as configured."""
        self.learned = learned
        if learned is None:
            self.refill = ConstantRefill(self.limit.per_minute_micro or 0)
        else:
            self.refill = learned.refill
        self._fit()

    def _turn(self, at: int) -> None:
        """Another stretch may have begun, or what was learned is of no more use."""
        learned = self.learned
        if learned is not None and learned.forget_at is not None and at >= learned.forget_at:
            self.heed(None)
        else:
            self._fit()

    def _widen(self, cost: int) -> None:
        """Make room for a request's worth, as far as the burst goes."""
        self.cost_max = min(cost, self.limit.burst or 0) or 1
        self._fit()

    def _fit(self) -> None:
        self.cap = (self.limit.burst or 0) * TOKEN
        if self.learned is not None:
            self.cap = min(self.cap, self.cost_max * TOKEN + self._slack())
            self.units = min(self.units, self.cap)

    def _slack(self) -> int:
        """What a late start may catch up with; nothing is late before ``open_at``."""
        refill, at = self.refill, self.settled_at
        if at < self.open_at:
            return 0
        rate = refill.stretch_rate(at) if isinstance(refill, Curve) else refill.rate(at)
        return rate * MINUTE // _SLACK_PARTS_OF_MINUTE
