"""What of a worker's words can be stored, and how: canonical, bounded, without U+0000 or secrets.

Each function raises `RefusedError` naming the field at issue.
"""

from typing import Any, Final

import msgspec

from jobengine.domain.canonical import NotCanonicalError, canonical, canonical_of, names_nul
from jobengine.domain.change import ArtifactRow
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.ids import lease_parts
from jobengine.domain.redaction import Redactor
from jobengine.wire.fields import PAYLOAD_BYTES_MAX
from jobengine.wire.indexed import indexed
from jobengine.wire.jobs import ArtifactRef, ProgressNote
from jobengine.wire.translate import invalid_field
from jobengine.wire.worker_messages import ArtifactNote

__all__ = [
    "artifact_row",
    "check_storable",
    "storable_json",
    "storable_note",
    "storable_result",
    "within",
]

_encoder: Final = msgspec.json.Encoder(order="sorted")


def storable_result(raw: bytes, redactor: Redactor) -> bytes:
    if len(raw) > PAYLOAD_BYTES_MAX:
        raise RefusedError(
            invalid_field(
                "result",
                f"{len(raw)} bytes are more than {PAYLOAD_BYTES_MAX}; "
                "store it as an artifact and name that",
            )
        )
    try:
        if redactor.payloads:
            return canonical_of(redactor.value(msgspec.json.decode(canonical(raw))))
        return canonical(raw)
    except NotCanonicalError as error:
        raise RefusedError(invalid_field("result", str(error))) from None


def storable_json(value: Any, field: str) -> bytes:
    try:
        return canonical_of(value)
    except NotCanonicalError as error:
        raise RefusedError(invalid_field(field, str(error))) from None


def storable_note(note: ProgressNote, field: str, redactor: Redactor) -> bytes:
    return storable_json(redactor.value(msgspec.to_builtins(note)), field)


def check_storable(value: Any, field: str) -> None:
    """Refuse what PostgreSQL cannot hold: U+0000 and lone surrogates."""
    try:
        if not names_nul(_encoder.encode(value)):
            return
        why = "contains the character U+0000, which cannot be stored"
    except UnicodeEncodeError:
        why = "contains a lone surrogate, which is not a character"
    raise RefusedError(invalid_field(field, why))


def artifact_row(
    one: ArtifactRef | ArtifactNote,
    lease_id: str,
    tenant_id: str,
    now_at: int,
    field: str,
    redactor: Redactor,
) -> ArtifactRow:
    parts = lease_parts(lease_id)
    if parts is None:
        message = f"leaseId: {lease_id[:64]} names no lease of this engine"
        raise RefusedError(Refusal(ErrorCode.LEASE_LOST, message))
    row = ArtifactRow(
        tenant_id=tenant_id,
        job_id=parts[0],
        attempt=parts[1],
        name=redactor.text(one.name),
        uri=None if one.uri is None else redactor.text(one.uri),
        digest=one.digest,
        mime=one.mime,
        size_bytes=one.size_bytes,
        at=now_at,
    )
    check_storable(row, field)
    indexed(row.name, "name" if field == "$" else f"{field}.name")
    return row


def within(refusal: Refusal, root: str) -> Refusal:
    """The same refusal, naming its field from further out."""
    path = refusal.details.get("path", "")
    inner = "" if path in ("", "$") else f".{path}"
    return Refusal(
        refusal.code, f"{root}.{refusal.message}", {**refusal.details, "path": f"{root}{inner}"}
    )
