"""The envelope ``orch.event.v1`` as it is written.

I1  The fields of each struct stand in the sorted order of their written names and hold no floats,
    so the encoder's output is canonical JSON (RFC 8785), as long as every `Raw` is canonical.
I2  What an entry does not know is left out; a field is null only where the entry says so.

Not here: what is known of an entry (``event``).
"""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = [
    "SCHEMA_VERSION",
    "EventActor",
    "EventArtifact",
    "EventEnvelope",
    "EventJob",
    "EventMetrics",
    "EventNotifier",
    "EventReplay",
    "encode_envelope",
]

SCHEMA_VERSION: Final = "orch.event.v1"


class _Part(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pass


class EventActor(_Part, frozen=True):
    """Who did it. ``scopes`` is empty: the ledger keeps names, not rights. ``reasonGiven`` and
    ``ticket`` are what an operator gave for it."""

    reason_given: str | UnsetType
    scopes: tuple[str, ...]
    subject: str
    ticket: str | UnsetType


class EventArtifact(_Part, frozen=True, kw_only=True):
    """An artifact that the attempt named: what is known of it."""

    digest: str | UnsetType = UNSET
    mime: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET


class EventJob(_Part, frozen=True):
    """The job that it happened to. ``status`` and ``from`` are given by transitions, ``leaseId``
    from the first attempt on; ``error``, ``progress`` and ``priority`` are the entry's own data.
    ``workerId`` is the worker's own name, ``taskRunnerId`` that of the machine or pool it runs in,
    the same where it named none."""

    artifacts: tuple[EventArtifact, ...]
    attempt: int
    error: Raw | UnsetType
    from_: str | UnsetType | None = msgspec.field(name="from")
    id: str
    lease_id: str | UnsetType
    payload_digest: str
    priority: Raw | UnsetType
    progress: Raw | UnsetType
    queue: str
    reason: str | UnsetType
    run_id: str | None
    status: str | UnsetType
    task_runner_id: str | UnsetType
    type: str
    worker_id: str | UnsetType


class EventMetrics(_Part, frozen=True):
    """Seconds, with up to six decimals, spent in what the event ends; one of the three."""

    backoff_seconds: Raw | UnsetType = UNSET
    duration_seconds: Raw | UnsetType = UNSET
    queue_seconds: Raw | UnsetType = UNSET


class EventReplay(_Part, frozen=True):
    ordinal: int = 1
    total: int = 1


class EventNotifier(_Part, frozen=True):
    """How it comes: always from the ledger, where it stands once."""

    channel: Literal["ledger"] = "ledger"
    delivery: Literal["at_least_once"] = "at_least_once"
    replay: EventReplay = EventReplay()


class EventEnvelope(_Part, frozen=True):
    """One event. Those of a job say which and to what it belongs; others have ``data``, whose form
    is that of their type."""

    actor: EventActor
    correlation_id: str | UnsetType
    data: Raw | UnsetType
    event_id: str
    event_type: str
    idempotency_key: str
    job: EventJob | UnsetType
    metrics: EventMetrics | UnsetType
    notifier: EventNotifier
    occurred_at: str
    project_id: str | UnsetType
    schema_version: Literal["orch.event.v1"]
    seq: int
    tenant_id: str
    traceparent: str | UnsetType


encode_envelope = msgspec.json.Encoder().encode
"""The canonical bytes of an `EventEnvelope`."""
