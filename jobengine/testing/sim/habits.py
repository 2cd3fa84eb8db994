"""Habits: what the users of a tenant do beside the ordinary, each on or off for a run.

A run in which everybody did everything would be long, and each thing would be lost among the
others. So a seed draws, for each tenant, which habits its users have.

I1  Whether users have a habit does not depend on which others they may have: a run can be made
    smaller by taking habits away.

Not here: what follows of a habit (the users that have it).
"""

from collections.abc import Iterable
from typing import Final

from jobengine.testing.sim.chance import Chance

__all__ = ["HABITS", "habits_of"]

HABITS: Final = (
    # Of producers.
    "backlog",  # much of one kind at once, to be done later
    "deadlines",  # jobs that expire within seconds, behind a limit
    "push_back",  # sources that push back
    # Of operators.
    "redrives",  # many dead letters, and redrives of them
    # Of composers.
    "callbacks",
    "growth",
    "reruns",
    "sub_runs",
)


def habits_of(chance: Chance, tenant_id: str, may: Iterable[str], share: float) -> frozenset[str]:
    """The habits of a tenant's users, out of those they may have."""
    return frozenset(
        habit for habit in may if chance.fork("habit", habit, tenant_id).random() < share
    )
