"""Bodies of the worker protocol's HTTP form: plain requests instead of a session.

Reports take the fields of the messages of the same name (`wire.worker_messages`); the lease stands
in the path, its `token` in the body.
"""

from typing import Annotated

import msgspec

from jobengine.wire.engine_messages import Lease
from jobengine.wire.fields import Key, Name, Seconds, Text, Token, raw_null
from jobengine.wire.jobs import ArtifactRef, JobFailure, JobRequest

WAIT_S_MAX = 30


class _Request(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    pass


class ClaimRequest(_Request):
    """Asks for up to `max` leases that match every filter given; waits for a first if need be."""

    worker_id: Key
    task_runner_id: Key | None = None
    queues: Annotated[list[Name], msgspec.Meta(max_length=1000)] = []
    job_types: Annotated[list[Name], msgspec.Meta(max_length=1000)] = []
    max_: Annotated[int, msgspec.Meta(ge=1, le=1000)] = msgspec.field(name="max", default=1)
    wait_seconds: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0.0

    def __post_init__(self) -> None:
        if not self.queues and not self.job_types:
            raise ValueError("a claim names queues or jobTypes")


class ClaimAnswer(msgspec.Struct, rename="camel"):
    """The leases granted; none when nothing was due in time."""

    leases: list[Lease]


class HeartbeatRequest(_Request):
    """Renews the lease."""

    token: Token
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    message: Text | None = None


class HeartbeatAnswer(msgspec.Struct, rename="camel"):
    """`stop`: a cancel was asked for; stop the attempt and release the lease."""

    stop: bool


class ProgressRequest(_Request):
    token: Token
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    message: Text | None = None


class CompleteRequest(_Request):
    token: Token
    result: msgspec.Raw = msgspec.field(default_factory=raw_null)
    artifacts: Annotated[list[ArtifactRef], msgspec.Meta(max_length=1000)] = []
    follow_ups: Annotated[list[JobRequest], msgspec.Meta(max_length=1000)] = []


class FailRequest(_Request):
    token: Token
    error: JobFailure
    retry_after: Seconds | None = None


class ReleaseRequest(_Request):
    token: Token
    reason: Text
    delay_seconds: Seconds | None = None


class ReportAnswer(msgspec.Struct, rename="camel"):
    """The report is durable."""

    lease_id: str
