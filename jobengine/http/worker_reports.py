"""What workers report of a lease, one function a message, in the engine's words.

Each raises `RefusedError` for what cannot be stored, naming the field, and leaves out what the
redactor takes for a secret.

Not here: completion, whose follow-ups are jobs of their own (`worker_reading`).
"""

import msgspec

from jobengine.domain.failure import Failure
from jobengine.domain.instant import SECOND
from jobengine.domain.redaction import Redactor
from jobengine.http.worker_storable import (
    artifact_row,
    check_storable,
    storable_json,
    storable_note,
)
from jobengine.messages.session import Peer
from jobengine.messages.worker_reports import (
    ArtifactNamed,
    Failed,
    GivenBack,
    Logged,
    Progressed,
    ThrottleSeen,
    WatermarkMoved,
)
from jobengine.wire.jobs import ProgressNote
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Fail,
    Log,
    Progress,
    Release,
    Throttled,
    Watermark,
)

__all__ = [
    "artifact_named",
    "failed",
    "given_back",
    "logged",
    "progressed",
    "throttle_seen",
    "watermark_moved",
]


def failed(message: Fail, redactor: Redactor) -> Failed:
    reported = message.error
    error = Failure(
        class_=redactor.text(reported.class_),
        http_status=reported.http_status,
        message=redactor.text(reported.message),
        retryable=reported.retryable,
        stack=None if reported.stack is None else redactor.text(reported.stack),
    )
    check_storable(error, "error")
    return Failed(
        ref=message.ref,
        lease_id=message.lease_id,
        token=message.token,
        error=error,
        retry_after_us=_microseconds(message.retry_after),
    )


def given_back(message: Release, redactor: Redactor) -> GivenBack:
    check_storable(message.reason, "reason")
    return GivenBack(
        ref=message.ref,
        lease_id=message.lease_id,
        token=message.token,
        delay_us=_microseconds(message.delay_seconds) or 0,
        reason=redactor.text(message.reason),
    )


def progressed(message: Progress, redactor: Redactor) -> Progressed:
    note = storable_note(ProgressNote(message.percent, message.message), "message", redactor)
    return Progressed(ref=message.ref, lease_id=message.lease_id, token=message.token, note=note)


def logged(message: Log, redactor: Redactor) -> Logged:
    """Lines come from whatever the handler runs: U+0000, which PostgreSQL cannot store, costs
    none."""
    said = msgspec.to_builtins(message.lines)
    texts = [line["text"].replace("\0", "\ufffd") for line in said]
    for line, text in zip(said, redactor.lines(texts), strict=True):
        line["text"] = text
    lines = storable_json(said, "lines")
    return Logged(ref=message.ref, lease_id=message.lease_id, token=message.token, lines=lines)


def artifact_named(
    message: ArtifactNote, peer: Peer, now_at: int, redactor: Redactor
) -> ArtifactNamed:
    return ArtifactNamed(
        ref=message.ref,
        lease_id=message.lease_id,
        token=message.token,
        artifact=artifact_row(message, message.lease_id, peer.tenant_id, now_at, "$", redactor),
    )


def throttle_seen(message: Throttled) -> ThrottleSeen:
    return ThrottleSeen(
        ref=message.ref,
        lease_id=message.lease_id or "",
        token=message.token or 0,
        http_status=message.http_status,
        source_id=message.source_id,
        retry_after_us=_microseconds(message.retry_after),
    )


def watermark_moved(message: Watermark) -> WatermarkMoved:
    return WatermarkMoved(
        ref=message.ref,
        lease_id=message.lease_id or "",
        token=message.token or 0,
        source_id=message.source_id,
    )


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)
