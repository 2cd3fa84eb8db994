"""A small engine for tests of the SDK: leases, outcomes, credit; frames in, frames out.

It shares the wire types with the SDK and nothing else, and it keeps what the worker said so that
a test can hold it against what must be true.
"""

from collections.abc import Iterator

import msgspec

from jobengine.wire.engine_messages import Ack, Cancel, EngineMessage, Lease, Nack, Welcome
from jobengine.wire.frames import Malformed, decode_worker_frame, encode_frame
from jobengine.wire.worker_messages import (
    Complete,
    Credit,
    Drain,
    Fail,
    Heartbeat,
    Hello,
    Release,
    WorkerMessage,
)

Outcome = Complete | Fail | Release


def lease(
    lease_id: str,
    job_type: str = "noop",
    payload: object = None,
    *,
    timeout_seconds: int | None = None,
    heartbeat_seconds: float = 10.0,
    token: int = 1,
) -> Lease:
    return Lease(
        job_id=f"job-of-{lease_id}",
        job_type=job_type,
        queue=job_type,
        attempt=1,
        failures=0,
        max_retries=3,
        correlation_id="c",
        lease_id=lease_id,
        token=token,
        lease_until="2026-11-21T12:00:00.000Z",
        lease_seconds=30,
        heartbeat_seconds=heartbeat_seconds,
        timeout_seconds=timeout_seconds,
        idempotency_key=f"job-of-{lease_id}:1",
        tenant_id="acme",
        payload=msgspec.Raw(msgspec.json.encode(payload if payload is not None else {})),
    )


class EngineModel:
    """What an engine knows of one worker. `live` leases are granted and not ended; no outcome is
    taken while `store_away`."""

    def __init__(self, heartbeat_seconds: float = 10.0) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self.live: dict[str, int] = {}
        self.outcomes: dict[str, list[Outcome]] = {}
        self.expired: set[str] = set()
        self.stop: list[str] = []
        self.credit = 0
        self.capacity = 0
        self.draining = False
        self.store_away = False
        self.hellos: list[Hello] = []
        self.said: list[WorkerMessage] = []

    def receive(self, frame: str | bytes) -> list[EngineMessage]:
        answers: list[EngineMessage] = []
        for message in decode_worker_frame(frame):
            assert not isinstance(message, Malformed), message
            self.said.append(message)
            answers.extend(self._answer(message))
        return answers

    def _answer(self, message: WorkerMessage) -> Iterator[EngineMessage]:
        match message:
            case Hello():
                self.hellos.append(message)
                self.capacity = message.capacity
                self.credit = 0
                named = {item.lease_id for item in message.resume}
                self.expired |= self.live.keys() - named
                self.live = {name: self.live[name] for name in self.live if name in named}
                yield Welcome(
                    session_id=f"s{len(self.hellos)}",
                    node_id="n1",
                    lease_seconds=30,
                    heartbeat_seconds=self.heartbeat_seconds,
                    resumed=sorted(self.live),
                    lost=sorted(named - self.live.keys()),
                )
            case Credit():
                self.credit = message.slots
            case Heartbeat():
                yield Ack(ref=message.ref, stop=self.stop)
            case Drain():
                self.draining = True
                yield Ack(ref=message.ref)
            case Complete() | Fail() | Release():
                yield self._end(message)
            case _:
                if message.ref is not None:
                    yield Ack(ref=message.ref)

    def _end(self, outcome: Outcome) -> EngineMessage:
        if self.store_away:
            return Nack(ref=outcome.ref, code="STORE_UNAVAILABLE", message="retry later")
        earlier = self.outcomes.setdefault(outcome.lease_id, [])
        if self.live.get(outcome.lease_id) == outcome.token:
            del self.live[outcome.lease_id]
            self.credit += 1
            earlier.append(outcome)
            return Ack(ref=outcome.ref)
        if earlier and type(earlier[0]) is type(outcome):
            return Ack(ref=outcome.ref)
        return Nack(ref=outcome.ref, code="LEASE_LOST", message="not yours any more")

    def grant(self, granted: Lease) -> str | None:
        """The frame that grants a lease, or None when the worker has no credit for it."""
        if self.draining or self.credit <= 0 or len(self.live) >= self.capacity:
            return None
        self.credit -= 1
        self.live[granted.lease_id] = granted.token
        return encode_frame([granted])

    def expire(self, lease_id: str) -> None:
        del self.live[lease_id]
        self.expired.add(lease_id)


def cancel(lease_id: str, grace_seconds: float = 5.0) -> str:
    return encode_frame(
        [Cancel(lease_id=lease_id, reason="user_cancelled", grace_seconds=grace_seconds)]
    )
