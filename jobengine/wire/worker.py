"""Frames of the worker protocol `jobengine.worker.v1`, both directions.

A text frame is one JSON object or an array of them; `op` tells the type. What the engine receives
refuses unknown fields; what a worker receives tolerates them, so an engine may grow.

Invariants
    I1  A well-formed frame costs one decode; only a bad one is taken apart, item by item.
    I2  Payloads and results stay raw: they are neither parsed nor re-encoded on the way. A `Raw`
        holds the whole frame in memory; a receiver that keeps one calls `.copy()`.
    I3  Everything refused names the message (`ref`), the path and what would be right.

Deliberately not here: meaning, order, and who may send what when (the sessions on both sides).
"""

from collections.abc import Sequence
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    get_args,
)

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
    Seconds,
    Text,
    Token,
    raw_null,
    raw_object,
)
from jobengine.wire.jobs import ArtifactRef, BulkItem, JobFailure, JobRequest, ProgressNote
from jobengine.wire.refusal import refusal_of

SUBPROTOCOL: Final = "jobengine.worker.v1"
FRAME_BYTES_MAX: Final = 1 << 20
CLOSE_TOKEN_ENDED: Final = 4401
"""Close code (of those for private use): the token that opened the session counts no more."""
HELLO_WITHIN_S: Final = 10.0

RefText = Annotated[str, msgspec.Meta(max_length=64)]
RefNumber = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Ref: TypeAlias = RefText | RefNumber | None


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
    """One line of an attempt's log; `at` is the worker's clock, RFC 3339."""

    at: Annotated[str, msgspec.Meta(min_length=20, max_length=40)]
    level: Literal["debug", "info", "warning", "error"]
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
    """Registers a file with the attempt; `uri`, `digest` (`sha256:…`) or both."""

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


class _FromEngine(
    msgspec.Struct, tag_field="op", rename="camel", omit_defaults=True, kw_only=True, gc=False
):
    pass


class Welcome(_FromEngine, tag="welcome"):
    """Answers `hello`: `resumed` leases go on, `lost` ones belong to somebody else by now."""

    session_id: str
    node_id: str
    lease_seconds: int
    heartbeat_seconds: float
    resumed: list[str] = []
    lost: list[str] = []
    ref: Ref = None


class Lease(_FromEngine, tag="lease", kw_only=True):
    """One attempt of one job. `attempt` counts grants, `failures` and `maxRetries` are hints."""

    job_id: str
    job_type: str
    queue: str
    attempt: int
    failures: int
    max_retries: int
    lease_id: str
    token: int
    lease_until: str
    lease_seconds: int
    heartbeat_seconds: float
    timeout_seconds: int | None = None
    idempotency_key: str
    tenant_id: str
    project_id: str | None = None
    correlation_id: str
    task_runner_id: str | None = None
    traceparent: str | None = None
    labels: dict[str, str] = {}
    payload: msgspec.Raw = msgspec.field(default_factory=raw_object)


class Ack(_FromEngine, tag="ack"):
    """The commit is done. A heartbeat's names leases to `stop` (cancelled) and `lost` ones;
    a submit's carries one outcome a job and, unless it is 0, how many jobs of the tenant wait."""

    ref: Ref
    stop: list[str] = []
    lost: list[str] = []
    jobs: list[BulkItem] = []
    backlog: int = 0


class Nack(_FromEngine, tag="nack"):
    """The message was understood and refused; nothing of it was done."""

    ref: Ref
    code: str
    message: str


class Cancel(_FromEngine, tag="cancel"):
    """Stop this attempt and confirm by `release` (reason `cancelled`) within the grace."""

    lease_id: str
    reason: str
    grace_seconds: float


class DrainNotice(_FromEngine, tag="drain"):
    """The engine stops at `deadline` (RFC 3339); leases outlive it."""

    deadline: str


class Redirect(_FromEngine, tag="redirect"):
    """Another node owns this tenant: connect there and resume."""

    url: str


class ErrorFrame(_FromEngine, tag="error"):
    """The message or frame was not understood; repeated, it closes the connection with 1008."""

    code: str
    message: str
    path: str | None = None
    ref: Ref = None


class Malformed(NamedTuple):
    """A message that could not be read, in its place among the others of its frame."""

    ref: str | int | None
    code: str
    message: str
    path: str = "$"


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
EngineMessage: TypeAlias = (
    Welcome | Lease | Ack | Nack | Cancel | DrainNotice | Redirect | ErrorFrame
)


WORKER_TYPES: Final[tuple[type[msgspec.Struct], ...]] = get_args(WorkerMessage)
ENGINE_TYPES: Final[tuple[type[msgspec.Struct], ...]] = get_args(EngineMessage)


def op_of(message: type[msgspec.Struct]) -> str:
    """The `op` a message type has on the wire."""
    return str(message.__struct_config__.tag)


class _Envelope(msgspec.Struct):
    op: Any = None
    ref: Any = None


M = TypeVar("M")
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
_raw_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_envelope: Final = msgspec.json.Decoder(_Envelope)
_encoder: Final = msgspec.json.Encoder()


class _Codec(Generic[M]):
    """Reads frames of one direction; `union` is the union of its message types."""

    def __init__(self, union: Any, types: tuple[type[msgspec.Struct], ...]) -> None:
        self._frame: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union | list[union])
        self._message: msgspec.json.Decoder[M] = msgspec.json.Decoder(union)
        self._ops = tuple(op_of(kind) for kind in types)

    def decode(self, data: str | bytes) -> list[M | Malformed]:
        try:
            text = data if isinstance(data, str) else data.decode()
            found = self._frame.decode(text)
        except _UNREADABLE:
            return self._decode_apart(data)
        return found if type(found) is list else [found]

    def _decode_apart(self, data: str | bytes) -> list[M | Malformed]:
        try:
            text = data if isinstance(data, str) else data.decode()
            if text.lstrip(" \t\r\n")[:1] == "[":
                items = _raw_items.decode(text)
                return [self._decode_item(item, f"$[{n}]") for n, item in enumerate(items)]
        except _UNREADABLE as error:
            refusal = refusal_of(error)
            return [Malformed(None, refusal.code, refusal.message, refusal.path)]
        return [self._decode_item(text, "$")]

    def _decode_item(self, item: str | msgspec.Raw, root: str) -> M | Malformed:
        try:
            return self._message.decode(item)
        except _UNREADABLE as error:
            refusal = refusal_of(error, root)
        try:
            envelope = _envelope.decode(item)
        except _UNREADABLE:
            return Malformed(None, refusal.code, refusal.message, refusal.path)
        ref = envelope.ref if type(envelope.ref) in (str, int) else None
        if isinstance(envelope.op, str) and envelope.op not in self._ops:
            message = f"{root}.op: `{envelope.op[:64]}` is none of {', '.join(self._ops)}"
            return Malformed(ref, "UNKNOWN_OP", message, f"{root}.op")
        return Malformed(ref, refusal.code, refusal.message, refusal.path)


_from_worker: Final = _Codec[WorkerMessage](WorkerMessage, WORKER_TYPES)
_from_engine: Final = _Codec[EngineMessage](EngineMessage, ENGINE_TYPES)


def decode_worker_frame(data: str | bytes) -> list[WorkerMessage | Malformed]:
    """Read a frame a worker sent: its messages in order, each bad one as `Malformed`. Never raises.

    The caller has checked the frame's size (`FRAME_BYTES_MAX`).
    """
    return _from_worker.decode(data)


def decode_engine_frame(data: str | bytes) -> list[EngineMessage | Malformed]:
    """Read a frame the engine sent; an op this version does not know is `Malformed` UNKNOWN_OP."""
    return _from_engine.decode(data)


def encode_frame(messages: Sequence[WorkerMessage] | Sequence[EngineMessage]) -> str:
    """One message as an object, several as an array. The caller keeps it under FRAME_BYTES_MAX."""
    return _encoder.encode(messages[0] if len(messages) == 1 else messages).decode()


def encode_frames(
    messages: Sequence[WorkerMessage] | Sequence[EngineMessage], bytes_max: int = FRAME_BYTES_MAX
) -> list[str]:
    """Like `encode_frame`, divided so that no frame is over `bytes_max`; order is kept.

    A single message over the limit is sent as it is: its author bounds it.
    """
    frame = _encoder.encode(messages[0] if len(messages) == 1 else messages)
    if len(frame) <= bytes_max or len(messages) == 1:
        return [frame.decode()]
    half = len(messages) // 2
    return encode_frames(messages[:half], bytes_max) + encode_frames(messages[half:], bytes_max)
