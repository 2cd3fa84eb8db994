"""What a worker says in the worker protocol `jobengine.worker.v1`, message by message.

I1  The engine refuses unknown fields and names what would be right.
I2  Results stay raw: they are neither parsed nor re-encoded on the way. A `Raw` holds the whole
    frame in memory; a receiver that keeps one calls `.copy()`.

Deliberately not here: how messages lie in frames (`frames`), meaning, order, and who may send what
when (the sessions on both sides).
"""

from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from jobengine.wire.fields import (
    INT64_MAX,
    HttpStatus,
    Id,
    Instant,
    Key,
    Labels,
    LongText,
    Name,
    Ref,
    Seconds,
    Text,
    Token,
    raw_null,
)
from jobengine.wire.jobs import ArtifactRef, JobFailure, JobRequest, ProgressNote

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""From the least grave to the gravest."""

_RFC3339: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$(?!\n)"


class _FromWorker(
    msgspec.Struct,
    tag_field="op",
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,
):
    ref: Ref = None


class _OfLease(_FromWorker):
    lease_id: Id
    token: Token


class LeaseRef(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """One lease and the fencing token it was granted with."""

    lease_id: Id
    token: Token


class LogLine(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """One line of an attempt's log; `at` is the worker's clock, RFC 3339. In the text U+0000
    becomes U+FFFD."""

    at: Annotated[str, msgspec.Meta(min_length=20, max_length=40, pattern=_RFC3339)]
    level: LogLevel
    text: LongText


class Hello(_FromWorker, tag="hello"):
    """First frame. Leases match every filter that is given; `resume` names leases still held."""

    worker_id: Key
    capacity: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    task_runner_id: Key | None = None
    queues: Annotated[list[Name], msgspec.Meta(max_length=1000)] = []
    job_types: Annotated[list[Name], msgspec.Meta(max_length=1000)] = []
    labels: Labels = {}
    sdk: Text = ""
    resume: Annotated[list[LeaseRef], msgspec.Meta(max_length=100_000)] = []
    auto_credit: bool = False

    def __post_init__(self) -> None:
        if self.capacity and not self.queues and not self.job_types:
            raise ValueError("a worker with capacity names queues or jobTypes")


class Credit(_FromWorker, tag="credit"):
    """Slots free now, replacing the earlier figure."""

    slots: Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Heartbeat(_FromWorker, tag="heartbeat"):
    """Renews `leases`, or all of the session when absent; `progress` is by lease id."""

    leases: Annotated[list[LeaseRef], msgspec.Meta(max_length=100_000)] | None = None
    progress: dict[Id, ProgressNote] = {}


class Progress(_OfLease, tag="progress"):
    """Shown live; at most one a second and lease is stored."""

    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    message: Text | None = None


class Log(_OfLease, tag="log"):
    """Lines of an attempt's log, in order."""

    lines: Annotated[list[LogLine], msgspec.Meta(min_length=1, max_length=1000)]


class ArtifactNote(_OfLease, tag="artifact"):
    """Registers a file with the attempt; `uri`, `digest` (`sha256:…`) or both. `name` has at most
    1,024 bytes in UTF-8."""

    uri: Annotated[str, msgspec.Meta(max_length=2048)] | None = None
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")] | None = None
    mime: Annotated[str, msgspec.Meta(max_length=255)] = "application/octet-stream"
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] = 0
    name: Text = ""

    def __post_init__(self) -> None:
        if self.uri is None and self.digest is None:
            raise ValueError("an artifact needs uri or digest")


class Complete(_OfLease, tag="complete"):
    """Success. Follow-up jobs are created in the commit that completes this one."""

    result: msgspec.Raw = msgspec.field(default_factory=raw_null)
    artifacts: Annotated[list[ArtifactRef], msgspec.Meta(max_length=1000)] = []
    follow_ups: Annotated[list[JobRequest], msgspec.Meta(max_length=1000)] = []


class Fail(_OfLease, tag="fail"):
    """Failure. `retryAfter` (seconds) is a lower bound for the retry's delay."""

    error: JobFailure
    retry_after: Seconds | None = None


class Throttled(_FromWorker, tag="throttled"):
    """An upstream pushed back; the job goes on. Names a lease, a source, or both."""

    http_status: HttpStatus
    lease_id: Id | None = None
    token: Token | None = None
    source_id: Name | None = None
    retry_after: Seconds | None = None

    def __post_init__(self) -> None:
        if (self.lease_id is None) != (self.token is None):
            raise ValueError("leaseId and token go together")
        if self.lease_id is None and self.source_id is None:
            raise ValueError("throttled names a lease or a sourceId")


class Release(_OfLease, tag="release"):
    """Gives a lease back without spending a retry; it may start again after `delaySeconds`."""

    reason: Text
    delay_seconds: Seconds | None = None


class Watermark(_FromWorker, tag="watermark"):
    """How far a source was covered; applied by the commit that completes the named lease."""

    source_id: Name
    position: Key
    window_start: Instant
    window_end: Instant
    lease_id: Id | None = None
    token: Token | None = None

    def __post_init__(self) -> None:
        if (self.lease_id is None) != (self.token is None):
            raise ValueError("leaseId and token go together")


class Drain(_FromWorker, tag="drain"):
    """No more leases; what is held will be finished or released."""


class Submit(_FromWorker, tag="submit"):
    """Creates jobs. Each item is a JobRequest, judged by itself: `jobs.decode_job_requests`."""

    jobs: Annotated[
        list[
            Annotated[
                msgspec.Raw,
                msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/JobRequest"}),
            ]
        ],
        msgspec.Meta(min_length=1, max_length=10_000),
    ]
    idempotency_key: Key | None = None


WorkerMessage: TypeAlias = (
    Hello
    | Credit
    | Heartbeat
    | Progress
    | Log
    | ArtifactNote
    | Complete
    | Fail
    | Throttled
    | Release
    | Watermark
    | Drain
    | Submit
)
WORKER_TYPES: Final[tuple[type[msgspec.Struct], ...]] = get_args(WorkerMessage)
