"""What a handler sees of its job, and how what it returns or raises becomes an outcome.

Every method of `JobContext` may be called from any thread and returns at once; messages leave in
the order of the calls, before the outcome. Deliberately not here: running the handler.
"""

import hashlib
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from jobengine.sdk.commands import SignOfLife, Stopped, StopReason
from jobengine.sdk.session import Posted
from jobengine.wire.fields import DELAY_S_MAX, PAYLOAD_BYTES_MAX, raw, raw_null
from jobengine.wire.jobs import JobFailure, JobRequest
from jobengine.wire.worker import (
    ArtifactNote,
    Complete,
    Fail,
    Lease,
    Log,
    LogLine,
    Progress,
    Release,
    Throttled,
    Watermark,
)

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
T = TypeVar("T")
TEXT_MAX: Final = 16_384
STACK_MAX: Final = 16_384
CHUNK_BYTES: Final = 1 << 20


class JobError(Exception):
    """Raised by a handler to fail with a class, an upstream's HTTP status, or without a retry.

    `retry_after_s` is a lower bound for the delay of the retry.
    """

    def __init__(
        self,
        message: str,
        class_: str | None = None,
        *,
        retryable: bool = True,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.class_ = class_
        self.retryable = retryable
        self.http_status = http_status if http_status in range(100, 600) else None
        self.retry_after_s = _within(retry_after_s)


class Snooze(Exception):
    """Raised by a handler to give the job back for `delay_s` seconds; costs no retry."""

    def __init__(self, delay_s: float, reason: str = "snooze") -> None:
        super().__init__(reason)
        self.delay_s = _within(delay_s)
        self.reason = reason


class JobStopped(Exception):
    """Raised by `JobContext.check` in a handler that was told to stop."""


class Cancellation:
    """Whether a handler was told to stop, and why. True once it was."""

    __slots__ = ("_event", "reason")

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def is_set(self) -> bool:
        """Whether the handler was told to stop."""
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until told to stop or `timeout_s` passed; whether it was told."""
        return self._event.wait(timeout_s)

    def tell(self, reason: StopReason) -> None:
        self.reason = reason
        self._event.set()


class JobLog:
    """Log lines of one attempt: `log("text")`, `log.warning("text")`; streamed and kept."""

    __slots__ = ("_job",)

    def __init__(self, job: "JobContext") -> None:
        self._job = job

    def __call__(self, text: str, level: Level = "info") -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = LogLine(now.replace("+00:00", "Z"), level, clean(text, TEXT_MAX))
        lease = self._job.lease
        self._job.post(Log(lease_id=lease.lease_id, token=lease.token, lines=[line]))

    def debug(self, text: str) -> None:
        self(text, "debug")

    def info(self, text: str) -> None:
        self(text, "info")

    def warning(self, text: str) -> None:
        self(text, "warning")

    def error(self, text: str) -> None:
        self(text, "error")


class JobContext:
    """One attempt of one job, as its handler sees it.

    Handlers run at least once: `job_id` is stable per job, `idempotency_key` per attempt.
    `lease` is the grant as received; `stop_reason` is set once the handler was told to stop.
    """

    __slots__ = (
        "_cancelled", "_follow_ups", "_payload", "interrupt", "lease", "post", "stop_reason",
        "where",
    )  # fmt: skip

    def __init__(self, lease: Lease, post: Callable[[Posted], None]) -> None:
        self.lease = lease
        self.post = post
        self.stop_reason: StopReason | None = None
        self.interrupt: Callable[[], None] | None = None
        self.where: Any = None
        self._payload: Any = msgspec.UNSET
        self._follow_ups: list[JobRequest] | None = None
        self._cancelled: Cancellation | None = None

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
        if self.interrupt is not None:
            self.interrupt()

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
                percent=None if percent is None else min(100.0, max(0.0, percent)),
                message=None if message is None else clean(message, 1024),
            )
        )

    def heartbeat(self) -> None:
        """Give a sign of life and renew the lease now. Leases are renewed without this, too."""
        self.post(SignOfLife(self.lease.lease_id, renew=True))

    def artifact(
        self, path: str | Path, name: str | None = None, mime: str = "application/octet-stream"
    ) -> str:
        """Register a file with the attempt; returns its digest `sha256:…`.

        Reads the file in pieces, in this thread: from an async handler use a worker thread for
        large files. The bytes stay where they are.
        """
        file = Path(path).resolve()
        digest, size_bytes = digest_of(file)
        self.post(
            ArtifactNote(
                lease_id=self.lease.lease_id,
                token=self.lease.token,
                uri=file.as_uri(),
                digest=digest,
                mime=mime,
                size_bytes=size_bytes,
                name=name or file.name,
            )
        )
        return digest

    def throttled(
        self, http_status: int, retry_after_s: float | None = None, source_id: str | None = None
    ) -> None:
        """An upstream pushed back (429, 503); the job goes on, the engine slows the source."""
        self.post(
            Throttled(
                lease_id=self.lease.lease_id,
                token=self.lease.token,
                source_id=source_id,
                http_status=http_status,
                retry_after=_within(retry_after_s),
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
                source_id=source_id,
                position=position,
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

    def outcome_of(self, result: Any) -> Complete | Fail:
        """The outcome of a handler that returned; one that cannot be sent is a failure."""
        lease = self.lease
        if result is None and self._follow_ups is None:
            return Complete(lease_id=lease.lease_id, token=lease.token, result=raw_null())
        try:
            body = msgspec.json.encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            return self._unsendable(f"the result is no JSON: {error}")
        follow_ups = self._follow_ups or []
        if len(body) > PAYLOAD_BYTES_MAX:
            return self._unsendable("the result is over 256 KiB; make it an artifact")
        if follow_ups and len(msgspec.json.encode(follow_ups)) > 2 * PAYLOAD_BYTES_MAX:
            return self._unsendable("the follow-up jobs are over 512 KiB; submit them in bulk")
        return Complete(
            lease_id=lease.lease_id,
            token=lease.token,
            result=msgspec.Raw(body),
            follow_ups=follow_ups,
        )

    def _unsendable(self, message: str) -> Fail:
        error = JobFailure(class_="UnsendableResult", message=message, retryable=False)
        return Fail(lease_id=self.lease.lease_id, token=self.lease.token, error=error)

    def outcome_of_error(self, error: BaseException) -> Fail | Release | Stopped:
        """The outcome of a handler that raised."""
        lease = self.lease
        if isinstance(error, JobStopped) and self.stop_reason is not None:
            return Stopped(lease.lease_id)
        if isinstance(error, Snooze):
            return Release(
                lease_id=lease.lease_id,
                token=lease.token,
                reason=clean(error.reason, 1024),
                delay_seconds=error.delay_s,
            )
        known = error if isinstance(error, JobError) else JobError("", _name_of(error))
        failure = JobFailure(
            class_=clean(known.class_ or _name_of(error), 256),
            message=clean(str(error), 4096),
            retryable=known.retryable,
            http_status=known.http_status,
            stack=clean("".join(traceback.format_exception(error))[-STACK_MAX:], STACK_MAX),
        )
        return Fail(
            lease_id=lease.lease_id,
            token=lease.token,
            error=failure,
            retry_after=known.retry_after_s,
        )


def clean(text: str, length_max: int) -> str:
    """Text the engine accepts: cut, without NUL and lone surrogates."""
    return text[:length_max].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _name_of(error: BaseException) -> str:
    kind = type(error)
    bare = kind.__module__ == "builtins"
    return kind.__qualname__ if bare else f"{kind.__module__}.{kind.__qualname__}"


def _within(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), float(DELAY_S_MAX))


def job_request(job_type: str, payload: Any = None, **fields: Any) -> JobRequest:
    """Build and check a JobRequest; `payload` is anything msgspec encodes, None means `{}`."""
    values: dict[str, Any] = {"job_type": job_type, **fields}
    if payload is not None:
        values["payload"] = payload if isinstance(payload, msgspec.Raw) else raw(payload)
    return msgspec.json.decode(msgspec.json.encode(JobRequest(**values)), type=JobRequest)


def digest_of(file: Path) -> tuple[str, int]:
    """`sha256:…` and size of a file, read in pieces of one MiB."""
    found, size_bytes = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            found.update(chunk)
            size_bytes += len(chunk)
    return f"sha256:{found.hexdigest()}", size_bytes


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("an instant needs its time zone")
    utc = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return utc.replace("+00:00", "Z")
