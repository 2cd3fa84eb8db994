"""What the shapes of all controls share, and the two that belong to none of them alone.

A control is what operators set about admission: a source, quota, rate, weight, blackout or pause.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobengine.wire.fields import Instant

__all__ = ["Count", "PauseView", "Removed", "Request", "Shown", "Slug", "Weight"]

Slug = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$(?!\n)")
]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Weight = Annotated[int, Meta(ge=1, le=1_000)]


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """What a client asks for; unknown fields are refused."""


class Shown(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What the engine shows."""


class Removed(Shown, kw_only=True):
    """What was taken away, by its id."""

    name: str
    removed_at: Instant


class PauseView(Shown, kw_only=True):
    """Whether nothing of this part may start: the whole tenant (no `key`), a queue or a source."""

    scope: Literal["tenant", "queue", "source"]
    key: str | None = None
    paused: bool
    revision: int | None = None
    changed_at: Instant | None = None
