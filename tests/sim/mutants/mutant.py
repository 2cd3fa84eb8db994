"""What a planted bug is: one small change of the engine that a tired hand could make."""

from typing import Final

import attrs

from tests.sim.mutants.mutation import Mutation

__all__ = ["BROADCASTER", "BUCKET", "SHARD", "Mutant"]

SHARD: Final = "jobengine.core.lease_shard."
BUCKET: Final = "jobengine.core.rate_bucket."
BROADCASTER: Final = "jobengine.core.broadcaster."


@attrs.frozen(kw_only=True)
class Mutant:
    """`bug` says in words what the engine does wrong. `seeds` is the number of seeds, from 1 on,
    within which the simulator has to catch it. One `by_hashes` is caught by comparing two
    processes, any other by the rules."""

    name: str
    bug: str
    mutation: Mutation
    scenario: str
    seeds: int
    by_hashes: bool = False
