"""Result rows to domain values. The order of columns here is that of the statements in ``sql/``.

Documents arrive as the bytes that were committed, ids as text, sequence numbers as lists.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import zstandard

from jobengine.domain.change import (
    ApiKeyRow,
    ArtifactRow,
    DeadLetterRow,
    IdempotencyRow,
    RevocationRow,
)
from jobengine.domain.entry import NO_DATA, Block
from jobengine.domain.job import Definition, Job, State
from jobengine.domain.redrive import Redrive, RedriveOrder
from jobengine.domain.stored_definitions import StoredDefinitions
from jobengine.store.port import LetterGroup, LetterGroups

__all__ = [
    "job_ids_of",
    "to_answer",
    "to_api_key",
    "to_artifact",
    "to_block",
    "to_credential",
    "to_dead_letter",
    "to_job",
    "to_letter_groups",
    "to_redrive",
]

_definition = msgspec.json.Decoder(Definition).decode
_order = msgspec.json.Decoder(RedriveOrder).decode
_is_job_id = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_states = {str(state): state for state in State}


def job_ids_of(texts: Iterable[str]) -> list[str]:
    """Those that are job ids in their one form; anything else names no job."""
    return [text for text in texts if _is_job_id(text)]


def to_job(row: Sequence[Any], definitions: StoredDefinitions | None = None) -> Job:
    """``definitions`` tells those that are alike."""
    (
        job_id, tenant_id, definition, payload, created_at, state, reason, attempt, failures,
        crashes, due_at, scheduled_at, started_at, finished_at, cancel_requested_at, cancel_reason,
        result, error, progress, seqs,
    ) = row  # fmt: skip
    like = None
    if definitions is None:
        decoded = _definition(definition)
    else:
        decoded, like = definitions.read(definition)
    return Job(
        job_id=job_id,
        tenant_id=tenant_id,
        definition=decoded,
        definition_json=definition,
        payload=payload,
        created_at=created_at,
        state=_states[state],
        reason=reason,
        attempt=attempt,
        failures=failures,
        crashes=crashes,
        due_at=due_at,
        scheduled_at=scheduled_at,
        started_at=started_at,
        finished_at=finished_at,
        cancel_requested_at=cancel_requested_at,
        cancel_reason=cancel_reason,
        result=result,
        error=error,
        progress=progress,
        seqs=tuple(seqs),
        like=like,
    )


def to_block(tenant_id: str, row: Sequence[Any]) -> Block:
    """Raises `zstandard.ZstdError` for a body that was damaged."""
    first_seq, last_seq, at, previous, link, body_bytes, stored = row
    body = zstandard.ZstdDecompressor().decompress(stored, max_output_size=body_bytes)
    return Block(
        tenant_id=tenant_id,
        first_seq=first_seq,
        last_seq=last_seq,
        at=at,
        previous=previous,
        link=link,
        body=body,
    )


def to_dead_letter(row: Sequence[Any]) -> DeadLetterRow:
    (
        tenant_id, dead_letter_id, job_id, state, replayed_as, job_type, queue, class_, signature,
        error, attempts, worker_id, at,
    ) = row  # fmt: skip
    return DeadLetterRow(
        tenant_id=tenant_id,
        dead_letter_id=dead_letter_id,
        job_id=job_id,
        state=state,
        replayed_as=replayed_as,
        job_type=job_type,
        queue=queue,
        class_=class_,
        signature=signature,
        error=NO_DATA if error is None else msgspec.Raw(error),
        attempts=attempts,
        worker_id=worker_id,
        at=at,
    )


def to_letter_groups(rows: Iterable[Sequence[Any]]) -> LetterGroups:
    """The rows of ``dead_letter_groups``; of 'all' there is one in any case."""
    groups: dict[str, list[LetterGroup]] = {}
    looked_at = 0
    for looked_at, dimension, *group in rows:  # noqa: B007 - the same in every row
        groups.setdefault(dimension, []).append(LetterGroup(*group))
    (everything,) = groups["all"]
    return LetterGroups(
        looked_at=looked_at,
        letters=everything.letters,
        open=everything.open,
        by_state=groups.get("state", []),
        by_class=groups.get("class", []),
        by_job_type=groups.get("job_type", []),
        by_queue=groups.get("queue", []),
        by_signature=groups.get("signature", []),
    )


def to_redrive(row: Sequence[Any]) -> Redrive:
    (
        tenant_id, redrive_id, order, state, replayed, failed, after_at, after_id, last_error,
        changed_at,
    ) = row  # fmt: skip
    return Redrive(
        tenant_id=tenant_id,
        redrive_id=redrive_id,
        order=_order(order),
        state=state,
        replayed=replayed,
        failed=failed,
        after=None if after_at is None else (after_at, after_id),
        last_error=last_error,
        changed_at=changed_at,
    )


def to_artifact(tenant_id: str, job_id: str, row: Sequence[Any]) -> ArtifactRow:
    attempt, name, uri, digest, mime, size_bytes, at = row
    return ArtifactRow(
        tenant_id=tenant_id,
        job_id=job_id,
        attempt=attempt,
        name=name,
        uri=uri,
        digest=digest,
        mime=mime,
        size_bytes=size_bytes,
        at=at,
    )


def to_answer(tenant_id: str, row: Sequence[Any]) -> IdempotencyRow:
    key, path, body_digest, answer, at = row
    return IdempotencyRow(
        tenant_id=tenant_id,
        key=key,
        path=path,
        body_digest=body_digest,
        answer=msgspec.Raw(answer),
        at=at,
    )


def to_api_key(row: Sequence[Any]) -> ApiKeyRow:
    (
        tenant_id, prefix, digest, label, scopes, created_at, created_by, expires_at, revoked_at,
        last_used_day_at,
    ) = row  # fmt: skip
    return ApiKeyRow(
        tenant_id=tenant_id,
        prefix=prefix,
        digest=digest,
        label=label,
        scopes=list(scopes),
        created_at=created_at,
        created_by=created_by,
        expires_at=expires_at,
        revoked_at=revoked_at,
        last_used_day_at=last_used_day_at,
    )


def to_credential(row: Sequence[Any]) -> ApiKeyRow | RevocationRow:
    """A row of ``credentials_after`` without its position; a revocation has no digest."""
    key = to_api_key(row)
    if key.digest is not None:
        return key
    return RevocationRow(
        tenant_id=key.tenant_id, token_id=key.prefix, until_at=key.expires_at, at=key.created_at
    )
