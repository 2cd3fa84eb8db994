"""How many leases each worker would take, from what was on the wire.

A worker says `credit`, which replaces what it said before; a lease takes one, and a report gives
one back where `hello` asked for that. A connection that begins takes the place of the one before.

Not here: what follows of it (`work`).
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Final

import attrs

from jobengine.testing.sim.journal import Heard, Journal, Said

__all__ = ["Crew", "moments_of"]

_REPORTS: Final = frozenset({"complete", "fail", "release"})
_at: Final = attrgetter("at")


@attrs.define(eq=False)
class _Hand:
    connection: int = 0
    job_types: frozenset[str] = frozenset()
    capacity: int = 0
    slots: int = 0
    leases: set[str] = attrs.field(factory=set)


class Crew:
    """The workers of one tenant; `step` each line of the journal in the order of time."""

    def __init__(self) -> None:
        self._hands: dict[str, _Hand] = {}

    def takes(self, job_type: str) -> bool:
        """Whether somebody would take a job of this type."""
        return any(hand.slots > 0 and job_type in hand.job_types for hand in self._hands.values())

    def step(self, line: Said | Heard) -> None:
        hand = self._hands.setdefault(line.worker_id, _Hand())
        if line.connection < hand.connection:
            return
        if line.connection > hand.connection:
            hand.connection, hand.slots, hand.leases = line.connection, 0, set()
        message, op = line.message, line.message["op"]
        if isinstance(line, Heard):
            if op == "lease":
                hand.leases.add(message["leaseId"])
                hand.slots -= 1
        elif op == "hello":
            hand.capacity, hand.job_types = message["capacity"], frozenset(message["jobTypes"])
        elif op == "credit":
            hand.slots = message["slots"]
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
