"""What those outside of the engine were told, and told it: the auditor holds the ledger against it.

Everything here is as it was on the wire or at the door, in plain values; nothing of the engine's
own types. `at` is virtual seconds.

I1  What is said is written down before it is sent, and what is heard when it is heard: a line is
    there even if what followed it was lost.
"""

from typing import Any

import attrs

__all__ = ["Answered", "Asked", "Heard", "Journal", "Read", "Said"]


@attrs.frozen(kw_only=True)
class Asked:
    """A request left its user. `number` names the request; repeats of it have the same number."""

    at: float
    number: int
    tenant_id: str
    verb: str
    key: str | None
    """The idempotency key, if any."""
    about: dict[str, Any]
    """What was asked for: jobs with their definitions, the id acted on."""


@attrs.frozen(kw_only=True)
class Answered:
    """An answer reached its user. `refusal` is the code of one, None where it went through."""

    at: float
    number: int
    refusal: str | None
    answer: dict[str, Any]


@attrs.frozen(kw_only=True)
class Said:
    """A worker sent a protocol message, as decoded JSON with its `type`."""

    at: float
    worker_id: str
    connection: int
    tenant_id: str
    message: dict[str, Any]


@attrs.frozen(kw_only=True)
class Heard:
    """A worker received a protocol message."""

    at: float
    worker_id: str
    connection: int
    tenant_id: str
    message: dict[str, Any]


@attrs.frozen(kw_only=True)
class Read:
    """A stream reader got an event, or a gap. `reader` names it across its connections."""

    at: float
    reader: str
    tenant_id: str
    seq: int
    event: dict[str, Any]


@attrs.define
class Journal:
    asked: list[Asked] = attrs.field(factory=list)
    answered: list[Answered] = attrs.field(factory=list)
    said: list[Said] = attrs.field(factory=list)
    heard: list[Heard] = attrs.field(factory=list)
    read: list[Read] = attrs.field(factory=list)
    arrivals: dict[str, list[float]] = attrs.field(factory=dict)
    """When what a worker sent reached the engine's end of its link at the earliest."""
    readers: dict[str, tuple[str, dict[str, Any]]] = attrs.field(factory=dict)
    """Of each reader its tenant and what it wanted, as it asked for it."""
    stays: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)
    """Of each reader when it was there, from when until when, in that order."""
    lives: list[float] = attrs.field(factory=list)
    """When each life of the engine began, before anything of it ran."""
    healed_at: float | None = None
