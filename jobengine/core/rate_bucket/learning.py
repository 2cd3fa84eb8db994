"""What push-backs have taught about an upstream: the refill in force, which only time changes.

Definitions. A *push-back* is an upstream's 429 or 503. An *episode* begins with a push-back that
halves the refill and takes in those that say nothing of the new one: they come while starts are
forbidden, within the cooldown, for a start that was granted before, or before four starts under the
new one were served. The *ceiling* is where the upstream is believed to stand.

I1  Each episode halves once. Later push-backs of it only put off ``open_at``: by what they say, or,
    when a new start was refused and nothing said, by pauses that double.
I2  The refill never exceeds the configured one, and never falls below a 1,024th of it.
I3  What is in force at an instant follows from (tenant, key, configured, ``learned_micro``,
    ``learned_at``, ``ceiling_micro``) alone, so a successor goes on along the same curve.

The curve: quickly up to a little below the ceiling, slowly past it, and, when nothing pushes back
there, in doublings up to the configured rate. A push-back far below the ceiling lowers that by a
bounded part only, as one that follows an overrun says little of what the upstream bears. Reasons
and figures: docs/decisions/0017-learned-rates.md.

Not here: tokens, and whether a start is admitted (``bucket``).
"""

from hashlib import blake2b
from typing import Final, Self

import attrs

from jobengine.core.rate_bucket.refill import STEP_US, ConstantRefill, Curve, Refill, Stretch
from jobengine.domain.instant import MINUTE, SECOND

__all__ = ["Learned", "refill_in_force"]

_EPISODE_US_MIN: Final = SECOND
_FLOOR_PART: Final = 1_024

_CEILING_KEPT_PERCENT: Final = 70
_BELOW_CEILING_PERCENT: Final = 98
"""Of a rate that was refused although it was below the ceiling: that was too high, then."""
_QUICK_PERCENT: Final = 98
_SLOW_PERCENT: Final = 101
_PROBE_PART: Final = 8
_QUICK_STARTS: Final = 4
_QUICK_US: Final = (2 * SECOND, 60 * SECOND)
_SLOW_STARTS: Final = 420
_SLOW_US: Final = (100 * SECOND, 15 * MINUTE)
_FURTHER_PERCENT: Final = 112
_FURTHER_STARTS: Final = 150
_FURTHER_US: Final = (30 * SECOND, 5 * MINUTE)
_DOUBLING_STARTS: Final = 200
_DOUBLING_US: Final = (10 * SECOND, 30 * SECOND)
_SPREAD_PERCENT: Final = 12
"""By how much chance stretches or shortens every part of the curve."""
_FORGET_US: Final = 10 * MINUTE
"""How long the configured rate must have been borne until it counts as such again."""


@attrs.frozen(kw_only=True)
class Learned:
    """The refill in force from one episode to the next. Instants are steady microseconds."""

    seed: str
    """Tenant and key: what else tells one learner's chance from another's."""
    configured: int
    micro: int
    at: int
    ceiling: int
    pinned: bool = False
    halved_at: int
    refill: Refill = attrs.field(init=False, eq=False, repr=False)
    forget_at: int | None = attrs.field(init=False, eq=False, repr=False)

    @refill.default
    def _refill(self) -> Refill:
        return ConstantRefill(self.micro) if self.pinned else _curve(self)

    @forget_at.default
    def _forget_at(self) -> int | None:
        return self.refill.level_at + _FORGET_US if isinstance(self.refill, Curve) else None

    @classmethod
    def first(cls, seed: str, configured: int, at: int, open_at: int) -> Self:
        """An upstream pushes back for the first time."""
        return cls(
            seed=seed,
            configured=configured,
            micro=_bounded(configured // 2, configured),
            at=max(at, open_at),
            ceiling=configured,
            halved_at=at,
        )

    @classmethod
    def told(cls, seed: str, configured: int, at: int, micro: int, *, pinned: bool) -> Self:
        """An operator says what the upstream bears."""
        micro = min(micro, configured) if pinned else _bounded(micro, configured)
        return cls(
            seed=seed,
            configured=configured,
            micro=micro,
            at=at,
            ceiling=micro,
            pinned=pinned,
            halved_at=at,
        )

    def in_episode(self, at: int, cooldown_us: int) -> bool:
        """Whether a push-back comes too soon to speak of the refill in force."""
        return at < self.halved_at + max(cooldown_us, _EPISODE_US_MIN)

    def halved(self, at: int, open_at: int) -> Self:
        rate = self.refill.rate(at)
        borne = rate if rate >= self.ceiling else rate * _BELOW_CEILING_PERCENT // 100
        return attrs.evolve(
            self,
            micro=_bounded(rate // 2, self.configured),
            at=max(at, open_at),
            ceiling=max(borne, self.ceiling * _CEILING_KEPT_PERCENT // 100, 1),
            halved_at=at,
        )

    def bearing(self, borne: int) -> Self:
        """The same of an upstream that bears no more, as far as one refusal can tell."""
        if self.pinned or borne >= self.ceiling:
            return self
        ceiling = max(borne, self.ceiling // 2, 1)
        return attrs.evolve(self, ceiling=ceiling, micro=min(self.micro, ceiling))

    def probing(self) -> Self:
        """The same, with few starts at first: each may be refused until it is known."""
        if self.pinned:
            return self
        micro = _bounded(self.ceiling // _PROBE_PART, self.configured)
        return attrs.evolve(self, micro=min(self.micro, micro))

    def put_off(self, at: int, open_at: int) -> Self:
        """The same refill, growing from ``open_at`` on."""
        if self.pinned or open_at <= max(self.at, at):
            return self
        return attrs.evolve(self, micro=self.refill.rate(at), at=open_at)

    def under(self, configured: int) -> Self:
        """The same under another configured rate."""
        return attrs.evolve(
            self,
            configured=configured,
            micro=min(self.micro, configured) if self.pinned else _bounded(self.micro, configured),
            ceiling=min(self.ceiling, configured),
        )


def refill_in_force(
    tenant_id: str,
    key: str,
    configured: int,
    at: int,
    *,
    learned_micro: int | None,
    learned_at: int,
    ceiling_micro: int | None,
    pinned: bool,
) -> int:
    """Millionths of a token a minute that a stored state amounts to at ``at``."""
    if learned_micro is None or not configured:
        return configured
    learned = Learned(
        seed=f"{tenant_id}\0{key}",
        configured=configured,
        micro=min(learned_micro, configured),
        at=learned_at,
        ceiling=min(ceiling_micro or learned_micro, configured),
        pinned=pinned,
        halved_at=learned_at,
    )
    return learned.refill.rate(at)


def _bounded(micro: int, configured: int) -> int:
    return min(configured, max(micro, configured // _FLOOR_PART, 1))


def _curve(learned: Learned) -> Curve:
    ceiling = learned.ceiling
    spread = _spread(f"{learned.seed}\0{learned.micro}\0{ceiling}")

    def lasting(starts: int, bounds: tuple[int, int]) -> int:
        us = starts * 1_000_000 * MINUTE // max(1, ceiling)
        return min(max(us, bounds[0]), bounds[1])

    parts = [
        (ceiling * _QUICK_PERCENT // 100, lasting(_QUICK_STARTS, _QUICK_US)),
        (ceiling * _SLOW_PERCENT // 100 + 1, lasting(_SLOW_STARTS, _SLOW_US)),
        (ceiling * _FURTHER_PERCENT // 100 + 1, lasting(_FURTHER_STARTS, _FURTHER_US)),
    ]
    doubling_us = lasting(_DOUBLING_STARTS, _DOUBLING_US)
    stretches: list[Stretch] = []
    rate = learned.micro
    while rate < learned.configured:
        target, us = parts.pop(0) if parts else (2 * rate, doubling_us)
        target = min(target, learned.configured)
        if target <= rate:
            continue
        steps = max(1, us * (100 + spread) // (100 * STEP_US))
        slope = -(-(target - rate) // steps)
        steps = -(-(target - rate) // slope)
        stretches.append(Stretch(rate, slope, steps))
        rate += slope * steps
    if stretches and rate > learned.configured:
        _cut(stretches, learned.configured)
    return Curve(learned.at, stretches, learned.configured)


def _cut(stretches: list[Stretch], configured: int) -> None:
    """Let no step of the last stretch lie above the configured rate."""
    last = stretches[-1]
    stretches[-1] = last._replace(steps=(configured - last.rate) // last.slope + 1)


def _spread(seed: str) -> int:
    """A percentage in ±``_SPREAD_PERCENT``, fixed by the seed: no two keys probe in step."""
    drawn = int.from_bytes(blake2b(seed.encode(), digest_size=4).digest(), "big")
    return drawn % (2 * _SPREAD_PERCENT + 1) - _SPREAD_PERCENT
