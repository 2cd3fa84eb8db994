"""Why the store does not serve for now, in the words that a tenant is told.

Of the inside a tenant hears no more than this; readiness and the log have the server's own words.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import attrs

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.store.errors import (
    StoreBusyError,
    StoreFullError,
    StoreSilentError,
    StoreUnavailableError,
)

__all__ = ["Told", "Trouble", "refusal_of", "told_of", "trouble_of"]

Trouble = Literal["away", "busy", "doubt", "full", "silent"]
"""It cannot be reached; all connections to it are taken; a commit was sent and its outcome is not
known; it has no room; it can be reached and does not answer in time."""


@attrs.frozen
class Told:
    """``retry_after_s`` is when coming again may be of use."""

    message: str
    retry_after_s: int


_TOLD: Final[Mapping[Trouble, Told]] = MappingProxyType(
    {
        "away": Told("the database is away; retry later", 2),
        "busy": Told("too many requests wait for the database; retry later", 1),
        "doubt": Told(
            "a commit is in doubt: its connection was lost before the answer, and nothing else is "
            "committed until it is settled; retry later",
            2,
        ),
        "full": Told(
            "the database has no room left: its disk, memory or connections are used up; "
            "retry later",
            5,
        ),
        "silent": Told("the database is too slow: it did not answer in time; retry later", 5),
    }
)


def trouble_of(error: StoreUnavailableError) -> Trouble:
    """What the failure of one call says about the store; of a commit there may be doubt besides."""
    match error:
        case StoreBusyError():
            return "busy"
        case StoreFullError():
            return "full"
        case StoreSilentError():
            return "silent"
    return "away"


def told_of(trouble: Trouble | None) -> Told:
    """What is said of it; of an unknown one, that the database is away."""
    return _TOLD[trouble or "away"]


def refusal_of(error: StoreUnavailableError) -> Refusal:
    """The answer to what could not be decided because a read failed so; nothing has changed."""
    return Refusal(ErrorCode.STORE_UNAVAILABLE, told_of(trouble_of(error)).message)
