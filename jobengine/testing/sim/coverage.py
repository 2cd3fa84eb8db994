"""Which faults met which states, summed over runs: so a site that is never exercised is seen.

A *chance* is a place and moment at which a fault could have struck, a *strike* one at which it did.
Each is counted with the state that it hits: the verb of a call, the kind of a commit's first entry,
the type of a frame.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from jobengine.testing.sim.messages import Outcome

__all__ = ["Coverage"]


class Coverage:
    """Of runs that may turn on `sites`."""

    def __init__(self, sites: Iterable[str]) -> None:
        self.sites = tuple(sorted(sites))
        self.chances: Counter[tuple[str, str]] = Counter()
        self.strikes: Counter[tuple[str, str]] = Counter()

    def add(self, outcome: Outcome) -> None:
        for counter, listed in ((self.chances, outcome.chances), (self.strikes, outcome.strikes)):
            for site, state, count in listed:
                counter[site, state] += count

    @property
    def never(self) -> tuple[str, ...]:
        """Sites that have not struck at all."""
        struck = {site for site, _ in self.strikes}
        return tuple(site for site in self.sites if site not in struck)

    @property
    def unmet(self) -> list[tuple[str, str]]:
        """Site and state that had chances and no strike, of sites that struck elsewhere."""
        never = set(self.never)
        return sorted(
            (site, state)
            for site, state in self.chances
            if site in self.sites and site not in never and not self.strikes[site, state]
        )

    def rows(self) -> list[tuple[str, int, int, str]]:
        """Site, chances, strikes, and in which states, the most frequent first."""
        rows = []
        for site in self.sites:
            states = Counter(
                {state: n for (each, state), n in self.strikes.items() if each == site}
            )
            told = " ".join(f"{state or '-'}:{count}" for state, count in _by_count(states))
            rows.append((site, self._sum(self.chances, site), self._sum(self.strikes, site), told))
        return rows

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "sites": {
                site: {
                    "chances": self._sum(self.chances, site),
                    "strikes": self._sum(self.strikes, site),
                    "states": {
                        state: {"chances": count, "strikes": self.strikes[site, state]}
                        for (each, state), count in sorted(self.chances.items())
                        if each == site
                    },
                }
                for site in self.sites
            },
            "never": list(self.never),
            "unmet": [list(pair) for pair in self.unmet],
        }

    @staticmethod
    def _sum(counter: Counter[tuple[str, str]], site: str) -> int:
        return sum(count for (each, _), count in counter.items() if each == site)


def _by_count(states: Counter[str]) -> list[tuple[str, int]]:
    return sorted(states.items(), key=lambda item: (-item[1], item[0]))
