"""How many leases each worker would take, from what was on the wire.

A worker says `credit`, which replaces what it said before; a lease takes one, and a report gives
one back where `hello` asked for that. A connection that begins takes the place of the one before.
A worker whose heartbeat nobody answers is out of the engine's reach, and may not know it for long.

Not here: what follows of it (`work`).
"""

from collections.abc import Iterator
from math import inf
from operator import attrgetter
from typing import Final

import attrs

from jobengine.testing.sim.journal import Heard, Journal, Said

__all__ = ["Crew", "moments_of"]

_REPORTS: Final = frozenset({"complete", "fail", "release"})
_ANSWERED_S: Final = 3.0
"""A heartbeat that had no answer for longer went nowhere, or its answer did."""

_at: Final = attrgetter("at")


@attrs.define(eq=False)
class _Hand:
    connection: int = 0
    job_types: frozenset[str] = frozenset()
    slots: int = 0
    leases: set[str] = attrs.field(factory=set)
    beat_at: float = inf
    """When it said the heartbeat that nothing was heard after."""

    def may_have(self, job_type: str, at: float) -> bool:
        return self.slots > 0 and job_type in self.job_types and at - self.beat_at <= _ANSWERED_S


class Crew:
    """The workers of one tenant; `step` each line of the journal in the order of time."""

    def __init__(self) -> None:
        self._hands: dict[str, _Hand] = {}

    def takes(self, job_type: str, at: float) -> bool:
        """Whether somebody would take a job of this type, if nothing more was said until then."""
        return any(hand.may_have(job_type, at) for hand in self._hands.values())

    def step(self, line: Said | Heard) -> None:
        hand = self._hands.setdefault(line.worker_id, _Hand())
        if line.connection < hand.connection:
            return
        if line.connection > hand.connection:
            hand = self._hands[line.worker_id] = _Hand(connection=line.connection)
        message, op = line.message, line.message["op"]
        if isinstance(line, Heard):
            hand.beat_at = inf
            if op == "lease":
                hand.leases.add(message["leaseId"])
                hand.slots -= 1
        elif op == "hello":
            hand.job_types = frozenset(message["jobTypes"])
        elif op == "credit":
            hand.slots = message["slots"]
        elif op == "heartbeat":
            hand.beat_at = min(hand.beat_at, line.at)
        elif op == "drain":
            hand.slots, hand.job_types = 0, frozenset()
        elif op in _REPORTS and message["leaseId"] in hand.leases:
            hand.leases.discard(message["leaseId"])
            hand.slots += 1


def moments_of(journal: Journal, tenant_id: str) -> Iterator[Said | Heard]:
    """What the workers of a tenant said and heard, in the order of time; what is said at the
    instant at which something is heard is the answer to it."""
    said = [line for line in journal.said if line.tenant_id == tenant_id]
    heard = [line for line in journal.heard if line.tenant_id == tenant_id]
    return iter(sorted([*heard, *said], key=_at))
