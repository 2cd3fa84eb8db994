"""One setting: its names, its kind, and the value made of what was given for it.

I1  A value that is not of its setting's kind, or out of its bounds, is an error that names where it
    was set. Nothing is corrected in silence.
I2  A secret value is never part of a message.

Not here: which settings there are, and which of several origins wins (`configuration`).
"""

import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["PREFIX", "ConfigurationError", "Setting", "Value", "checked", "settings_of"]

PREFIX: Final = "JOBENGINE_"
"""Of every setting's name in the environment."""
_SECRETS: Final = frozenset({"bus_url", "database_url"})


class ConfigurationError(Exception):
    """One line: where something was set, and what is wrong with it."""


@attrs.frozen
class Setting:
    """One name that can be set."""

    name: str
    kind: type
    optional: bool
    default: Any
    owner: type[Any]

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def secret(self) -> bool:
        return self.name in _SECRETS


@attrs.frozen
class Value:
    """What a setting is, and where that comes from."""

    setting: Setting
    value: Any
    origin: str

    @property
    def shown(self) -> str:
        """For people; a secret is not shown (I2)."""
        if self.value is None:
            return "-"
        return "(set, not shown)" if self.setting.secret else str(self.value)


def settings_of(owner: type[Any]) -> Iterator[Setting]:
    """The fields of an attrs class, in their order."""
    for field in attrs.fields(owner):
        kinds = [kind for kind in typing.get_args(field.type) if kind is not type(None)]
        kind = kinds[0] if kinds else field.type
        yield Setting(field.name, kind, bool(kinds), field.default, owner)


def checked(setting: Setting, raw: Any, origin: str) -> Any:
    """The value of a setting from what was given for it, within its bounds."""
    value = _converted(setting, raw, origin)
    try:
        setting.owner(**{setting.name: value})
    except ValueError as error:
        detail = str(error.args[0]).replace("'", "")
        raise ConfigurationError(f"{origin}: {detail}") from None
    return value


def _converted(setting: Setting, raw: Any, origin: str) -> Any:
    kind = setting.kind
    what = {int: "a whole number", float: "a number", Path: "a path", str: "a text"}[kind]
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | Path):
        raise ConfigurationError(f"{origin}: not {what}")
    if kind in (str, Path):
        if not isinstance(raw, str | Path) or not str(raw):
            raise ConfigurationError(f"{origin}: not {what}")
        return str(raw) if kind is str else Path(raw).expanduser().absolute()
    if kind is int and isinstance(raw, float):
        raise ConfigurationError(f"{origin}: not {what}")
    try:
        number = kind(raw)
    except ValueError:
        raise ConfigurationError(f"{origin}: not {what}") from None
    if not math.isfinite(number):
        raise ConfigurationError(f"{origin}: not {what}")
    return number
