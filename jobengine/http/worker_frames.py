"""The worker protocol's frames for a session: read into the engine's words, written from them.

I1  Wire messages made here hold nothing that changes later.
I2  An answer without a ``ref`` that says nothing else is left out; heartbeats, submits and refusals
    are answered always.

Not here: what frames say (``worker_reading``), decisions (``core/session``), sockets.
"""

from collections.abc import Generator, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec

from jobengine.domain.instant import to_rfc3339
from jobengine.http.worker_leases import LeaseTexts
from jobengine.http.worker_reading import WorkerReader
from jobengine.messages.lease_shard import JobOutcome
from jobengine.messages.session import (
    Beaten,
    DrainAsked,
    EngineStops,
    Peer,
    Said,
    SendLeases,
    Settled,
    StopLease,
    SubmitAnswered,
    Unreadable,
    Welcomed,
)
from jobengine.wire.engine_messages import (
    Ack,
    Cancel,
    DrainNotice,
    EngineMessage,
    ErrorFrame,
    Nack,
    Welcome,
)
from jobengine.wire.frames import encode_frames
from jobengine.wire.jobs import BulkItem, ErrorBody

__all__ = ["WorkerFrames"]

_Outcome: TypeAlias = Literal["created", "existing", "rejected"]


class WorkerFrames:
    """The ``Codec`` of sessions. A lease lasts three heartbeats unless its job says otherwise."""

    def __init__(self, reader: WorkerReader, node_id: str, *, heartbeat_s: float = 10.0) -> None:
        self._reader = reader
        self._node_id = node_id
        self._heartbeat_s = heartbeat_s
        self._leases = LeaseTexts()

    def reading(
        self, frame: str | bytes, peer: Peer, now_at: int
    ) -> Generator[None, None, Sequence[Said]]:
        return self._reader.reading(frame, peer, now_at)

    def write(self, command: Any) -> Sequence[EngineMessage | msgspec.Raw]:
        match command:
            case SendLeases():
                return self._leases.messages(command.leases, command.task_runner_id)
            case Settled():
                return _settled(command)
            case Beaten():
                return [Ack(ref=command.ref, stop=list(command.stop), lost=list(command.lost))]
            case SubmitAnswered():
                return [_submit_answer(command)]
            case StopLease():
                return [_cancel(command)]
            case Welcomed():
                return [self._welcome(command)]
            case Unreadable():
                return [_error(command)]
            case EngineStops() | DrainAsked():
                return [DrainNotice(deadline=to_rfc3339(command.deadline_at))]
            case _:
                raise AssertionError(f"not for a worker: {command}")

    def encode(self, messages: Sequence[EngineMessage | msgspec.Raw]) -> Sequence[str]:
        return encode_frames(messages)

    def _welcome(self, command: Welcomed) -> Welcome:
        return Welcome(
            session_id=f"{self._node_id}.{command.session_id}",
            node_id=self._node_id,
            lease_seconds=round(3 * self._heartbeat_s),
            heartbeat_seconds=self._heartbeat_s,
            resumed=list(command.resumed),
            lost=list(command.lost),
            ref=command.ref,
        )


def _settled(command: Settled) -> list[EngineMessage]:
    messages: list[EngineMessage] = [Ack(ref=ref) for ref in command.acks if ref is not None]
    for nack in command.nacks:
        refusal = nack.refusal
        messages.append(Nack(ref=nack.ref, code=refusal.code, message=refusal.message))
    return messages


def _submit_answer(command: SubmitAnswered) -> Ack | Nack:
    refusal = command.refusal
    if refusal is not None:
        return Nack(ref=command.ref, code=refusal.code, message=refusal.message)
    items = [_item(n, outcome) for n, outcome in enumerate(command.outcomes)]
    return Ack(ref=command.ref, jobs=items, backlog=command.backlog)


def _cancel(command: StopLease) -> Cancel:
    return Cancel(lease_id=command.lease_id, reason=command.reason, grace_seconds=command.grace_s)


def _error(command: Unreadable) -> ErrorFrame:
    return ErrorFrame(
        code=command.code, message=command.message, path=command.path, ref=command.ref
    )


def _item(index: int, outcome: JobOutcome) -> BulkItem:
    refusal = outcome.refusal
    return BulkItem(
        index=index,
        outcome=cast(_Outcome, outcome.outcome),
        job_id=outcome.job_id,
        error=None if refusal is None else ErrorBody(code=refusal.code, message=refusal.message),
    )
