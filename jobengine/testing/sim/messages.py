"""What a batch and its child processes tell each other, a line of JSON each.

Not here: the run itself (`run`), the processes (`children`).
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from jobengine.testing.sim.run import Verdict
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.store import NthCall

__all__ = ["Hello", "Nth", "Outcome", "Request", "outcome_of"]


class Hello(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The first line of a child. `code` is the stamp of the sources that it has loaded."""

    code: str


class Nth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    verb: str
    number: int
    when: Literal["before", "after"]

    def call(self) -> NthCall:
        return NthCall(self.verb, self.number, self.when)

    def __str__(self) -> str:
        return f"{self.verb} {self.number} {self.when}"


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run to make. With `trace` its outcome has all lines; without `judged` no rule is held
    against it, since another process judges the same run."""

    seed: int
    scenario: Scenario
    nth: Nth | None = None
    trace: bool = False
    judged: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A verdict on its way between processes. `chances` and `strikes` are of site and state."""

    seed: int
    digest: str
    violation: str | None
    traceback: str | None = None
    simulated_s: float = 0.0
    jobs: int = 0
    entries: int = 0
    lives: int = 0
    chances: list[tuple[str, str, int]] = []
    strikes: list[tuple[str, str, int]] = []
    calls: dict[str, int] = {}
    trace: list[str] = []


def outcome_of(verdict: Verdict, *, trace: bool) -> Outcome:
    return Outcome(
        seed=verdict.seed,
        digest=verdict.digest,
        violation=verdict.violation,
        traceback=verdict.traceback,
        simulated_s=verdict.simulated_s,
        jobs=verdict.jobs,
        entries=verdict.entries,
        lives=verdict.lives,
        chances=_listed(verdict.chances),
        strikes=_listed(verdict.strikes),
        calls=dict(verdict.calls),
        trace=list(verdict.trace) if trace else [],
    )


def _listed(counted: Mapping[tuple[str, str], int]) -> list[tuple[str, str, int]]:
    return [(site, state, count) for (site, state), count in sorted(counted.items())]
