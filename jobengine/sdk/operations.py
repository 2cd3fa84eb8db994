"""What a client can ask of the REST interface, without doing any I/O.

Each operation is a generator: it yields what to do next (`Call` or `Pause`), is sent what came of
a call (`Answer` or `Unreachable`), and returns its result. `client` has one driver for blocking
and one for async use, so every decision below exists once.

Invariants
    I1  Every POST carries an Idempotency-Key, and every repetition carries the same one.
    I2  Only what is safe is repeated: connection errors, 429, 503, and answers that say when.

Sources: RFC 9110 §10.2.3 (Retry-After).
"""

import random
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import attrs
import msgspec

from jobengine.sdk.context import job_request
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

T = TypeVar("T")
BASE: Final = "/api/v1/jobengine"
RETRY_BASE_S: Final = 0.2
RETRY_MAX_S: Final = 30.0
CHUNK_BYTES_MAX: Final = 4 << 20
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


class Call(NamedTuple):
    """One HTTP request."""

    method: Literal["GET", "POST"]
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None


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

    def _operate(
        self, path: str, kind: type[T], reason: str | None, ticket: str | None
    ) -> Operation[T]:
        headers = {}
        if reason is not None:
            headers["X-Stella-Operator-Reason"] = reason
        if ticket is not None:
            headers["X-Stella-Operator-Ticket"] = ticket
        return (yield from self._post(path, kind, b"{}", headers=headers))

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
        for attempt in range(self.retries_max + 1):
            answer = yield call
            wait_s = random.random() * min(RETRY_MAX_S, RETRY_BASE_S * 2.0**attempt)
            if isinstance(answer, Unreachable):
                if attempt == self.retries_max:
                    raise answer.error
            elif isinstance(answer, Answer):
                if answer.http_status < 400:
                    return answer
                asked_s = retry_after_s(answer.headers, datetime.now(UTC))
                again = answer.http_status in (429, 503) or (
                    answer.http_status == 409 and asked_s is not None
                )
                if not again or attempt == self.retries_max:
                    raise error_of(answer)
                wait_s = wait_s if asked_s is None else asked_s + min(wait_s, 1.0)
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
