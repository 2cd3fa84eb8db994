"""What a worker's frames say, in the engine's words.

The same translation serves the listener of the workers and the WebSocket and plain requests of the
HTTP port.

I1  What leaves here can be stored: texts are canonical JSON without U+0000, results are bounded. A
    message that cannot be is a ``Nacked`` in its place, naming the field.
I2  No text that leaves here holds what the redactor takes for a secret; a result does, unless
    payloads are redacted.

Not here: reports but completion (`worker_reports`), order, scopes and time (``core/session``), the
way back (`worker_frames`).
"""

from collections.abc import Callable, Generator, Sequence
from itertools import chain
from typing import Final, TypeVar, assert_never

import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.records import NewJob
from jobengine.domain.redaction import Redactor
from jobengine.http.worker_reports import (
    artifact_named,
    failed,
    given_back,
    logged,
    progressed,
    throttle_seen,
    watermark_moved,
)
from jobengine.http.worker_storable import (
    artifact_row,
    check_storable,
    storable_note,
    storable_result,
    within,
)
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.messages.session import (
    CreditSaid,
    DrainSaid,
    Greeted,
    HeartbeatSaid,
    Nacked,
    Peer,
    Said,
    SubmitSaid,
    Unreadable,
)
from jobengine.messages.worker_reports import Completed, LeaseClaim
from jobengine.wire.fields import raw_null
from jobengine.wire.frames import FRAME_BYTES_MAX, Malformed, worker_frame_pieces
from jobengine.wire.indexed import indexed
from jobengine.wire.job_texts import in_strides
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import JobTranslator
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Complete,
    Credit,
    Drain,
    Fail,
    Heartbeat,
    Hello,
    LeaseRef,
    Log,
    Progress,
    Release,
    Submit,
    Throttled,
    Watermark,
    WorkerMessage,
)

__all__ = ["SUBMIT_PATH", "WorkerReader"]

SUBMIT_PATH: Final = "worker:submit"
"""What an idempotency key of a submit is relative to, as a REST key is to its path."""

R = TypeVar("R")

_STRIDE: Final = 1_000
"""Messages that are understood between two steps: some milliseconds, so that a frame of many
reports is heard in a step or two while others submit."""

_JOB: Final = 16
"""How many messages a job takes as long as."""

_FRAME_TOO_LARGE: Final = Unreadable(
    code=ErrorCode.PAYLOAD_TOO_LARGE,
    message=f"a frame has at most {FRAME_BYTES_MAX} bytes; divide it",
    path="$",
)
_NOT_TEXT: Final = Unreadable(
    code=ErrorCode.BAD_JSON, message="frames are text; this one is binary", path="$"
)
_NULL: Final = b"null"
_NO_RESULT: Final = raw_null()


class WorkerReader:
    """``new_job_ids`` draws fresh job ids."""

    def __init__(
        self, new_job_ids: Callable[[int], Sequence[str]], redactor: Redactor | None = None
    ) -> None:
        self._new_job_ids = new_job_ids
        self._redactor = redactor or Redactor()
        self._translator = JobTranslator(redactor=self._redactor)

    def reading(
        self, frame: str | bytes, peer: Peer, now_at: int
    ) -> Generator[None, None, Sequence[Said]]:
        """What a frame says, in its order, in steps of some milliseconds; never raises for what
        a peer sent."""
        if isinstance(frame, bytes):
            return (_NOT_TEXT,)
        if len(frame) > FRAME_BYTES_MAX // 4 and _too_large(frame):
            return (_FRAME_TOO_LARGE,)
        said: list[Said] = []
        since = 0
        for message in chain.from_iterable(worker_frame_pieces(frame)):
            since += 1
            if since > _STRIDE:
                since = 0
                yield
            try:
                # By far the most frequent, so it does not take its turn among the others.
                if type(message) is Complete and not message.artifacts and not message.follow_ups:
                    said.append(
                        Completed(
                            ref=message.ref,
                            lease_id=message.lease_id,
                            token=message.token,
                            result=self._result(message.result),
                        )
                    )
                elif type(message) is Submit:
                    since += _JOB * len(message.jobs)
                    said.append((yield from self._submit_said(message)))
                else:
                    if type(message) is Complete:
                        since += _JOB * len(message.follow_ups)
                    said.append(self._understand(message, peer, now_at))
            except RefusedError as error:
                said.append(Nacked(message.ref, error.refusal))
        return said

    def understand(self, message: WorkerMessage | Malformed, peer: Peer, now_at: int) -> Said:
        """What one message says; a ``Nacked`` when it says something that cannot be stored."""
        try:
            return self._understand(message, peer, now_at)
        except RefusedError as error:
            return Nacked(message.ref, error.refusal)

    def _understand(self, message: WorkerMessage | Malformed, peer: Peer, now_at: int) -> Said:
        match message:
            case Complete():
                return self._completed(message, peer, now_at)
            case Heartbeat():
                return _heartbeat_said(message, self._redactor)
            case Credit():
                return CreditSaid(ref=message.ref, slots=message.slots)
            case Fail():
                return failed(message, self._redactor)
            case Progress():
                return progressed(message, self._redactor)
            case Log():
                return logged(message, self._redactor)
            case ArtifactNote():
                return artifact_named(message, peer, now_at, self._redactor)
            case Submit():
                return _run(self._submit_said(message))
            case Release():
                return given_back(message, self._redactor)
            case Throttled():
                return throttle_seen(message)
            case Watermark():
                return watermark_moved(message)
            case Hello():
                return _greeted(message)
            case Drain():
                return DrainSaid(ref=message.ref)
            case Malformed():
                return Unreadable(
                    ref=message.ref, code=message.code, message=message.message, path=message.path
                )
            case _:
                assert_never(message)

    def _result(self, raw: msgspec.Raw) -> bytes:
        if raw is _NO_RESULT or (text := bytes(raw)) == _NULL:
            return _NULL
        return storable_result(text, self._redactor)

    def _completed(self, message: Complete, peer: Peer, now_at: int) -> Completed:
        return Completed(
            ref=message.ref,
            lease_id=message.lease_id,
            token=message.token,
            result=self._result(message.result),
            artifacts=[
                artifact_row(
                    one, message.lease_id, peer.tenant_id, now_at, f"artifacts[{n}]", self._redactor
                )
                for n, one in enumerate(message.artifacts)
            ],
            follow_ups=self._follow_ups(message.follow_ups),
        )

    def _follow_ups(self, requests: Sequence[JobRequest]) -> list[NewJob]:
        jobs = []
        job_ids = self._new_job_ids(len(requests))
        for n, (request, job_id) in enumerate(zip(requests, job_ids, strict=True)):
            try:
                jobs.append(self._translator.new_job(request, job_id))
            except RefusedError as error:
                raise RefusedError(within(error.refusal, f"followUps[{n}]")) from None
        return jobs

    def _submit_said(self, message: Submit) -> Generator[None, None, SubmitSaid]:
        texts = [bytes(item) for item in message.jobs]
        job_ids = self._new_job_ids(len(texts))
        jobs: list[NewJob | Refusal] = []
        for stride in in_strides(texts):
            if jobs:
                yield
            jobs += self._translator.new_jobs(texts[stride], job_ids[stride])
        claim = None
        if message.idempotency_key is not None:
            check_storable(message.idempotency_key, "idempotencyKey")
            claim = IdempotencyClaim(
                indexed(self._redactor.text(message.idempotency_key), "idempotencyKey"),
                SUBMIT_PATH,
                digest(b"\n".join(texts)),
            )
        return SubmitSaid(ref=message.ref, jobs=jobs, claim=claim)


def _run(steps: Generator[None, None, R]) -> R:
    """What steps come to, made in one go."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


def _greeted(message: Hello) -> Greeted | Unreadable:
    for field, text in (
        ("workerId", message.worker_id),
        ("taskRunnerId", message.task_runner_id),
    ):
        if text is not None and "\0" in text:
            why = f"$.{field} holds the character U+0000; leave it out"
            return Unreadable(
                ref=message.ref, code=ErrorCode.INVALID_FIELD, message=why, path=f"$.{field}"
            )
    return Greeted(
        ref=message.ref,
        worker_id=message.worker_id,
        task_runner_id=message.task_runner_id or message.worker_id,
        queues=frozenset(message.queues),
        job_types=frozenset(message.job_types),
        capacity=message.capacity,
        auto_credit=message.auto_credit,
        resume=_claims(message.resume),
    )


def _heartbeat_said(message: Heartbeat, redactor: Redactor) -> HeartbeatSaid:
    return HeartbeatSaid(
        ref=message.ref,
        leases=None if message.leases is None else _claims(message.leases),
        progress={
            lease_id: storable_note(note, f"progress.{lease_id}", redactor)
            for lease_id, note in message.progress.items()
        },
    )


def _too_large(frame: str) -> bool:
    if len(frame) > FRAME_BYTES_MAX:
        return True
    return not frame.isascii() and len(frame.encode()) > FRAME_BYTES_MAX


def _claims(refs: Sequence[LeaseRef]) -> list[LeaseClaim]:
    return [LeaseClaim(ref.lease_id, ref.token) for ref in refs]
