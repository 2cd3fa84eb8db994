"""The alphabet of the load meter: what it samples, and what becomes of it."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

__all__ = [
    "CAUSES",
    "LEVELS",
    "Cause",
    "CauseName",
    "ChangeLevel",
    "LoadLevel",
    "Sample",
    "Sampled",
    "ShowLoad",
]

LoadLevel = Literal["normal", "elevated", "shedding"]

LEVELS: Final[tuple[LoadLevel, ...]] = ("normal", "elevated", "shedding")
"""From the lowest to the highest."""

CauseName = Literal["mailbox", "commit_latency", "commits_waiting", "memory"]

CAUSES: Final[tuple[CauseName, ...]] = ("mailbox", "commit_latency", "commits_waiting", "memory")
"""In the order in which they are told."""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What asks for a level above ``normal``, and for which; ``observed`` and ``limit`` are for
    people."""

    name: CauseName
    level: LoadLevel
    observed: str
    limit: str


class Sample(msgspec.Struct, frozen=True, tag=True):
    """Command: look at the node; ends in ``Sampled``."""


class Sampled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The node at one instant. ``mailbox_fill`` is the depth of ``mailbox``, the fullest one, by
    its capacity.

    ``commits`` ended since the sample before and took ``commits_s`` together; for ``waiting_s`` a
    change has waited for one, or one has been under way. ``memory_bytes`` is 0 where the platform
    does not tell. ``busy``: there was work since the sample before.
    """

    mailbox: str
    mailbox_fill: float
    commits: int
    commits_s: float
    waiting_s: float
    memory_bytes: int
    busy: bool


class ShowLoad(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: let doors, readiness and metrics see this; ``causes`` in a fixed order."""

    level: LoadLevel
    causes: Sequence[Cause]


class ChangeLevel(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: tell everybody of another level, and record it."""

    before: LoadLevel
    level: LoadLevel
    causes: Sequence[Cause]
    at: int
