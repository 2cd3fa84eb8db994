"""From the wire's job to the domain's: the one translation in, for every door.

Checks what types cannot: canonical form of the payload and its size, instants within range. Takes
secrets out of what is kept of a job; of its payload, which a worker needs whole, only if asked to.

I1  A ``JobTranslator`` gives what ``new_job`` gives, byte for byte.
"""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs
import msgspec

from jobengine.domain.canonical import (
    EMPTY_OBJECT,
    NotCanonicalError,
    canonical,
    canonical_of,
    digest,
    names_nul,
)
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import AT_MAX, AT_MIN
from jobengine.domain.job import Backoff, Definition
from jobengine.domain.node import WORKERLESS_PREFIX
from jobengine.domain.records import NewJob
from jobengine.domain.redaction import Redactor
from jobengine.wire.fields import PAYLOAD_BYTES_MAX, raw_object
from jobengine.wire.jobs import JobRequest

__all__ = ["JobTranslator", "canonical_payload", "invalid_field", "new_job"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DEFAULT_BACKOFF = Backoff()
_STANDARD = Redactor()
_EMPTY_DIGEST = digest(EMPTY_OBJECT)
_NO_PAYLOAD = raw_object()
_SHAPES_MAX: Final = 8
_CORRELATION_ID = b'"correlationId":"'
_PAYLOAD_DIGEST = b'"payloadDigest":"'
# The fields of a definition stand sorted; what is left to sort are the names of its labels.
_encoder = msgspec.json.Encoder(order="deterministic")


def new_job(
    request: JobRequest,
    job_id: str,
    *,
    project_id: str = "",
    correlation_id: str = "",
    traceparent: str | None = None,
    redactor: Redactor = _STANDARD,
) -> NewJob:
    """The domain form of a request that has been decoded (and so type-checked) already.

    `project_id`, `correlation_id` and `traceparent` fill what the request leaves out.

    Raises:
        RefusedError: naming the field, when the job type is one of the engine's own, the job names
            dependencies, the payload has no canonical form or is too large, a string holds U+0000,
            or an instant lies outside the years 1970 to 9999.
    """
    if request.job_type.startswith(WORKERLESS_PREFIX):
        why = f"types that begin with {WORKERLESS_PREFIX} are the engine's own; choose another name"
        raise RefusedError(invalid_field("jobType", why))
    if request.depends_on:
        why = "a job of its own depends on nothing; begin a run of both jobs with POST /runs"
        raise RefusedError(invalid_field("dependsOn", why))
    payload = canonical_payload(bytes(request.payload), redactor)
    correlated = request.correlation_id or correlation_id
    definition = Definition(
        backoff=_backoff(request),
        concurrency_key=_key(redactor, request.concurrency_key),
        concurrency_limit=request.concurrency_limit,
        correlation_id=redactor.text(correlated) if correlated else job_id,
        cost=request.cost,
        expires_at=_instant(request.expires_at, "expiresAt"),
        hold=request.hold,
        job_type=request.job_type,
        labels=redactor.labels(request.labels),
        lease_us=request.lease_seconds * 1_000_000,
        max_retries=request.max_retries,
        network_intent=request.network_intent,
        not_before=_instant(request.not_before, "notBefore"),
        payload_digest=_EMPTY_DIGEST if payload is EMPTY_OBJECT else digest(payload),
        priority=request.priority,
        project_id=request.project_id or project_id,
        queue=request.queue or request.job_type,
        run_id=request.run_id,
        source_id=request.source_id,
        timeout_us=request.timeout_seconds and request.timeout_seconds * 1_000_000,
        traceparent=request.traceparent or traceparent,
        unique_key=_key(redactor, request.unique_key),
        unique_scope=request.unique_scope,
        unique_window_us=(request.window_seconds or 0) * 1_000_000,
    )
    definition_json = _encoder.encode(definition)
    if names_nul(definition_json):
        raise RefusedError(invalid_field("$", "holds the character U+0000; leave it out"))
    return NewJob(
        job_id=job_id, definition=definition, definition_json=definition_json, payload=payload
    )


@attrs.define(eq=False)
class _Shape:
    """A request without its payload, the definition made of it, and the constant parts of that
    one's JSON, which are cut out when a second request is like it."""

    request: JobRequest
    definition: Definition
    definition_json: bytes
    correlated: bool
    parts: tuple[bytes, bytes, bytes] | None = None

    def cut(self) -> tuple[bytes, bytes, bytes]:
        """What stands before the correlation id (empty when it is constant), between it and the
        digest of the payload, and behind that.

        A quotation mark within a string is escaped, so no string can look like a field, but a label
        can. The first name found is that of the correlation id and the last one that of the digest:
        labels stand between the two.
        """
        if self.parts is None:
            text, own = self.definition_json, self.definition.payload_digest
            digest_at = text.rindex(_PAYLOAD_DIGEST) + len(_PAYLOAD_DIGEST)
            behind = text[digest_at + len(own) :]
            start = end = 0
            if not self.correlated:
                start = text.index(_CORRELATION_ID) + len(_CORRELATION_ID)
                end = start + len(self.definition.correlation_id)
            self.parts = (text[:start], text[end:digest_at], behind)
        return self.parts


class JobTranslator:
    """``new_job`` for many requests with the same arguments.

    Jobs of one producer mostly differ in their payloads alone; of the last few kinds of requests
    the definition is kept, and only what hangs on the payload and the id is made anew. Job ids are
    plain ASCII.
    """

    __slots__ = ("_correlation_id", "_project_id", "_redactor", "_shapes", "_traceparent")

    def __init__(
        self,
        *,
        project_id: str = "",
        correlation_id: str = "",
        traceparent: str | None = None,
        redactor: Redactor = _STANDARD,
    ) -> None:
        self._project_id = project_id
        self._correlation_id = correlation_id
        self._traceparent = traceparent
        self._redactor = redactor
        self._shapes: deque[_Shape] = deque(maxlen=_SHAPES_MAX)

    def new_job(self, request: JobRequest, job_id: str) -> NewJob:
        """As the function; the request is the translator's from now on. Nodes of runs, which get
        their ids later, come with an empty one: all requests of a translator do, or none."""
        payload = request.payload
        request.payload = _NO_PAYLOAD
        for shape in self._shapes:
            if shape.request == request:
                return _like(shape, canonical_payload(bytes(payload), self._redactor), job_id)
        request.payload = payload
        new = new_job(
            request,
            job_id,
            project_id=self._project_id,
            correlation_id=self._correlation_id,
            traceparent=self._traceparent,
            redactor=self._redactor,
        )
        request.payload = _NO_PAYLOAD
        correlated = bool(request.correlation_id or self._correlation_id or not job_id)
        self._shapes.append(_Shape(request, new.definition, new.definition_json, correlated))
        return new


def _like(shape: _Shape, payload: bytes, job_id: str) -> NewJob:
    payload_digest = _EMPTY_DIGEST if payload is EMPTY_OBJECT else digest(payload)
    before, between, behind = shape.parts or shape.cut()
    if shape.correlated:
        definition = msgspec.structs.replace(shape.definition, payload_digest=payload_digest)
        text = b"".join((between, payload_digest.encode(), behind))
    else:
        definition = msgspec.structs.replace(
            shape.definition, correlation_id=job_id, payload_digest=payload_digest
        )
        text = b"".join((before, job_id.encode(), between, payload_digest.encode(), behind))
    return NewJob(job_id=job_id, definition=definition, definition_json=text, payload=payload)


def invalid_field(path: str, message: str) -> Refusal:
    """The refusal of one field, in the shape every door shows."""
    return Refusal(ErrorCode.INVALID_FIELD, f"{path}: {message}", {"path": path})


def _key(redactor: Redactor, key: str | None) -> str | None:
    return None if key is None else redactor.text(key)


def canonical_payload(raw: bytes, redactor: Redactor, path: str = "payload") -> bytes:
    """A payload as it is stored; ``path`` is its place. Raises `RefusedError` as `new_job` does."""
    if len(raw) > PAYLOAD_BYTES_MAX:
        raise RefusedError(
            Refusal(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"{path}: {len(raw)} bytes are more than {PAYLOAD_BYTES_MAX}; "
                "store it as an artifact and send its digest",
                {"path": path, "bytes": len(raw), "bytesMax": PAYLOAD_BYTES_MAX},
            )
        )
    try:
        if redactor.payloads and raw != EMPTY_OBJECT:
            return canonical_of(redactor.value(msgspec.json.decode(canonical(raw))))
        return canonical(raw)
    except NotCanonicalError as error:
        raise RefusedError(invalid_field(path, str(error))) from None


def _backoff(request: JobRequest) -> Backoff:
    wanted = request.backoff
    if wanted is None:
        return _DEFAULT_BACKOFF
    return Backoff(
        base_us=round(wanted.base_seconds * 1_000_000),
        jitter=wanted.jitter,
        kind=wanted.kind,
        max_us=round(wanted.max_seconds * 1_000_000),
    )


def _instant(value: datetime | None, field: str) -> int | None:
    if value is None:
        return None
    at = (value - _EPOCH) // _MICROSECOND
    if not AT_MIN <= at <= AT_MAX:
        raise RefusedError(invalid_field(field, "lies outside the years 1970 to 9999 (UTC)"))
    return at
