"""From the wire's job to the domain's: the one translation in, for every door.

Checks what types cannot: canonical form of the payload and its size, instants within range. Takes
secrets out of what is kept of a job; of its payload, which a worker needs whole, only if asked to.

I1  A ``JobTranslator`` gives what ``new_job`` gives, byte for byte, and says which jobs are alike.
"""

from collections import deque
from collections.abc import Callable, Sequence
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
from jobengine.domain.job import Backoff, Definition, Likeness
from jobengine.domain.node import WORKERLESS_PREFIX
from jobengine.domain.records import NewJob
from jobengine.domain.redaction import Redactor
from jobengine.wire.fields import PAYLOAD_BYTES_MAX
from jobengine.wire.indexed import indexed
from jobengine.wire.job_shape import NO_PAYLOAD, JobForm, MakeJob, job_form, job_maker
from jobengine.wire.jobs import JobRequest, decode_job_request
from jobengine.wire.refusal import Refusal as WireRefusal

__all__ = ["JobTranslator", "canonical_payload", "invalid_field", "new_job"]

ShowRefusal = Callable[[WireRefusal], Refusal]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DEFAULT_BACKOFF = Backoff()
_STANDARD = Redactor()
_EMPTY_DIGEST = digest(EMPTY_OBJECT)
_SHAPES_MAX: Final = 8
_NO_TEXT: Final = b"\xff"
"""No JSON begins so."""
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
            dependencies, the payload has no canonical form or is too large, the unique key is too
            long (`indexed`), a string holds U+0000, or an instant lies outside 1970 to 9999.
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
        concurrency_key=request.concurrency_key and redactor.text(request.concurrency_key),
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
        unique_key=request.unique_key and indexed(redactor.text(request.unique_key), "uniqueKey"),
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
    """A request without its payload, and how jobs like that of it are made."""

    request: JobRequest
    first: NewJob
    correlated: bool
    _maker: MakeJob | None = None

    def maker(self) -> MakeJob:
        """Made when a second request is like the first; most are like no other."""
        if self._maker is None:
            like = self.first.like
            assert like is not None
            self._maker = job_maker(self.first, like, correlated=self.correlated)
        return self._maker


def _refused(refusal: WireRefusal) -> Refusal:
    return Refusal(ErrorCode(refusal.code), refusal.message, {"path": refusal.path})


class JobTranslator:
    """``new_job`` for many requests with the same arguments.

    Jobs of one producer mostly differ in their payloads alone; of the last few kinds of requests
    the definition is kept, and only what hangs on the payload and the id is made anew. Such jobs
    have one ``like``. Job ids are plain ASCII.
    """

    __slots__ = ("_correlation_id", "_forms", "_project_id", "_redactor", "_shapes", "_traceparent")

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
        self._forms: deque[JobForm] = deque(maxlen=_SHAPES_MAX)

    def new_job(self, request: JobRequest, job_id: str) -> NewJob:
        """As the function; the request is the translator's from now on. Nodes of runs, which get
        their ids later, come with an empty one: all requests of a translator do, or none."""
        shape = self._shape_of(request)
        if shape is None:
            return self._first(request, job_id)
        payload = canonical_payload(bytes(request.payload), self._redactor)
        return shape.maker()(payload, job_id)

    def new_jobs(
        self,
        texts: Sequence[bytes],
        job_ids: Sequence[str],
        refused: ShowRefusal = _refused,
    ) -> list[NewJob | Refusal]:
        """The jobs of requests that come as JSON, or why there is none, each in its place.
        `refused` is how the door shows a text that is no request.

        A text that is like an earlier one but for its payload is not decoded, unless payloads are
        searched for secrets or it is a very large one.
        """
        jobs: list[NewJob | Refusal] = []
        add, searched = jobs.append, self._redactor.payloads
        make: MakeJob
        before = behind = _NO_TEXT
        start, end = 0, 0
        for text, job_id in zip(texts, job_ids, strict=True):
            if not (text.startswith(before) and text.endswith(behind)):
                form = self._form_of(text)
                if form is None:
                    add(self._read(text, job_id, refused))
                    continue
                before, behind, make = form
                start, end = len(before), -len(behind)
            if searched or len(text) > PAYLOAD_BYTES_MAX:
                add(self._read(text, job_id, refused))
                continue
            try:
                payload = canonical(text[start:end])
            except NotCanonicalError:
                add(self._read(text, job_id, refused))
            else:
                add(make(payload, job_id))
        return jobs

    def _form_of(self, text: bytes) -> JobForm | None:
        for form in self._forms:
            if text.startswith(form.before) and text.endswith(form.behind):
                return form
        return None

    def _read(self, text: bytes, job_id: str, refused: ShowRefusal) -> NewJob | Refusal:
        request = decode_job_request(text)
        if isinstance(request, WireRefusal):
            return refused(request)
        try:
            shape = self._shape_of(request)
            if shape is None:
                return self._first(request, job_id)
            payload = canonical_payload(bytes(request.payload), self._redactor)
        except RefusedError as error:
            return error.refusal
        make = shape.maker()
        if self._form_of(text) is None:
            form = job_form(text, request.payload, make)
            if form is not None:
                self._forms.appendleft(form)
        return make(payload, job_id)

    def _shape_of(self, request: JobRequest) -> _Shape | None:
        payload = request.payload
        request.payload = NO_PAYLOAD
        for shape in self._shapes:
            if shape.request == request:
                break
        else:
            shape = None
        request.payload = payload
        return shape

    def _first(self, request: JobRequest, job_id: str) -> NewJob:
        alone = new_job(
            request,
            job_id,
            project_id=self._project_id,
            correlation_id=self._correlation_id,
            traceparent=self._traceparent,
            redactor=self._redactor,
        )
        job = msgspec.structs.replace(alone, like=Likeness.of(alone.definition))
        request.payload = NO_PAYLOAD
        correlated = bool(request.correlation_id or self._correlation_id or not job_id)
        self._shapes.append(_Shape(request, job, correlated))
        return job


def invalid_field(path: str, message: str) -> Refusal:
    """The refusal of one field, in the shape every door shows."""
    return Refusal(ErrorCode.INVALID_FIELD, f"{path}: {message}", {"path": path})


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
