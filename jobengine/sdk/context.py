"""What a handler sees of its job.

Every method of `JobContext` may be called from any thread and, `artifact` and `expand` aside,
returns at once; messages leave in the order of the calls, before the outcome. Deliberately not
here: running the handler, what its end means (`outcomes`).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, overload

import msgspec

from jobengine.sdk.artifacts import Source, checked_name, note_of_file, note_of_stored
from jobengine.sdk.commands import SignOfLife, Stopped, StopReason
from jobengine.sdk.job_log import JobLog
from jobengine.sdk.outcomes import (
    Cancellation,
    JobStopped,
    clean,
    encodable,
    outcome_of,
    outcome_of_error,
    within,
)
from jobengine.sdk.run_operations import extension
from jobengine.sdk.session import Posted
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.engine_messages import Lease
from jobengine.wire.fields import raw, raw_null
from jobengine.wire.jobs import JobRequest
from jobengine.wire.runs import EdgeRequest, ExtendRequest, NodeRequest
from jobengine.wire.worker_messages import (
    Complete,
    Fail,
    Progress,
    Release,
    Throttled,
    Watermark,
)

T = TypeVar("T")
_NULL: Final = raw_null()


class Door(Protocol):
    """What handlers ask of the engine while they work; each call blocks."""

    def store(self, source: Source, mime: str | None, tenant: str) -> StoredArtifact:
        """Store bytes under a media type, or a guessed one."""

    def extend(self, run_id: str, growth: ExtendRequest, tenant: str) -> list[str]:
        """Grow a run; answers the ids of the new jobs."""


class JobContext(msgspec.Struct, eq=False):
    """One attempt of one job, as its handler sees it.

    Handlers run at least once: `job_id` is stable per job, `idempotency_key` per attempt.
    `lease` is the grant as received; `stop_reason` is set once the handler was told to stop. Not
    for handlers: `post`, `handler`, which runs it, and `where`, which its runner alone reads.
    """

    lease: Lease
    post: Callable[[Posted], None]
    handler: Callable[["JobContext"], Any]
    _door: Door | None = None
    stop_reason: StopReason | None = None
    where: Any = None
    _payload: Any = msgspec.UNSET
    _follow_ups: list[JobRequest] | None = None
    _cancelled: Cancellation | None = None

    def __repr__(self) -> str:
        return f"<job {self.lease.job_id} {self.lease.job_type} attempt {self.lease.attempt}>"

    @property
    def payload(self) -> Any:
        """The payload as plain Python values; decoded on first use, the same object after."""
        if self._payload is msgspec.UNSET:
            self._payload = msgspec.json.decode(self.lease.payload)
        return self._payload

    def payload_as(self, kind: type[T]) -> T:
        """The payload decoded and checked as `kind`; raises msgspec.ValidationError."""
        return msgspec.json.decode(self.lease.payload, type=kind)

    @property
    def job_id(self) -> str:
        return self.lease.job_id

    @property
    def job_type(self) -> str:
        return self.lease.job_type

    @property
    def attempt(self) -> int:
        return self.lease.attempt

    @property
    def idempotency_key(self) -> str:
        return self.lease.idempotency_key

    @property
    def labels(self) -> dict[str, str]:
        return self.lease.labels

    @property
    def correlation_id(self) -> str:
        return self.lease.correlation_id

    @property
    def tenant(self) -> str:
        return self.lease.tenant_id

    @property
    def project(self) -> str | None:
        return self.lease.project_id

    @property
    def run_id(self) -> str | None:
        """The run that the job is of, if any."""
        return self.lease.run_id

    @property
    def node_key(self) -> str | None:
        """The job's key in its run."""
        return self.lease.node_key

    @property
    def cancelled(self) -> Cancellation:
        """Set once the engine, a timeout or a drain wants the handler to stop."""
        if self._cancelled is None:
            self._cancelled = Cancellation()
            # `stop` may have run between the two lines above; the reason is written first there.
            if self.stop_reason is not None:
                self._cancelled.tell(self.stop_reason)
        return self._cancelled

    @property
    def log(self) -> JobLog:
        """The log of this attempt."""
        return JobLog(self)

    def stop(self, reason: StopReason) -> None:
        """Tell the handler to stop (called by the worker, from its network thread)."""
        self.stop_reason = reason
        if self._cancelled is not None:
            self._cancelled.tell(reason)

    def check(self) -> None:
        """Raise `JobStopped` if the handler was told to stop."""
        if self.stop_reason is not None:
            raise JobStopped(self.stop_reason)

    def progress(self, percent: float | None = None, message: str | None = None) -> None:
        """Show how far the job is (percent 0–100); sent at most once a second, the newest wins."""
        self.post(
            Progress(
                lease_id=self.lease.lease_id,
                token=self.lease.token,
                percent=None if percent is None else min(100.0, max(0.0, float(percent))),
                message=None if message is None else clean(str(message), 1024),
            )
        )

    def heartbeat(self) -> None:
        """Give a sign of life and renew the lease now. Leases are renewed without this, too."""
        self.post(SignOfLife(self.lease.lease_id, renew=True))

    @overload
    def artifact(
        self, path: str | Path, /, *, name: str | None = None, mime: str | None = None
    ) -> str: ...

    @overload
    def artifact(self, name: str, source: Source, /, *, mime: str | None = None) -> str: ...

    def artifact(
        self,
        first: str | Path,
        source: Source | None = None,
        /,
        *,
        name: str | None = None,
        mime: str | None = None,
    ) -> str:
        """Register bytes with the attempt; returns their digest `sha256:…`.

        `artifact(path)` names a file, whose bytes stay where they are; `artifact(name, source)`
        stores bytes, a file or what is left of an open one in the engine and names that. `mime` is
        guessed from a path by default. Reads in pieces, and blocks, in this thread: an async
        handler calls it in a worker thread. Storing raises as `Client.upload_artifact`, and a name
        of more than 1,024 bytes in UTF-8 is a `ValueError`.
        """
        lease = self.lease
        if source is None:
            note = note_of_file(lease, Path(first), name, mime)
        elif self._door is None:
            raise RuntimeError("this job runs without an engine to store bytes in")
        else:
            named = checked_name(str(first))
            stored = self._door.store(source, mime, lease.tenant_id)
            note = note_of_stored(lease, stored, named, mime)
        self.post(note)
        assert note.digest is not None
        return note.digest

    def throttled(
        self, http_status: int, retry_after_s: float | None = None, source_id: str | None = None
    ) -> None:
        """An upstream pushed back (429, 503); the job goes on, the engine slows the source."""
        self.post(
            Throttled(
                lease_id=self.lease.lease_id,
                token=self.lease.token,
                source_id=None if source_id is None else encodable(source_id),
                http_status=int(http_status),
                retry_after=within(retry_after_s),
            )
        )

    def watermark(
        self, source_id: str, position: str, window_start: datetime, window_end: datetime
    ) -> None:
        """The window of the source is covered; it moves when this job's success is committed."""
        self.post(
            Watermark(
                lease_id=self.lease.lease_id,
                token=self.lease.token,
                source_id=encodable(source_id),
                position=encodable(position),
                window_start=_instant(window_start),
                window_end=_instant(window_end),
            )
        )

    def follow_up(self, job_type: str, payload: Any = None, **fields: Any) -> None:
        """Create a job in the commit that completes this one; `fields` are JobRequest's.

        Raises msgspec.ValidationError for a request the engine would refuse.
        """
        request = job_request(job_type, payload, **fields)
        if self._follow_ups is None:
            self._follow_ups = []
        self._follow_ups.append(request)

    def expand(
        self,
        jobs: Sequence[NodeRequest | Mapping[str, Any]] = (),
        edges: Sequence[EdgeRequest | Mapping[str, Any]] = (),
    ) -> list[str]:
        """Add nodes and edges to the job's own run at once; answers the ids of their jobs.

        Mappings have the names of the wire: `{"key": "scan-1", "jobType": "scan", "dependsOn":
        [job.node_key]}`, `{"from": "scan-1", "to": "report"}`. All of it is added or nothing;
        edges go into nodes that have not begun. A later attempt that adds the same keys again is
        refused with `RUN_INVALID`.

        Blocks, so that an async handler calls it in a worker thread. Raises ApiError,
        msgspec.ValidationError for what cannot be right, and RuntimeError for a job of no run.
        """
        lease = self.lease
        if lease.run_id is None:
            raise RuntimeError("this job is of no run; follow_up creates jobs beside it")
        if self._door is None:
            raise RuntimeError("this job runs without an engine that has its run")
        return self._door.extend(lease.run_id, extension(jobs, edges), lease.tenant_id)

    def outcome_of(self, result: Any) -> Complete | Fail:
        """The outcome of a handler that returned; one that cannot be sent is a failure."""
        if result is None and self._follow_ups is None:
            lease = self.lease
            return Complete(lease_id=lease.lease_id, token=lease.token, result=_NULL)
        return outcome_of(self.lease, result, self._follow_ups or ())

    def outcome_of_error(self, error: BaseException) -> Fail | Release | Stopped:
        """The outcome of a handler that raised."""
        return outcome_of_error(self.lease, error, self.stop_reason)


def job_request(job_type: str, payload: Any = None, **fields: Any) -> JobRequest:
    """Build and check a JobRequest; `payload` is anything msgspec encodes, None means `{}`.

    Raises msgspec.ValidationError for a request the engine would refuse, TypeError and ValueError
    for a payload that is no JSON, as one with NaN in it.
    """
    values: dict[str, Any] = {"job_type": job_type, **fields}
    if payload is not None:
        values["payload"] = payload if isinstance(payload, msgspec.Raw) else raw(payload)
    try:
        request = JobRequest(**values)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from None
    return msgspec.json.decode(msgspec.json.encode(request), type=JobRequest)


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("an instant needs its time zone")
    utc = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return utc.replace("+00:00", "Z")
