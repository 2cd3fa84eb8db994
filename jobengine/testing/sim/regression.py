"""A found seed as a file: what to run, and a sentence on what it caught.

    caught = "a lease that was granted as its engine died was granted again"
    code = "1.0.0+0123456789ab"
    seed = 7
    [scenario]
    jobs = 4

`code` is the stamp of the sources in which it was caught. In others the seed is another run, as
much worth as any; what was caught once is most likely to be caught there again.
"""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from jobengine.testing.sim.scenario import Scenario, ScenarioError

__all__ = ["Regression", "read_regression", "scenario_text"]


class Regression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: int
    caught: str
    code: str
    scenario: Scenario

    def text(self) -> str:
        """As TOML."""
        head = "".join(
            f"{name} = {_value(getattr(self, name))}\n" for name in ("caught", "code", "seed")
        )
        return f"{head}\n[scenario]\n{scenario_text(self.scenario)}"


def read_regression(path: Path) -> Regression:
    """Raises `ScenarioError`."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Regression)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ScenarioError(f"{path} is no TOML: {error}") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise ScenarioError(f"{path}: {error}") from None


def scenario_text(scenario: Scenario) -> str:
    """What differs from the defaults, as TOML."""
    default = Scenario()
    return "".join(
        f"{field.name} = {_value(getattr(scenario, field.name))}\n"
        for field in msgspec.structs.fields(Scenario)
        if getattr(scenario, field.name) != getattr(default, field.name)
    )


def _value(value: Any) -> str:
    """JSON writes these kinds as TOML does."""
    return msgspec.json.encode(value).decode()
