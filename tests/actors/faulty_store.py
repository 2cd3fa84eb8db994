"""A store that fails now and then: a wrapper around the memory store, steered by a seed."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import trio

from jobengine.store.errors import StoreUnavailableError
from jobengine.store.memory import MemoryStore

__all__ = ["Fault", "FaultyStore", "chance_of_faults", "fail_call"]


@attrs.frozen
class Fault:
    """What befalls one call: a pause before it takes effect, a pause after, then an error or none.

    ``lost`` is an error after the call took effect; ``away`` one before it did. ``unknown`` tells
    the caller of a commit that it may have taken effect, which a lost one always does. ``error`` is
    the class that is raised.
    """

    before_s: float = 0.0
    after_s: float = 0.0
    away: bool = False
    lost: bool = False
    unknown: bool = False
    error: type[StoreUnavailableError] = StoreUnavailableError


Plan = Callable[[str, int], Fault | None]
"""The fault of the n-th call (from 1) of a method, or None."""


class FaultyStore:
    """Any method of the port; ``calls`` counts them by name. ``plan`` may be exchanged at any time.

    A call that is cancelled while it waits to be answered has taken effect, like a real one.
    """

    def __init__(self, store: MemoryStore | None = None, plan: Plan | None = None) -> None:
        self.inner = store or MemoryStore()
        self.plan = plan
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*args: Any) -> Any:
            self.calls[name] += 1
            fault = self.plan(name, self.calls[name]) if self.plan is not None else None
            if fault is None:
                return await method(*args)
            if fault.before_s:
                await trio.sleep(fault.before_s)
            if fault.away:
                raise fault.error("away", may_have_committed=fault.unknown)
            result = await method(*args)
            if fault.after_s:
                await trio.sleep(fault.after_s)
            if fault.lost:
                raise fault.error("lost", may_have_committed=name == "commit")
            return result

        return call


def fail_call(name: str, fault: Fault, *, first: int = 1, last: int | None = None) -> Plan:
    """The same fault for calls ``first`` to ``last`` of one method; none for any other."""

    def plan(called: str, number: int) -> Fault | None:
        hit = called == name and first <= number <= (first if last is None else last)
        return fault if hit else None

    return plan


def chance_of_faults(seed: int, rate: float) -> Plan:
    """Faults of every kind with this probability; ``prepare`` alone is left in peace."""
    dice = random.Random(seed)

    def plan(name: str, _: int) -> Fault | None:
        if name == "prepare" or dice.random() >= rate:
            return None
        kind = dice.choice(("slow", "late", "away", "unknown", "lost"))
        pause_s = dice.choice((0.0, 0.001, 0.3, 4.0))
        match kind:
            case "slow":
                return Fault(before_s=pause_s)
            case "late":
                return Fault(after_s=pause_s)
            case "away":
                return Fault(before_s=pause_s, away=True)
            case "unknown":
                return Fault(before_s=pause_s, away=True, unknown=name == "commit")
            case _:
                return Fault(after_s=pause_s, lost=True)

    return plan
