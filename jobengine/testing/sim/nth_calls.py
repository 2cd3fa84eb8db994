"""Fails the first, second, third, … call of each store verb, before and after it took effect.

A scenario without chance of a fault is run once to learn which verbs it calls how often. Then each
call is failed in a run of its own; nothing else goes wrong in it. This finds what rates do not: the
one call at the one moment that nobody thought of.

I1  A call that is failed is the same call in every run of a seed: all before it went well.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from jobengine.testing.sim.messages import Nth, Request
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.store import SPARED

__all__ = ["NTH_SITE", "SMALL", "nth_requests"]

NTH_SITE: Final = "store.nth"
"""Under which a call that is failed on purpose is counted."""

SMALL: Final = Scenario(
    name="nth",
    jobs=8,
    tenants=1,
    workers=2,
    readers=1,
    runs=1,
    faults_s=30.0,
    heal_s=600.0,
    share=0.0,
    sites=(),
)


def nth_requests(
    seed: int, calls: Mapping[str, int], *, each_max: int, runs_max: int
) -> Iterator[Request]:
    """The runs to make, of a seed of `SMALL` that makes `calls`: of each verb the first `each_max`
    calls, `runs_max` runs in all. All first calls come first, then all second ones."""
    found = (
        Request(seed=seed, scenario=SMALL, nth=Nth(verb=verb, number=number, when=when))
        for number in range(1, each_max + 1)
        for verb in sorted(calls)
        if verb not in SPARED and number <= calls[verb]
        for when in ("before", "after")
    )
    return islice(found, runs_max)
