"""What a worker session asks its surroundings to do, and how it is set up. Values only."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import attrs

from jobengine.wire.engine_messages import Lease

StopReason = Literal["cancelled", "timed_out", "lost", "drain"]


class StartJobs(NamedTuple):
    """Run these attempts, in this order; none of them has been started before."""

    leases: Sequence[Lease]


class StopJob(NamedTuple):
    """Tell the handler of this lease to stop; it ends by an outcome or by `Stopped`."""

    lease_id: str
    reason: StopReason


class AbandonJob(NamedTuple):
    """The handler ignored `StopJob` for its grace; the lease has been reported without it."""

    lease_id: str
    reason: StopReason


class ShowStall(NamedTuple):
    """The handler gave no sign of life for `quiet_s`; log where it is."""

    lease_id: str
    quiet_s: float


class HangUp(NamedTuple):
    """Close the connection; the session dials again at `dial_at`."""

    why: str


class Notice(NamedTuple):
    """Something the operator of the worker should see in its log."""

    level: Literal["info", "warning", "error"]
    text: str
    lease_id: str | None = None


Command: TypeAlias = StartJobs | StopJob | AbandonJob | ShowStall | HangUp | Notice


class Stopped(NamedTuple):
    """A handler ended because it was told to, without an outcome of its own."""

    lease_id: str


class SignOfLife(NamedTuple):
    """A handler is alive; `renew` asks for a heartbeat at once."""

    lease_id: str
    renew: bool


@attrs.frozen(kw_only=True)
class SessionConfig:
    """Everything a session and its link decide by. Times in seconds; `timeouts_s` is by job type.

    `refused_s_max`: how long a worker that was let in before goes on when its token is refused.
    """

    worker_id: str
    capacity: int
    job_types: tuple[str, ...]
    queues: tuple[str, ...] = ()
    task_runner_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)
    sdk: str = ""
    timeouts_s: Mapping[str, float] = attrs.field(factory=dict)
    drain_timeout_s: float = 30.0
    grace_s: float = 5.0
    stall_s: float | None = 60.0
    unhandled_delay_s: float = 30.0
    reconnect_base_s: float = 0.1
    reconnect_max_s: float = 15.0
    refused_s_max: float = 60.0
    greeting_s_max: float = 10.0
    progress_every_s: float = 1.0
    offline_logs_max: int = 1000
