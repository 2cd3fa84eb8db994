"""Names of events in a filter: those that some event can have.

A misspelt name would make a stream that stays silent for ever, so it is refused.
"""

from collections.abc import Sequence
from typing import Final

from jobengine.http.errors import invalid
from jobengine.wire.event_types import EVENT_TYPES

__all__ = ["check_types"]

_NAMES: Final = tuple(one.name for one in EVENT_TYPES)
_FAMILIES: Final = tuple(dict.fromkeys(name.partition(".")[0] for name in _NAMES))


def check_types(names: Sequence[str]) -> None:
    """Raise the refusal of the first that no event can have; `job.*` is all that begin so."""
    for name in names:
        if not _can_be(name):
            families = ", ".join(f"{family}.*" for family in _FAMILIES)
            raise invalid("types", f"no event is named {name[:64]}; there are {families}")


def _can_be(name: str) -> bool:
    begins = name.removesuffix("*")
    for known in _NAMES:
        family = known.removesuffix("*")
        if name == known or (name != begins and known.startswith(begins)):
            return True
        if known != family and begins.startswith(family):
            return True
    return False
