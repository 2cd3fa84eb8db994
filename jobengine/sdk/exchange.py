"""One exchange with the REST interface, without doing any I/O: what to send, what an answer means.

An operation is a generator: it yields what to do next (`Call` or `Pause`), is sent what came of a
call (`Answer` or `Unreachable`), and returns its result.

Invariants
    I1  Every POST carries an Idempotency-Key, and every repetition carries the same one; but for
        that of an artifact's bytes, which are stored once however often they are sent.
    I2  Only what is safe is repeated: connection errors, 429, 503, and answers that say when.

Not here: which operations there are (`operations`), who drives them (`blocking`, `awaiting`).
Sources: RFC 9110 §10.2.3 (Retry-After).
"""

import random
import re
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from jobengine.sdk.artifacts import Upload
from jobengine.wire.jobs import ErrorEnvelope

__all__ = [
    "BASE",
    "NDJSON",
    "Answer",
    "ApiError",
    "Call",
    "Exchange",
    "Operation",
    "Pause",
    "Unreachable",
    "error_of",
    "forced",
    "listed",
    "member",
    "named",
    "query_of",
    "retry_after_s",
    "signed",
]

T = TypeVar("T")
BASE: Final = "/api/v1/jobengine"
RETRY_BASE_S: Final = 0.2
RETRY_MAX_S: Final = 30.0
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_is_id: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*").fullmatch


class Call(NamedTuple):
    """One HTTP request."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
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
        wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return max(0.0, wait_s)


def query_of(**values: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def listed(values: str | Iterable[str] | None) -> str | None:
    """A list as one parameter of a query, None for none; one value may stand for itself."""
    return values if values is None or isinstance(values, str) else ",".join(values) or None


def forced(force: bool) -> dict[str, str]:
    """The query that takes away also what is in use."""
    return {"force": "true"} if force else {}


def named(group: str, name: str) -> str:
    """The path of one member of a group."""
    return f"/{group}/{quote(name, safe='')}"


def member(group: str, kind: str, identity: str) -> str:
    """The path of what has an id of the engine's making. What cannot be such an id is what the
    engine does not know: raises `ApiError` (404) as it would, and asks nothing."""
    if _is_id(identity) is None:
        raise ApiError(404, "NOT_FOUND", f"no {kind} {identity[:64]!r} here")
    return f"/{group}/{identity}"


def signed(reason: str | None, ticket: str | None, revision: int | None = None) -> dict[str, str]:
    """The headers of an act: why, by which ticket, and the revision it was decided from."""
    headers = {}
    if reason is not None:
        headers["X-Stella-Operator-Reason"] = reason
    if ticket is not None:
        headers["X-Stella-Operator-Ticket"] = ticket
    if revision is not None:
        headers["If-Match"] = f'"{revision}"'
    return headers


@attrs.frozen
class Exchange:
    """What all requests of a client share; the operations stand on it."""

    headers: Mapping[str, str]
    retries_max: int

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
        sent = b"{}" if body is None else msgspec.json.encode(body)
        return (yield from self._post(path, kind, sent, headers=signed(reason, ticket)))

    def _change(
        self,
        method: Literal["PUT", "PATCH", "DELETE"],
        path: str,
        kind: type[T],
        headers: Mapping[str, str],
        body: msgspec.Struct | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Operation[T]:
        """What may be sent twice without a key: it has the same effect."""
        sent = {**self.headers, **headers}
        data = None
        if body is not None:
            sent["Content-Type"] = JSON
            data = msgspec.json.encode(body)
        answer = yield from self._exchange(Call(method, BASE + path, query or {}, sent, data))
        return msgspec.json.decode(answer.body, type=kind)

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
