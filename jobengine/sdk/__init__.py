"""The Python SDK: `Worker` runs jobs, `Client` submits and watches them, one by one or as runs.

Names below are the public interface; `session` (the protocol without a socket) is stable for
simulators. The SDK imports nothing of the engine but its wire types.
"""

from jobengine.sdk.admittance import WorkerRejectedError
from jobengine.sdk.artifacts import ArtifactDamagedError
from jobengine.sdk.async_client import AsyncClient
from jobengine.sdk.client import Client
from jobengine.sdk.context import JobContext, job_request
from jobengine.sdk.exchange import ApiError
from jobengine.sdk.feed import Event, JobLogLine
from jobengine.sdk.header_octets import UnsendableError
from jobengine.sdk.job_operations import JobUnfinishedError
from jobengine.sdk.outcomes import Cancellation, JobError, JobStopped, Snooze
from jobengine.sdk.requests import Pressure
from jobengine.sdk.runs import AsyncRun, AsyncRunHandle, Run, RunHandle
from jobengine.sdk.worker import Worker
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.blackouts import CronRule, OneOffRule
from jobengine.wire.governance import ShareRequest
from jobengine.wire.jobs import JobRequest
from jobengine.wire.rates import RatePolicy
from jobengine.wire.runs import NodeRequest, RunRequest

__all__ = [
    "ApiError",
    "ArtifactDamagedError",
    "AsyncClient",
    "AsyncRun",
    "AsyncRunHandle",
    "Cancellation",
    "Client",
    "CronRule",
    "Event",
    "JobContext",
    "JobError",
    "JobLogLine",
    "JobRequest",
    "JobStopped",
    "JobUnfinishedError",
    "NodeRequest",
    "OneOffRule",
    "Pressure",
    "RatePolicy",
    "Run",
    "RunHandle",
    "RunRequest",
    "ShareRequest",
    "Snooze",
    "StoredArtifact",
    "UnsendableError",
    "Worker",
    "WorkerRejectedError",
    "job_request",
]
