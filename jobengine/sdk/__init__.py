"""The Python SDK: `Worker` runs jobs, `Client` submits and watches them.

Names below are the public interface; `session` (the protocol without a socket) is stable for
simulators. The SDK imports nothing of the engine but its wire types.
"""

from jobengine.sdk.artifacts import ArtifactDamaged
from jobengine.sdk.async_client import AsyncClient
from jobengine.sdk.client import Client
from jobengine.sdk.context import JobContext, job_request
from jobengine.sdk.exchange import ApiError
from jobengine.sdk.feed import Event
from jobengine.sdk.outcomes import Cancellation, JobError, JobStopped, Snooze
from jobengine.sdk.transport import WorkerRejected
from jobengine.sdk.worker import Worker
from jobengine.wire.admission import RatePolicy
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import JobRequest

__all__ = [
    "ApiError",
    "ArtifactDamaged",
    "AsyncClient",
    "Cancellation",
    "Client",
    "Event",
    "JobContext",
    "JobError",
    "JobRequest",
    "JobStopped",
    "RatePolicy",
    "Snooze",
    "StoredArtifact",
    "Worker",
    "WorkerRejected",
    "job_request",
]
