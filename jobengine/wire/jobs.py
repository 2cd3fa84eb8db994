"""Shapes of jobs shared by REST, bus and worker protocol.

Invariants
    I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
    I2  A payload is carried as raw JSON and never parsed here.
    I3  A list of requests is judged item by item: one bad item never spoils its neighbours.

Deliberately not here: the byte limit of a payload (`fields.PAYLOAD_BYTES_MAX`, applied by the
receiving door, which knows the tenant) and every check that needs stored state.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from jobengine.wire.array_items import ITEMS_MAX
from jobengine.wire.fields import (
    INT64_MAX,
    AwareInstant,
    HttpStatus,
    Id,
    Instant,
    Key,
    Labels,
    LongText,
    Name,
    Seconds,
    Text,
    Traceparent,
    raw_object,
)
from jobengine.wire.refusal import Refusal, refusal_of

JobStateName = Literal["pending", "scheduled", "running", "completed", "failed", "cancelled"]
DeadLetterStateName = Literal["open", "replayed", "retried", "discarded"]
BULK_ITEMS_MAX: Final = ITEMS_MAX


class Backoff(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Retry delay: min(max, base·2^(failures−1)), base·failures or base, jittered."""

    kind: Literal["exponential", "linear", "fixed"] = "exponential"
    base_seconds: Seconds = 1.0
    max_seconds: Seconds = 300.0
    jitter: Literal["full", "none"] = "full"


class JobRequest(
    msgspec.Struct,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,
):
    """What a producer may say about a job. `queue` absent means the job type."""

    job_type: Name
    project_id: Key | None = None
    queue: Name | None = None
    payload: msgspec.Raw = msgspec.field(default_factory=raw_object)
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 5
    hold: bool = False
    not_before: AwareInstant | None = None
    expires_at: AwareInstant | None = None
    depends_on: Annotated[list[Id], msgspec.Meta(max_length=1000)] = []
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    backoff: Backoff | None = None
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=604_800)] | None = None
    lease_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    unique_key: Key | None = None
    unique_scope: Literal["active", "window"] = "active"
    window_seconds: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] | None = None
    concurrency_key: Key | None = None
    concurrency_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    cost: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    labels: Labels = {}
    correlation_id: Key | None = None
    traceparent: Traceparent | None = None
    network_intent: Literal["local", "egress"] = "local"
    source_id: Name | None = None
    run_id: Id | None = None

    def __post_init__(self) -> None:
        if self.unique_scope == "window" and self.window_seconds is None:
            raise ValueError("uniqueScope `window` needs windowSeconds")
        if self.window_seconds is not None and self.unique_scope != "window":
            raise ValueError("windowSeconds needs uniqueScope `window`")
        if self.unique_scope == "window" and self.unique_key is None:
            raise ValueError("uniqueScope `window` needs uniqueKey")
        if (self.concurrency_key is None) != (self.concurrency_limit is None):
            raise ValueError("concurrencyKey and concurrencyLimit go together")
        if (
            self.not_before is not None
            and self.expires_at is not None
            and self.expires_at <= self.not_before
        ):
            raise ValueError("expiresAt must be after notBefore")


class JobFailure(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Why an attempt failed, as the worker saw it. `class_` groups; `message` is for people."""

    class_: Key = msgspec.field(name="class")
    message: LongText
    retryable: bool = True
    http_status: HttpStatus | None = None
    stack: Annotated[str, msgspec.Meta(max_length=65_536)] | None = None


class ArtifactRef(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A file an attempt produced, named by a location, a `sha256:` digest, or both. `name` has at
    most 1,024 bytes in UTF-8."""

    uri: Annotated[str, msgspec.Meta(max_length=2048)] | None = None
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")] | None = None
    mime: Annotated[str, msgspec.Meta(max_length=255)] = "application/octet-stream"
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] = 0
    name: Text = ""

    def __post_init__(self) -> None:
        if self.uri is None and self.digest is None:
            raise ValueError("an artifact needs uri or digest")


class ProgressNote(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """How far an attempt is: percent 0–100, a line for people, or both."""

    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    message: Text | None = None


class JobView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The REST answer of one job. `run_key` is its key among the nodes of the run."""

    job_id: str
    tenant_id: str
    project_id: str | None = None
    job_type: str
    queue: str
    run_id: str | None = None
    run_key: str | None = None
    source_id: str | None = None
    payload: msgspec.Raw = msgspec.field(default_factory=raw_object)
    payload_digest: str
    priority: int
    hold: bool = False
    not_before: Instant | None = None
    expires_at: Instant | None = None
    depends_on: list[str] = []
    max_retries: int
    backoff: Backoff
    timeout_seconds: int | None = None
    lease_seconds: int
    unique_key: str | None = None
    unique_scope: Literal["active", "window"] | None = None
    window_seconds: int | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    cost: int
    labels: dict[str, str]
    correlation_id: str
    traceparent: str | None = None
    network_intent: Literal["local", "egress"]
    attempt: int
    failures: int
    crashes: int
    state: JobStateName
    reason: str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: JobFailure | None = None
    progress: ProgressNote | None = None
    replay_of: str | None = None
    cancel_requested_at: Instant | None = None
    created_at: Instant
    scheduled_at: Instant | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None


class HistoryItem(msgspec.Struct, rename="camel", kw_only=True):
    """One transition. `from_` is None for the creation; `seq` is the tenant's ledger position.
    `reason` is one of a closed list; `reason_given` and `ticket` are the words of who asked."""

    seq: int
    from_: JobStateName | None = msgspec.field(name="from")
    to: JobStateName
    at: Instant
    attempt: int
    actor: str
    reason: str | None = None
    reason_given: str | None = None
    ticket: str | None = None
    lease_id: str | None = None
    worker_id: str | None = None
    error: JobFailure | None = None


class DeadLetterView(msgspec.Struct, rename="camel", kw_only=True):
    """One dead letter as listed."""

    dead_letter_id: str
    job_id: str
    job_type: str
    queue: str
    class_: str = msgspec.field(name="class")
    signature: str
    error: JobFailure
    attempts: int
    at: Instant
    state: DeadLetterStateName


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """`state` is the state of the target where that is why a request was refused (409)."""

    code: str
    message: str
    trace_id: str | None = None
    state: str | None = None
    details: list[dict[str, Any]] | None = None


class ErrorEnvelope(msgspec.Struct, rename="camel"):
    """The body of every refusal; `details[].path` names the offending field."""

    error: ErrorBody


class BulkItem(msgspec.Struct, rename="camel", omit_defaults=True):
    """The outcome of one submitted job, at the position it had in the request."""

    index: int
    outcome: Literal["created", "existing", "rejected"]
    job_id: str | None = None
    error: ErrorBody | None = None


class BulkAnswer(msgspec.Struct, rename="camel"):
    """Outcomes in request order, and their counts."""

    items: list[BulkItem]
    created: int
    existing: int
    rejected: int


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], rename="camel"):
    """One page of a list; `next_page_token` None ends it."""

    items: list[T]
    next_page_token: str | None = None


_request: Final = msgspec.json.Decoder(JobRequest)


def decode_job_request(data: bytes | str | msgspec.Raw) -> JobRequest | Refusal:
    """Decode one request, or say which field is wrong and what it must be."""
    try:
        return _request.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return refusal_of(error)


def decode_job_requests(items: Iterable[bytes | str | msgspec.Raw]) -> list[JobRequest | Refusal]:
    """Decode each item by itself, in order (I3)."""
    return [decode_job_request(item) for item in items]
