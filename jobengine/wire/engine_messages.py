"""What the engine says in the worker protocol `jobengine.worker.v1`, message by message.

I1  A worker ignores unknown fields, so an engine may grow.
I2  A payload stays raw: it is neither parsed nor re-encoded on the way. A `Raw` holds the whole
    frame in memory; a receiver that keeps one calls `.copy()`.

Deliberately not here: how messages lie in frames (`frames`), and when which is said (the sessions).
"""

from typing import Final, TypeAlias, get_args

import msgspec

from jobengine.wire.fields import Ref, raw_object
from jobengine.wire.jobs import BulkItem


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
    """One attempt of one job. `attempt` counts grants, `failures` and `maxRetries` are hints;
    `nodeKey` is the job's key in its run."""

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
    run_id: str | None = None
    node_key: str | None = None
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


EngineMessage: TypeAlias = (
    Welcome | Lease | Ack | Nack | Cancel | DrainNotice | Redirect | ErrorFrame
)
ENGINE_TYPES: Final[tuple[type[msgspec.Struct], ...]] = get_args(EngineMessage)
