"""A scenario: what kind of runs are made. Read from TOML; everything has a default.

Not here: what a seed makes of it (`run`).
"""

import tomllib
from pathlib import Path

import msgspec

from jobengine.testing.sim.faults import SITES
from jobengine.testing.sim.habits import HABITS

__all__ = ["Scenario", "ScenarioError", "read_scenario"]


class ScenarioError(Exception):
    """The file is no scenario; the message names the key and what would be right."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`jobs` is the most that producers of one run submit, `runs` how many DAG runs are made beside
    at first, `faults_s` how long faults strike in virtual seconds, `heal_s` how long all that was
    accepted may then take. `sites` are those that a run may turn on, each with the chance `share`;
    `habits` those that users may have, with `habit_share`. With a `lull_s`, jobs are submitted one
    by one, so many virtual seconds apart."""

    name: str = "everything"
    jobs: int = 60
    tenants: int = 2
    workers: int = 3
    readers: int = 2
    runs: int = 3
    operators: bool = True
    sources: bool = True
    lull_s: float = 0.0
    faults_s: float = 120.0
    heal_s: float = 7_200.0
    share: float = 0.4
    sites: tuple[str, ...] = SITES
    habit_share: float = 0.2
    habits: tuple[str, ...] = HABITS

    def __post_init__(self) -> None:
        for site in self.sites:
            if site not in SITES:
                raise ValueError(f"sites: `{site}` is none of {', '.join(SITES)}")
        for habit in self.habits:
            if habit not in HABITS:
                raise ValueError(f"habits: `{habit}` is none of {', '.join(HABITS)}")
        for name in ("jobs", "tenants", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1")
        for name in ("share", "habit_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be between 0 and 1")


def read_scenario(path: Path) -> Scenario:
    """Raises `ScenarioError`."""
    try:
        document = tomllib.loads(path.read_text())
        return msgspec.convert({"name": path.stem, **document}, Scenario)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ScenarioError(f"{path} is no TOML: {error}") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise ScenarioError(f"{path}: {error}") from None
