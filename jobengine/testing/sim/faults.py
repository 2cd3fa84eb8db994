"""The faults of a simulated run: sites with labels, each on or off for a run, then by chance.

A *site* is a place in the harness at which something can go wrong: `store.commit.lost`. Each run
turns a part of the sites on, so that runs differ in what befalls them and not only in when. A site
that is on strikes with its own rate until the run heals.

I1  Nothing strikes after `heal`.
I2  Every strike, and every chance of one, is counted with the state that it hits, so that a site or
    a state that is never exercised is seen.
I3  Whether a site is on, and when it strikes, does not depend on which others may be on: a run can
    be made smaller by taking sites away.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import trio

from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.trace import Trace

__all__ = ["RATES", "SITES", "Faults"]

RATES: Final[Mapping[str, float]] = {
    # The store: before the call took effect, after it, or slowly; or its caller dies meanwhile.
    "store.commit.away": 0.02,
    "store.commit.unknown": 0.02,
    "store.commit.lost": 0.02,
    "store.commit.slow": 0.05,
    "store.commit.orphaned": 0.02,
    # The store refuses a commit for its data: it is sent again change by change, which it takes.
    "store.commit.refused": 0.1,
    # The connection is lost between the answers to two commits.
    "store.commit.torn": 0.05,
    "store.read.away": 0.02,
    "store.read.lost": 0.02,
    "store.read.slow": 0.05,
    "store.outage": 0.05,
    # A worker's connection: frames are in order on one connection, as TCP keeps them.
    "link.slow": 0.1,
    "link.cut": 0.01,
    "link.half_open": 0.005,
    "link.refused": 0.1,
    "link.partition": 0.02,
    # Requests of users: each its own connection, so they may overtake each other.
    "call.slow": 0.1,
    "call.request_lost": 0.03,
    "call.answer_lost": 0.03,
    "call.repeated": 0.03,
    # Deaths.
    "crash.engine": 0.02,
    "crash.actor": 0.02,
    "crash.worker": 0.02,
    # Clocks.
    "clock.step": 0.05,
    "clock.skew": 0.05,
    "clock.hours": 0.02,
    # Workers that misbehave.
    "worker.stalls": 0.02,
    "worker.repeats": 0.03,
    "worker.late": 0.03,
    "worker.crashes_handler": 0.05,
}
"""Of each site how often it strikes, of the chances it has."""

SITES: Final = tuple(sorted(RATES))


class Faults:
    def __init__(
        self, chance: Chance, trace: Trace, sites: Iterable[str] = SITES, share: float = 0.5
    ) -> None:
        self._trace = trace
        self._dice: dict[str, random.Random] = {site: chance.fork(site) for site in SITES}
        drawn = {site: self._dice[site].random() for site in SITES}
        self.on = frozenset(site for site in sites if drawn[site] < share)
        rates = {site: RATES[site] * self._dice[site].choice((0.3, 1.0, 3.0)) for site in SITES}
        self._odds = {
            site: (dice.random, rates[site]) for site, dice in self._dice.items() if site in self.on
        }
        self._healed = False
        self.chances: Counter[tuple[str, str]] = Counter()
        self.strikes: Counter[tuple[str, str]] = Counter()
        self.struck: list[tuple[float, str]] = []
        """When each strike was, in virtual seconds, and of which site."""

    def strike(self, site: str, state: str = "") -> bool:
        """Whether the fault happens here and now. `state` says what it hits, in one word."""
        self.chances[site, state] += 1
        odds = self._odds.get(site)
        if odds is None or odds[0]() >= odds[1]:
            return False
        self.note(site, state)
        return True

    def note(self, site: str, state: str) -> None:
        """A fault happens, by chance or on purpose."""
        self.strikes[site, state] += 1
        self.struck.append((trio.current_time(), site))
        self._trace.note("fault", site, state=state)

    def pause_s(self, site: str, *pauses_s: float) -> float:
        """How long a fault of this site lasts; one of those given."""
        return self._dice[site].choice(pauses_s)

    @property
    def healed(self) -> bool:
        return self._healed

    def heal(self) -> None:
        """From now on everything works."""
        self._healed = True
        self._odds = {}
        self._trace.note("fault", "healed")
