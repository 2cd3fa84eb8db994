"""From a seed that fails to a smaller run that fails in the same way.

Tries to take away, one after the other and again as long as something went: fault sites, habits,
users, jobs, time. What is left is what the failure needs, nearly.

I1  What comes out fails, with a violation of the same form as the one it began with: the same
    sentence but for numbers and ids.
I2  At most `tries_max` runs are made.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import attrs
import msgspec

from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.scenario import Scenario

__all__ = ["Shrunk", "form_of", "shrink"]

_VARIABLE: Final = re.compile(r"\b[0-9a-f]+(-[0-9a-f]+)*\b|\w*\d\w*|\[[^]]*\]")
_KEPT: Final = frozenset({"name", "share", "sites", "habit_share", "habits", "heal_s"})
_SHORTEST_S: Final = 5.0
_OTHER_SEEDS: Final = 3


@attrs.frozen
class Shrunk:
    """The smallest run found, and how many were made to find it."""

    request: Request
    outcome: Outcome
    tries: int


async def shrink(
    request: Request,
    run: Callable[[Request], Awaitable[Outcome]],
    *,
    tries_max: int,
    told: Callable[[Request, int], None] = lambda *_: None,
) -> Shrunk | None:
    """The smaller run, or None if `request` does not fail at all. `told` hears of every step with
    the tries so far."""
    outcome = await run(request)
    if outcome.violation is None:
        return None
    form, tries = form_of(outcome.violation), 1
    struck = tuple(sorted({site for site, _, _ in outcome.strikes}))
    went_on = True
    while went_on:
        went_on = False
        for candidate in _smaller(request, struck):
            if tries >= tries_max:
                return Shrunk(request, outcome, tries)
            tries += 1
            found = await run(candidate)
            if found.violation is not None and form_of(found.violation) == form:
                request, outcome, went_on = candidate, found, True
                struck = tuple(sorted({site for site, _, _ in found.strikes}))
                told(request, tries)
                break
    return Shrunk(request, outcome, tries)


def form_of(violation: str) -> str:
    """The sentence without what differs from run to run."""
    return _VARIABLE.sub("#", violation)


def _smaller(request: Request, struck: tuple[str, ...]) -> Iterator[Request]:
    """Runs that are smaller by one step, the largest steps first. Another number of jobs or workers
    makes another run of the same seed, so a few seeds are tried for those."""
    scenario = request.scenario
    for sites in _fewer(scenario.sites, struck):
        yield msgspec.structs.replace(
            request, scenario=msgspec.structs.replace(scenario, sites=sites)
        )
    for out in scenario.habits:
        habits = tuple(habit for habit in scenario.habits if habit != out)
        yield msgspec.structs.replace(
            request, scenario=msgspec.structs.replace(scenario, habits=habits)
        )
    for name, value in _less(scenario):
        try:
            less = Scenario(**{**msgspec.structs.asdict(scenario), name: value})
        except ValueError:
            continue  # less than a scenario must have
        for seed in range(request.seed, request.seed + 1 + _OTHER_SEEDS):
            yield msgspec.structs.replace(request, seed=seed, scenario=less)


def _fewer(sites: tuple[str, ...], struck: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Only those that struck; then halves of them; then all but one."""
    here = tuple(site for site in sites if site in struck)
    if len(here) < len(sites):
        yield here
    half = len(here) // 2
    if half > 1:
        yield here[:half]
        yield here[half:]
    for out in here:
        yield tuple(site for site in here if site != out)


def _less(scenario: Scenario) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(Scenario):
        value = getattr(scenario, field.name)
        if field.name in _KEPT or not value:
            continue
        if isinstance(value, bool):
            yield field.name, False
        elif isinstance(value, int):
            for less in sorted({0, value // 2, value - 1}):
                yield field.name, less
        elif isinstance(value, float) and value > _SHORTEST_S:
            yield field.name, max(_SHORTEST_S, value / 2)
