"""What a client can ask of the REST interface, without doing any I/O.

Each operation is a generator: it yields what to do next (`Call` or `Pause`), is sent what came of
a call (`Answer` or `Unreachable`), and returns its result. `client` has one driver for blocking
and one for async use, so every decision below exists once.

Invariants
    I1  Every POST carries an Idempotency-Key, and every repetition carries the same one; but for
        that of an artifact's bytes, which are stored once however often they are sent.
    I2  Only what is safe is repeated: connection errors, 429, 503, and answers that say when.

Sources: RFC 9110 §10.2.3 (Retry-After).
"""

import random
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from jobengine.sdk.artifacts import OCTETS, ArtifactDamaged, Upload, path_of
from jobengine.sdk.context import job_request
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import (
    BulkAnswer,
    DeadLetterView,
    ErrorEnvelope,
    HistoryItem,
    JobRequest,
    JobStateName,
    JobView,
    Page,
)
from jobengine.wire.operating import (
    DeadLetterStats,
    DeadLetterSummary,
    DrainRequest,
    PrioritizeRequest,
    RedriveFilter,
    RedriveRequest,
    RedriveView,
    WorkerView,
)

T = TypeVar("T")
BASE: Final = "/api/v1/jobengine"
RETRY_BASE_S: Final = 0.2
RETRY_MAX_S: Final = 30.0
CHUNK_BYTES_MAX: Final = 4 << 20
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


class Call(NamedTuple):
    """One HTTP request."""

    method: Literal["GET", "HEAD", "POST"]
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | Upload | None


class Pause(NamedTuple):
    """Wait before going on."""

    seconds: float


class Answer(NamedTuple):
    """What the server said; header names in lower case."""

    http_status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(NamedTuple):
    """No answer came."""

    error: Exception


Operation: TypeAlias = Generator[Call | Pause, Answer | Unreachable | None, T]


class ApiError(Exception):
    """The engine refused. `state` is the target's where that is why; `details` name fields."""

    def __init__(
        self,
        http_status: int,
        code: str,
        message: str,
        state: str | None = None,
        trace_id: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(f"{http_status} {code}: {message}")
        self.http_status = http_status
        self.code = code
        self.message = message
        self.state = state
        self.trace_id = trace_id
        self.details = details or []


def error_of(answer: Answer) -> ApiError:
    """The error an answer ≥ 400 carries, or one saying that it carries none."""
    try:
        body = msgspec.json.decode(answer.body, type=ErrorEnvelope).error
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        text = answer.body[:200].decode("utf-8", "replace")
        return ApiError(answer.http_status, "HTTP_ERROR", text or "no body")
    details = body.details or []
    state = body.state or next((str(d["state"]) for d in details if "state" in d), None)
    return ApiError(answer.http_status, body.code, body.message, state, body.trace_id, details)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds a Retry-After header asks for, in either of its forms; None without one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def is_final(job: JobView) -> bool:
    """Whether the job has ended: an attempt that is retried never shows as ``failed``."""
    return job.state in ("completed", "cancelled", "failed")


@attrs.frozen
class Operations:
    """The operations, with what all of their requests share. Paths: see `docs`, REST contract."""

    headers: Mapping[str, str]
    retries_max: int

    def submit(
        self,
        /,
        job_type: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Operation[JobView]:
        """Create one job; `fields` are JobRequest's. A repeated key answers the same job."""
        request = job_request(job_type, payload, **fields)
        body = msgspec.json.encode(request)
        return (yield from self._post("/jobs", JobView, body, key=idempotency_key))

    def submit_many(
        self,
        requests: Iterable[JobRequest],
        *,
        chunk: int = 1000,
        idempotency_key: str | None = None,
    ) -> Operation[BulkAnswer]:
        """Create many jobs, at most `chunk` a commit; outcomes are in the order given.

        Chunks are committed one by one: after an error, repeat it with the same key and jobs.
        """
        key = idempotency_key or uuid.uuid4().hex
        total = BulkAnswer([], 0, 0, 0)
        for number, lines in enumerate(_chunks(requests, chunk)):
            answer = yield from self._post(
                "/jobs:bulk", BulkAnswer, b"\n".join(lines), key=f"{key}-{number}", media=NDJSON
            )
            offset = len(total.items)
            for position, item in enumerate(answer.items):
                item.index = offset + position
            total.items.extend(answer.items)
            total.created += answer.created
            total.existing += answer.existing
            total.rejected += answer.rejected
        return total

    def get(self, job_id: str) -> Operation[JobView]:
        """One job as it is now."""
        return (yield from self._get(f"/jobs/{job_id}", JobView))

    def history(self, job_id: str) -> Operation[list[HistoryItem]]:
        """All transitions of a job, oldest first."""
        items: list[HistoryItem] = []
        query: dict[str, str] = {}
        while True:
            page = yield from self._get(f"/jobs/{job_id}/history", Page[HistoryItem], query)
            items.extend(page.items)
            if page.next_page_token is None:
                return items
            query["pageToken"] = page.next_page_token

    def jobs_page(
        self,
        *,
        state: JobStateName | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        run_id: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[JobView]]:
        """One page of jobs, filtered."""
        query = _query(
            state=state,
            jobType=job_type,
            queue=queue,
            runId=run_id,
            pageSize=page_size,
            pageToken=page_token,
        )
        return (yield from self._get("/jobs", Page[JobView], query))

    def dead_letters_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[DeadLetterView]]:
        """One page of dead letters."""
        query = _query(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/deadletter", Page[DeadLetterView], query))

    def cancel(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Cancel a job; a running one is `running` until its worker has confirmed."""
        return (yield from self._operate(f"/jobs/{job_id}:cancel", JobView, reason, ticket))

    def retry(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Schedule a failed job again, in place."""
        return (yield from self._operate(f"/jobs/{job_id}:retry", JobView, reason, ticket))

    def replay(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Create a new job from a finished one; answers the new job."""
        return (yield from self._operate(f"/jobs/{job_id}:replay", JobView, reason, ticket))

    def release(
        self, job_id: str, *, reason: str | None = None, ticket: str | None = None
    ) -> Operation[JobView]:
        """Release a job that was created held."""
        return (yield from self._operate(f"/jobs/{job_id}:release", JobView, reason, ticket))

    def prioritize(
        self, job_id: str, priority: int, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Give a waiting job another priority; 9 goes first."""
        path, body = f"/jobs/{job_id}:prioritize", PrioritizeRequest(priority)
        return (yield from self._operate(path, JobView, reason, ticket, body))

    def replay_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Create a new job from a dead letter; answers the new job."""
        path = f"/deadletter/{dead_letter_id}:replay"
        return (yield from self._operate(path, JobView, reason, ticket))

    def dead_letter(self, dead_letter_id: str) -> Operation[DeadLetterView]:
        """One dead letter as it is now."""
        return (yield from self._get(f"/deadletter/{dead_letter_id}", DeadLetterView))

    def retry_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Schedule the failed job itself again; answers that job."""
        path = f"/deadletter/{dead_letter_id}:retry"
        return (yield from self._operate(path, JobView, reason, ticket))

    def discard_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[DeadLetterView]:
        """Close a dead letter and run nothing."""
        path = f"/deadletter/{dead_letter_id}:discard"
        return (yield from self._operate(path, DeadLetterView, reason, ticket))

    def dead_letter_stats(self) -> Operation[DeadLetterStats]:
        """Dead letters counted by state, class, job type, queue and error signature."""
        return (yield from self._get("/deadletter/stats", DeadLetterStats))

    def dead_letter_summary(
        self,
        *,
        job_type: str | None = None,
        queue: str | None = None,
        class_: str | None = None,
        signature: str | None = None,
        top: int | None = None,
    ) -> Operation[DeadLetterSummary]:
        """The commonest signatures of open dead letters: what a redrive of them would replay."""
        query = _query(
            jobType=job_type, queue=queue, signature=signature, top=top, **{"class": class_}
        )
        return (yield from self._get("/deadletter/summary", DeadLetterSummary, query))

    def redrive(
        self,
        *,
        reason: str,
        ticket: str,
        job_type: str | None = None,
        queue: str | None = None,
        class_: str | None = None,
        signature: str | None = None,
        per_second: float = 10.0,
        letters_max: int | None = None,
    ) -> Operation[RedriveView]:
        """Begin to replay the open dead letters that match, all of them without a filter."""
        wanted = RedriveFilter(job_type=job_type, queue=queue, class_=class_, signature=signature)
        body = RedriveRequest(filter=wanted, per_second=per_second, max=letters_max)
        path = "/deadletter:redrive"
        return (yield from self._operate(path, RedriveView, reason, ticket, body))

    def redrives_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[RedriveView]]:
        """One page of redrives, newest first."""
        query = _query(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/deadletter/redrives", Page[RedriveView], query))

    def redrive_state(self, redrive_id: str) -> Operation[RedriveView]:
        """How far a redrive has come."""
        return (yield from self._get(f"/deadletter/redrives/{redrive_id}", RedriveView))

    def pause_redrive(self, redrive_id: str, *, reason: str, ticket: str) -> Operation[RedriveView]:
        """Let a redrive rest."""
        path = f"/deadletter/redrives/{redrive_id}:pause"
        return (yield from self._operate(path, RedriveView, reason, ticket))

    def resume_redrive(
        self, redrive_id: str, *, reason: str, ticket: str
    ) -> Operation[RedriveView]:
        """Let a paused redrive go on."""
        path = f"/deadletter/redrives/{redrive_id}:resume"
        return (yield from self._operate(path, RedriveView, reason, ticket))

    def stop_redrive(self, redrive_id: str, *, reason: str, ticket: str) -> Operation[RedriveView]:
        """End a redrive for good; what it has replayed stays."""
        path = f"/deadletter/redrives/{redrive_id}:stop"
        return (yield from self._operate(path, RedriveView, reason, ticket))

    def workers_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[WorkerView]]:
        """One page of the workers that are attached, by id."""
        query = _query(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/workers", Page[WorkerView], query))

    def worker(self, worker_id: str) -> Operation[WorkerView]:
        """One attached worker."""
        return (yield from self._get(f"/workers/{quote(worker_id, safe='')}", WorkerView))

    def drain_worker(
        self, worker_id: str, *, reason: str, ticket: str, within_s: int = 300
    ) -> Operation[WorkerView]:
        """Grant a worker no more leases, and tell it to end what it holds by then."""
        path, body = f"/workers/{quote(worker_id, safe='')}:drain", DrainRequest(within_s)
        return (yield from self._operate(path, WorkerView, reason, ticket, body))

    def upload_artifact(self, upload: Upload) -> Operation[StoredArtifact]:
        """Store the bytes of an upload, under the digest that it has."""
        sent = {**self.headers, **upload.headers()}
        answer = yield from self._exchange(Call("POST", BASE + "/artifacts", {}, sent, upload))
        stored = msgspec.json.decode(answer.body, type=StoredArtifact)
        if stored.digest != upload.digest:
            raise ArtifactDamaged(f"{upload.digest} was stored as {stored.digest}")
        return stored

    def artifact(self, digest: str) -> Operation[StoredArtifact]:
        """What there is under a digest, without its bytes."""
        call = Call("HEAD", path_of(digest), {}, self.headers, None)
        try:
            answer = yield from self._exchange(call)
        except ApiError as error:
            if error.http_status != 404:
                raise
            # The answer to HEAD has no body to say it with.
            message = "the tenant has no artifact with this digest"
            raise ApiError(404, "NOT_FOUND", message, trace_id=error.trace_id) from None
        found = answer.headers.get("etag", "").strip('"')
        return StoredArtifact(
            digest=found,
            size_bytes=int(answer.headers.get("content-length", "0")),
            mime=answer.headers.get("content-type", OCTETS),
            uri=path_of(found),
        )

    def waits(self) -> Iterator[float | None]:
        """How long to wait after each attempt, in seconds; None after the last one."""
        for attempt in range(self.retries_max):
            yield random.random() * min(RETRY_MAX_S, RETRY_BASE_S * 2.0**attempt)
        yield None

    def _operate(
        self,
        path: str,
        kind: type[T],
        reason: str | None,
        ticket: str | None,
        body: msgspec.Struct | None = None,
    ) -> Operation[T]:
        headers = {}
        if reason is not None:
            headers["X-Stella-Operator-Reason"] = reason
        if ticket is not None:
            headers["X-Stella-Operator-Ticket"] = ticket
        sent = b"{}" if body is None else msgspec.json.encode(body)
        return (yield from self._post(path, kind, sent, headers=headers))

    def _get(
        self, path: str, kind: type[T], query: Mapping[str, str] | None = None
    ) -> Operation[T]:
        call = Call("GET", BASE + path, dict(query or {}), self.headers, None)
        answer = yield from self._exchange(call)
        return msgspec.json.decode(answer.body, type=kind)

    def _post(
        self,
        path: str,
        kind: type[T],
        body: bytes,
        *,
        key: str | None = None,
        media: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> Operation[T]:
        sent = {
            **self.headers,
            **(headers or {}),
            "Content-Type": media,
            "Idempotency-Key": key or uuid.uuid4().hex,
        }
        answer = yield from self._exchange(Call("POST", BASE + path, {}, sent, body))
        return msgspec.json.decode(answer.body, type=kind)

    def _exchange(self, call: Call) -> Operation[Answer]:
        """Call until there is an answer worth having (I2)."""
        for wait_s in self.waits():
            answer = yield call
            if isinstance(answer, Unreachable):
                if wait_s is None:
                    raise answer.error
            elif isinstance(answer, Answer):
                if answer.http_status < 400:
                    return answer
                asked_s = retry_after_s(answer.headers, datetime.now(UTC))
                again = answer.http_status in (429, 503) or (
                    answer.http_status == 409 and asked_s is not None
                )
                if not again or wait_s is None:
                    raise error_of(answer)
                wait_s = wait_s if asked_s is None else asked_s + min(wait_s, 1.0)
            assert wait_s is not None
            yield Pause(wait_s)
        raise AssertionError("the last attempt returns or raises")


def _chunks(requests: Iterable[JobRequest], count_max: int) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    size_bytes = 0
    for request in requests:
        line = msgspec.json.encode(request)
        if lines and (len(lines) >= count_max or size_bytes + len(line) > CHUNK_BYTES_MAX):
            yield lines
            lines, size_bytes = [], 0
        lines.append(line)
        size_bytes += len(line) + 1
    if lines:
        yield lines


def _query(**values: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}
