"""Scenarios by name, or as a file.

Not here: what a scenario has (`scenario`).
"""

from pathlib import Path
from typing import Final

from jobengine.testing.sim.scenario import Scenario, ScenarioError, read_scenario

__all__ = ["find_scenario", "scenario_names"]

_FOLDER: Final = Path(__file__).parent / "scenarios"


def scenario_names() -> list[str]:
    """Of those that are shipped."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def find_scenario(name: str) -> Scenario:
    """The shipped scenario of this name, else that in the file. Raises `ScenarioError`."""
    if name in scenario_names():
        return read_scenario(_FOLDER / f"{name}.toml")
    if not Path(name).is_file():
        raise ScenarioError(f"`{name}` is no file, and none of {', '.join(scenario_names())}")
    return read_scenario(Path(name))
