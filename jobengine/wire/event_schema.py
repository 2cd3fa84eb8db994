"""The JSON Schema (2020-12) of the envelope `orch.event.v1`, made from the structs that write it.

`orch.event.v1.json` beside this file is `generate()`'s output; a test holds them equal.

I1  Every field of the structs is described here, and no other.
I2  Readers ignore what they do not know, so the published schema lets fields be added; `closed`
    makes the one that does not, by which a test holds what is written to what is described.

Not here: what each type of event carries (`event_types`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_type_hints

import attrs
import msgspec
from msgspec import UnsetType

from jobengine.domain.event_envelope import (
    SCHEMA_VERSION,
    EventActor,
    EventArtifact,
    EventEnvelope,
    EventJob,
    EventMetrics,
    EventNotifier,
    EventReplay,
)
from jobengine.domain.job import State

__all__ = ["FIELDS", "SCHEMA_NAME", "EventField", "components", "generate", "paths", "schema"]

SCHEMA_NAME: Final = f"{SCHEMA_VERSION}.json"

_STATES: Final = [str(state) for state in State]
_SECONDS: Final = {"type": "number", "minimum": 0}
_DIGEST: Final = "^(sha256:)?[0-9a-f]{64}$"


@attrs.frozen
class EventField:
    """`added`: beyond what the specification of the envelope names. `when`: on which events a field
    stands that others lack."""

    about: str
    schema: Mapping[str, Any]
    when: str = ""
    added: bool = False


def _of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


_JOBS: Final = "events of a job"
_MOVES: Final = "transitions"
_OPERATIONS: Final = "what was asked for with one"

FIELDS: Final[Mapping[type[msgspec.Struct], Mapping[str, EventField]]] = {
    EventEnvelope: {
        "schemaVersion": EventField("Form of the envelope.", {"const": SCHEMA_VERSION}),
        "eventId": EventField(
            "`urn:orch:event:{tenant}:{seq}`. By it a reader drops what comes again.",
            _text(pattern="^urn:orch:event:.+:[0-9]+$"),
        ),
        "seq": EventField(
            "Number in the tenant's ledger: from 1, without gaps, in commit order. The cursor.",
            {"type": "integer", "minimum": 0},
        ),
        "eventType": EventField("One of the types.", _text(pattern="^[a-z_]+[.][a-z_]+$")),
        "occurredAt": EventField(
            "When it was decided: RFC 3339, UTC, milliseconds.", _text(format="date-time")
        ),
        "idempotencyKey": EventField(
            "`orch-{eventType}-{jobId}-{attempt}`: the same for whatever tells of this again.",
            _text(pattern="^orch-"),
        ),
        "correlationId": EventField("The caller's name for what belongs together.", _text(), _JOBS),
        "traceparent": EventField(
            "W3C Trace Context of the request that made the job.", _text(), "jobs that have one"
        ),
        "tenantId": EventField("Whose ledger it stands in.", _text(minLength=1)),
        "projectId": EventField("Project of the job, or empty.", _text(), _JOBS),
        "actor": EventField("Who did it.", _of(EventActor)),
        "job": EventField("To which job it happened.", _of(EventJob), _JOBS),
        "metrics": EventField(
            "How long what it ends took.", _of(EventMetrics), "starts, ends and retries"
        ),
        "notifier": EventField("How it comes.", _of(EventNotifier)),
        "data": EventField(
            "What else there is to say, in the form of the type.",
            {"type": "object"},
            "events of no job",
            added=True,
        ),
    },
    EventActor: {
        "subject": EventField(
            "A token's subject, `worker:{workerId}` or `engine`.", _text(minLength=1)
        ),
        "scopes": EventField(
            "Empty: the ledger keeps names, not rights.", {"type": "array", "items": _text()}
        ),
        "reasonGiven": EventField(
            "Why, in the operator's words; redacted.", _text(), _OPERATIONS, added=True
        ),
        "ticket": EventField("Where it was decided; redacted.", _text(), _OPERATIONS, added=True),
    },
    EventJob: {
        "id": EventField("The job's id (UUIDv7).", _text(minLength=1)),
        "type": EventField("Its job type.", _text(minLength=1)),
        "queue": EventField("The queue it waits in.", _text(minLength=1), added=True),
        "runId": EventField("The run it is a node of, or null.", {"type": ["string", "null"]}),
        "attempt": EventField(
            "Which attempt: 0 before the first.", {"type": "integer", "minimum": 0}
        ),
        "leaseId": EventField(
            "`{jobId}.{attempt}`: the lease of the attempt.", _text(), "from the first attempt on"
        ),
        "workerId": EventField(
            "The worker that holds or held the lease.",
            _text(),
            "what a worker takes part in",
            added=True,
        ),
        "taskRunnerId": EventField(
            "The machine or pool that worker runs in; the worker's own name where it gave none.",
            _text(),
            "what a worker takes part in",
        ),
        "status": EventField("The state it is in now.", _text(enum=_STATES), _MOVES),
        "from": EventField(
            "The state it was in; null when it was created.", {"enum": [*_STATES, None]}, _MOVES
        ),
        "reason": EventField("Why, from a closed list.", _text(), "failures and cancellations"),
        "payloadDigest": EventField("SHA-256 of its payload.", _text(pattern=_DIGEST)),
        "artifacts": EventField(
            "What the event names of files.", {"type": "array", "items": _of(EventArtifact)}
        ),
        "error": EventField(
            "What the worker said: `class`, `message`, `retryable`, and `httpStatus`, `stack` "
            "where given; redacted.",
            {"type": "object", "required": ["class", "message"]},
            "`job.failed`",
            added=True,
        ),
        "progress": EventField(
            "How far it is: `percent` (0 to 100), `message`; redacted.",
            {"type": "object"},
            "`job.progressed`",
            added=True,
        ),
        "priority": EventField(
            "Its priority before and after: `from`, `to` (0 to 9).",
            {"type": "object", "required": ["from", "to"]},
            "`job.prioritized`",
            added=True,
        ),
    },
    EventArtifact: {
        "uri": EventField("Where it is.", _text(), "where given"),
        "digest": EventField("SHA-256 of its bytes.", _text(pattern=_DIGEST), "where given"),
        "mime": EventField("Its media type.", _text(), "where given"),
        "name": EventField("What the attempt calls it.", _text(), "where given", added=True),
    },
    EventMetrics: {
        "durationSeconds": EventField(
            "Seconds that the attempt ran.", _SECONDS, "ends of an attempt"
        ),
        "queueSeconds": EventField("Seconds that it was scheduled.", _SECONDS, "`job.started`"),
        "backoffSeconds": EventField(
            "Seconds until it may start again.", _SECONDS, "`job.retried`"
        ),
    },
    EventNotifier: {
        "channel": EventField("Always `ledger`.", _text()),
        "delivery": EventField("Always `at_least_once`.", _text()),
        "replay": EventField("Its place in what is delivered again.", _of(EventReplay)),
    },
    EventReplay: {
        "ordinal": EventField("From 1.", {"type": "integer", "minimum": 1}),
        "total": EventField("Of how many.", {"type": "integer", "minimum": 1}),
    },
}


def generate() -> str:
    """The published schema as JSON text, with a final newline."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema(*, closed: bool = False) -> dict[str, Any]:
    """`closed`: fields that are not described are refused."""
    kinds = {kind.__name__: _object(kind, closed=closed) for kind in FIELDS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:jobengine:schema:{SCHEMA_VERSION}",
        "title": SCHEMA_VERSION,
        **kinds.pop(EventEnvelope.__name__),
        "$defs": kinds,
    }


def components(prefix: str) -> dict[str, Any]:
    """The same as schemas beside each other, whose references begin with `prefix`."""
    text = json.dumps(schema()).replace("#/$defs/", prefix)
    whole = json.loads(text)
    parts: dict[str, Any] = whole.pop("$defs")
    del whole["$schema"], whole["$id"]
    return {**parts, EventEnvelope.__name__: whole}


def paths(
    kind: type[msgspec.Struct] = EventEnvelope, prefix: str = ""
) -> Iterator[tuple[str, EventField]]:
    """Every field with its path (`job.artifacts[].uri`), in the order in which people read them."""
    for name, field in FIELDS[kind].items():
        yield prefix + name, field
        inner = field.schema.get("items", field.schema).get("$ref")
        if inner is not None:
            (below,) = (one for one in FIELDS if _of(one)["$ref"] == inner)
            many = "[]" if "items" in field.schema else ""
            yield from paths(below, f"{prefix}{name}{many}.")


def _object(kind: type[msgspec.Struct], *, closed: bool) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if UnsetType not in get_args(hints[field.name])
    }
    described = FIELDS[kind]
    return {
        "type": "object",
        "properties": {name: _property(field) for name, field in described.items()},
        "required": [name for name in described if name in required],
        **({"additionalProperties": False} if closed else {}),
    }


def _property(field: EventField) -> dict[str, Any]:
    when = f" On {field.when}." if field.when else ""
    return {**field.schema, "description": field.about + when}
