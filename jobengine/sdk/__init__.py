"""The Python SDK: `Worker` runs jobs, `Client` submits and watches them.

Names below are the public interface; `session` (the protocol without a socket) is stable for
simulators. The SDK imports nothing of the engine but its wire types.
"""

from jobengine.sdk.client import AsyncClient, Client
from jobengine.sdk.context import (
    Cancellation,
    JobContext,
    JobError,
    JobStopped,
    Snooze,
    job_request,
)
from jobengine.sdk.feed import Event
from jobengine.sdk.operations import ApiError
from jobengine.sdk.transport import WorkerRejected
from jobengine.sdk.worker import Worker
from jobengine.wire.jobs import JobRequest

__all__ = [
    "ApiError",
    "AsyncClient",
    "Cancellation",
    "Client",
    "Event",
    "JobContext",
    "JobError",
    "JobRequest",
    "JobStopped",
    "Snooze",
    "Worker",
    "WorkerRejected",
    "job_request",
]
