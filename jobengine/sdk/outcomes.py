"""How a handler is told to stop, what it raises, and how its end becomes an outcome.

Invariants
    I1  Whatever a handler raises has an outcome: `outcome_of_error` raises nothing.
    I2  What handlers give as a number, a flag or text is of exactly that type once it is in a
        message; what cannot be raises TypeError, ValueError or OverflowError where it is given.

Deliberately not here: running handlers (`runners`), the messages that go before (`context`).
"""

import math
import threading
import traceback
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobengine.sdk.commands import Stopped, StopReason
from jobengine.wire.engine_messages import Lease
from jobengine.wire.fields import DELAY_S_MAX, PAYLOAD_BYTES_MAX, json_of
from jobengine.wire.jobs import JobFailure, JobRequest
from jobengine.wire.worker_messages import Complete, Fail, Release

__all__ = [
    "UNSENDABLE",
    "Cancellation",
    "JobError",
    "JobStopped",
    "Snooze",
    "clean",
    "encodable",
    "outcome_of",
    "outcome_of_error",
    "within",
]

STACK_MAX: Final = 16_384
UNSENDABLE: Final = "UnsendableResult"


class JobError(Exception):
    """Raised by a handler to fail with a class, an upstream's HTTP status, or without a retry.

    `class_` is a name, or a type that gives its own; `retry_after_s` is a lower bound for the
    delay of the retry. A number or flag that is none raises at once.
    """

    def __init__(
        self,
        message: str,
        class_: str | type | None = None,
        *,
        retryable: bool = True,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.class_ = _name_of(class_) if isinstance(class_, type) else class_
        self.retryable = bool(retryable)
        known = None if http_status is None else int(http_status)
        self.http_status = known if known in range(100, 600) else None
        self.retry_after_s = within(retry_after_s)


class Snooze(Exception):  # noqa: N818 -- a wish, not an error
    """Raised by a handler to give the job back for `delay_s` seconds; costs no retry."""

    def __init__(self, delay_s: float, reason: str = "snooze") -> None:
        super().__init__(reason)
        self.delay_s = within(delay_s)
        self.reason = reason


class JobStopped(Exception):  # noqa: N818 -- like a cancellation, not an error
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


def outcome_of(lease: Lease, result: Any, follow_ups: Sequence[JobRequest]) -> Complete | Fail:
    """The outcome of a handler that returned; one that cannot be sent is a failure."""
    try:
        body = json_of(result)
    except (TypeError, ValueError, RecursionError) as error:
        return _unsendable(lease, f"the result is no JSON: {error}")
    if len(body) > PAYLOAD_BYTES_MAX:
        return _unsendable(lease, "the result is over 256 KiB; make it an artifact")
    if follow_ups and len(msgspec.json.encode(follow_ups)) > 2 * PAYLOAD_BYTES_MAX:
        return _unsendable(lease, "the follow-up jobs are over 512 KiB; submit them in bulk")
    return Complete(
        lease_id=lease.lease_id,
        token=lease.token,
        result=msgspec.Raw(body),
        follow_ups=list(follow_ups),
    )


def _unsendable(lease: Lease, message: str) -> Fail:
    error = JobFailure(class_=UNSENDABLE, message=message, retryable=False)
    return Fail(lease_id=lease.lease_id, token=lease.token, error=error)


def outcome_of_error(
    lease: Lease, error: BaseException, stop_reason: StopReason | None
) -> Fail | Release | Stopped:
    """The outcome of a handler that raised (I1)."""
    try:
        return _told(lease, error, stop_reason)
    except Exception:  # noqa: BLE001 - I1: what is raised is the users', and so is what it does
        unread = JobFailure(class_="Unreadable", message="what the handler raised cannot be read")
        return Fail(lease_id=lease.lease_id, token=lease.token, error=unread)


def _told(
    lease: Lease, error: BaseException, stop_reason: StopReason | None
) -> Fail | Release | Stopped:
    if isinstance(error, JobStopped) and stop_reason is not None:
        return Stopped(lease.lease_id)
    if isinstance(error, Snooze):
        return Release(
            lease_id=lease.lease_id,
            token=lease.token,
            reason=clean(_text_of(error.reason), 1024),
            delay_seconds=error.delay_s,
        )
    known = error if isinstance(error, JobError) else JobError("", type(error))
    failure = JobFailure(
        class_=clean(_text_of(known.class_ or _name_of(type(error))), 256),
        message=clean(_text_of(error), 4096),
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


def encodable(text: str) -> str:
    """Text as it is, of exactly that type; raises `ValueError` when UTF-8 cannot hold it."""
    return str(text).encode().decode()


def _text_of(value: object) -> str:
    """`value` as text, or the name of its type when it refuses."""
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - whatever its `__str__` raises
        return _name_of(type(value))


def _name_of(kind: type) -> str:
    bare = kind.__module__ == "builtins"
    return kind.__qualname__ if bare else f"{kind.__module__}.{kind.__qualname__}"


def within(seconds: float | None) -> float | None:
    """A delay that the engine takes. Raises `ValueError` for NaN, and as `float` does."""
    if seconds is None:
        return None
    seconds = float(seconds)
    if math.isnan(seconds):
        raise ValueError("NaN is no number of seconds")
    return min(max(seconds, 0.0), float(DELAY_S_MAX))
