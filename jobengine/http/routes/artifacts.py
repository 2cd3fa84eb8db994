"""The bytes of artifacts: taken in and given out in chunks, addressed by their SHA-256.

I1  A transfer holds one chunk in memory, whatever the size, and no connection to the database
    between two chunks. How many are under way is bounded, also of one tenant.
I2  An upload that is refused, cut or given up leaves nothing; where the database is away at that
    moment, the custodian's sweep finds the rest.
I3  The last chunk of a whole download is sent only when all bytes have the digest asked for, so
    that nobody takes damaged ones for good.

Not here: digests and ranges in headers (`representation`), how a body arrives (`bodies`), how many
transfers there may be (`transfers`).
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.answer import Answer, StreamAnswer
from jobengine.http.rendering import json_answer
from jobengine.http.representation import (
    ByteRange,
    content_range,
    etag_of,
    expected_digest,
    is_unmodified,
    range_asked,
    repr_digest,
)
from jobengine.http.route import BASE, Call, NoQuery, OctetBody, Route
from jobengine.messages.lease_shard import AdministerAnswer, AdministerTenant
from jobengine.store.artifacts import CHUNK_BYTES, ArtifactContent, UploadGoneError
from jobengine.store.errors import StoreUnavailableError
from jobengine.wire.artifacts import StoredArtifact

__all__ = ["ROUTES"]

_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_DISCARD_S_MAX: Final = 5.0


async def store_artifact(call: Call[NoQuery, OctetBody]) -> Answer:
    expected = expected_digest(call.headers)
    with call.front.transfers.one_of(call.tenant_id), _gone_as_refusal():
        _require_room(call, call.body.length or 0)
        at = call.front.gateway.clock.moment().at
        content_id = call.front.gateway.dice.uuid7(at)
        try:
            received = await _receive(call, content_id)
            if expected is not None and received.digest != expected:
                raise _mismatch(expected, received.digest)
            return await _keep(call, content_id, received)
        except BaseException:
            await _discard(call, content_id)
            raise


async def get_artifact(call: Call[NoQuery, None]) -> Answer | StreamAnswer:
    match = _DIGEST.fullmatch(call.path["digest"])
    digest = f"sha256:{match[1]}" if match else ""
    content = await call.front.gateway.store.artifact_content(call.tenant_id, digest)
    if content is None:
        message = "the tenant has no artifact with this digest"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "digest"}))
    # Shown only to who may see it now: a cache asks each time.
    headers = {"ETag": etag_of(digest), "Cache-Control": "private, no-cache"}
    if is_unmodified(call.headers, digest):
        return Answer(b"", 304, headers=headers, media_type=content.mime)
    wanted = range_asked(call.headers, digest, content.size_bytes)
    whole = ByteRange(0, content.size_bytes)
    first, end = wanted or whole
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{digest.removeprefix("sha256:")}"',
        "Content-Length": str(end - first),
        "Repr-Digest": repr_digest(digest),
    }
    if wanted is not None:
        headers["Content-Range"] = content_range(wanted, content.size_bytes)
    # The body begins too late for a refusal to be an answer.
    call.front.transfers.require_free(call.tenant_id)
    opened = partial(_opened, call, content, wanted or whole)
    status = 200 if wanted is None else 206
    return StreamAnswer(opened, content.mime, headers=headers, status=status)


async def _receive(call: Call[NoQuery, OctetBody], content_id: str) -> StoredArtifact:
    """Store the body's chunks under an upload, and say what they are together."""
    front, body = call.front, call.body
    store, clock, limits = front.gateway.store, front.gateway.clock, front.limits
    await store.begin_artifact(call.tenant_id, content_id, body.media_type, clock.moment().at)
    found, size_bytes, number = hashlib.sha256(), 0, 0
    while chunk := await body.read(CHUNK_BYTES):
        found.update(chunk)
        size_bytes += len(chunk)
        if size_bytes > limits.artifact_bytes_max:
            raise _too_large(limits.artifact_bytes_max)
        has_room = await store.put_artifact_chunk(
            call.tenant_id,
            content_id,
            number,
            chunk,
            limits.tenant_artifact_bytes_max,
            clock.moment().at,
        )
        if not has_room:
            raise _no_room(limits.tenant_artifact_bytes_max)
        number += 1
    return _stored(f"sha256:{found.hexdigest()}", size_bytes, body.media_type)


async def _keep(
    call: Call[NoQuery, OctetBody], content_id: str, received: StoredArtifact
) -> Answer:
    """Finish an upload. New bytes get an entry in the ledger first; the same again change nothing,
    but for an answer that is kept for its key."""
    store, now_at = call.front.gateway.store, call.front.gateway.clock.moment().at
    shown = received
    if existing := await store.artifact_content(call.tenant_id, received.digest):
        shown = _stored(existing.digest, existing.size_bytes, existing.mime)
    noted = AdministerAnswer()
    if existing is None or call.claim is not None:
        noted = await _note(call, shown)
    _, is_new = await store.finish_artifact(call.tenant_id, content_id, received.digest, now_at)
    if noted.stored is not None:
        shown = msgspec.json.decode(noted.stored, type=StoredArtifact)
    return json_answer(
        shown,
        201 if is_new and not noted.replayed else 200,
        replayed=noted.replayed,
        Location=shown.uri,
    )


async def _note(call: Call[NoQuery, OctetBody], shown: StoredArtifact) -> AdministerAnswer:
    claim = call.claim
    if claim is not None:
        # What was asked is the bytes, which are known only now.
        told = hashlib.sha256(f"{claim.body_digest} {shown.digest}".encode()).hexdigest()
        claim = msgspec.structs.replace(claim, body_digest=told)
    entry = {"digest": shown.digest, "mime": shown.mime, "sizeBytes": shown.size_bytes}
    return await call.front.gateway.administer(
        call.tenant_id,
        lambda ask_id: AdministerTenant(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            kind="artifact.stored",
            data=canonical_of(entry),
            facts=msgspec.json.encode(shown),
            claim=claim,
        ),
    )


async def _discard(call: Call[NoQuery, OctetBody], content_id: str) -> None:
    with trio.move_on_after(_DISCARD_S_MAX, shield=True):
        try:
            await call.front.gateway.store.discard_artifact(call.tenant_id, content_id)
        except StoreUnavailableError:
            return


@asynccontextmanager
async def _opened(
    call: Call[NoQuery, None], content: ArtifactContent, wanted: ByteRange
) -> AsyncIterator[AsyncIterator[bytes]]:
    with call.front.transfers.one_of(call.tenant_id):
        yield _chunks(call, content, wanted)


async def _chunks(
    call: Call[NoQuery, None], content: ArtifactContent, wanted: ByteRange
) -> AsyncIterator[bytes]:
    """The bytes wanted, chunk by chunk. What is wrong with them ends it early, which the client
    sees by their number."""
    is_whole = wanted == (0, content.size_bytes)
    found = hashlib.sha256()
    position = wanted.first
    while position < wanted.end:
        number, offset = divmod(position, CHUNK_BYTES)
        chunk = await call.front.gateway.store.artifact_chunk(
            call.tenant_id, content.content_id, number
        )
        if chunk is None:
            raise _DamagedError(f"chunk {number} of {content.digest} is not there")
        found.update(chunk)
        part = chunk[offset : offset + wanted.end - position]
        position += len(part)
        if not part or (
            is_whole and position == wanted.end and found.hexdigest() != content.digest[7:]
        ):
            raise _DamagedError(f"the bytes of {content.digest} are not those that were stored")
        yield part


class _DamagedError(Exception):
    """What is stored does not have its digest, or was swept while it was read."""


@contextmanager
def _gone_as_refusal() -> Iterator[None]:
    try:
        yield
    except UploadGoneError:
        message = "the upload took too long and was given up; send it again"
        raise RefusedError(Refusal(ErrorCode.OVERLOADED, message)) from None


def _require_room(call: Call[NoQuery, OctetBody], size_bytes: int) -> None:
    if size_bytes > call.front.limits.artifact_bytes_max:
        raise _too_large(call.front.limits.artifact_bytes_max)


def _too_large(bytes_max: int) -> RefusedError:
    message = f"an artifact is at most {bytes_max} bytes (artifact_bytes_max)"
    return RefusedError(Refusal(ErrorCode.PAYLOAD_TOO_LARGE, message, {"bytesMax": bytes_max}))


def _no_room(bytes_max: int) -> RefusedError:
    message = (
        f"the tenant's artifacts would be more than {bytes_max} bytes (tenant_artifact_bytes_max)"
    )
    return RefusedError(
        Refusal(ErrorCode.ARTIFACT_QUOTA_EXCEEDED, message, {"bytesMax": bytes_max})
    )


def _mismatch(expected: str, found: str) -> RefusedError:
    return RefusedError(
        Refusal(
            ErrorCode.DIGEST_MISMATCH,
            f"the bytes have the digest {found}, not {expected} as was said",
            {"path": "Content-Digest", "expected": expected, "found": found},
        )
    )


def _stored(digest: str, size_bytes: int, mime: str) -> StoredArtifact:
    uri = f"{BASE}/artifacts/{digest}"
    return StoredArtifact(digest=digest, size_bytes=size_bytes, mime=mime, uri=uri)


ROUTES: Final = (
    Route(
        method="POST",
        path="/artifacts",
        name="storeArtifact",
        summary="Store bytes under their SHA-256; the same bytes again are kept once",
        handler=store_artifact,
        scopes=(Scope.SUBMIT, Scope.WORK),
        body=bytes,
        consumes=("*/*",),
        headers=("Content-Digest", "Repr-Digest"),
        answers={201: StoredArtifact, 200: StoredArtifact},
        creates_work=True,
        location=True,
        errors=(ErrorCode.DIGEST_MISMATCH, ErrorCode.ARTIFACT_QUOTA_EXCEEDED),
    ),
    Route(
        method="GET",
        path="/artifacts/{digest}",
        name="getArtifact",
        summary="Read an artifact, whole or one range of it; HEAD says what there is",
        handler=get_artifact,
        scopes=(Scope.READ, Scope.WORK),
        headers=("Range", "If-Range", "If-None-Match"),
        answers={200: bytes, 206: bytes, 304: None},
        answer_headers=("ETag", "Repr-Digest"),
        media_type="*/*",
        errors=(ErrorCode.NOT_FOUND, ErrorCode.RANGE_NOT_SATISFIABLE),
    ),
)
