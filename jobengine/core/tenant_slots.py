"""The slots of one tenant, as the governor knows them: what it runs, wants, was given and holds.

Definitions. A tenant *holds* the slots that it may still be using: its allotment, but while a lower
one is on its way the old one, and while more run than it allows, as many as run. Its *credit* is
how far it has lately fallen short of its part of an odd slot.

I1  At most one allotment of a tenant is on its way. What a shard says of a tenant before it has
    answered that one does not lower what the tenant holds.
I2  A fall of demand counts when it has lasted: the moment between two jobs of a worker is no reason
    to give its slot away.

Not here: how many slots it should have (``shares``), when it is given them (``governor``).
"""

from typing import Final

import attrs

from jobengine.core.shares import MICRO
from jobengine.messages.governor import Holding

__all__ = ["TenantSlots"]

_CREDIT_MAX: Final = 10 * MICRO


@attrs.define(eq=False)
class TenantSlots:
    """``demand`` is what counts of running + waiting; ``stamp`` that of the allotment on its way,
    or 0; ``credit`` in millionths of a slot."""

    tenant_id: str
    shard: int
    running: int = 0
    waiting: int = 0
    demand: int = 0
    fell_at: float | None = None
    allotment: int = 0
    held: int = 0
    stamp: int = 0
    credit: int = 0

    @property
    def empty(self) -> bool:
        return not (self.demand or self.allotment or self.held or self.stamp)

    @property
    def holding(self) -> Holding:
        return Holding(self.tenant_id, self.allotment, self.held, self.running, self.waiting)

    def falls_at(self, linger_s: float) -> float | None:
        """When a fall of its demand will have lasted; None while there is none."""
        return None if self.fell_at is None else self.fell_at + linger_s

    def begin_anew(self, running: int, waiting: int) -> None:
        """Its shard has forgotten every allotment: it holds what it runs."""
        self.running, self.waiting, self.demand = running, waiting, running + waiting
        self.allotment, self.held, self.stamp, self.fell_at = 0, running, 0, None

    def allot(self, slots: int, stamp: int) -> None:
        """An allotment is on its way."""
        self.allotment, self.stamp = slots, stamp
        self.held = max(self.held, slots)

    def take_answer(self, running: int) -> None:
        """The allotment has arrived, and is in force."""
        self.stamp, self.running = 0, running
        self.held = max(self.allotment, running)

    def take_demand(self, running: int, waiting: int, now_s: float) -> None:
        self.running, self.waiting = running, waiting
        if not self.stamp:
            self.held = max(self.allotment, running)
        if running + waiting >= self.demand:
            self.demand, self.fell_at = running + waiting, None
        elif self.fell_at is None:
            self.fell_at = now_s

    def let_fall(self, now_s: float, linger_s: float) -> None:
        """I2"""
        falls_at = self.falls_at(linger_s)
        if falls_at is not None and falls_at <= now_s:
            self.demand, self.fell_at = self.running + self.waiting, None

    def count_turn(self, entitled_micro: int | None) -> None:
        """A turn is over in which it was entitled to so many millionths of a slot; None where its
        part was whole."""
        if entitled_micro is None:
            self.credit = 0
        else:
            credit = self.credit + entitled_micro - self.held * MICRO
            self.credit = max(-_CREDIT_MAX, min(credit, _CREDIT_MAX))
