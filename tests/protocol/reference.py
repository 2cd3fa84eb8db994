"""The least engine that meets the conformance vectors: one worker, memory, no time.

It exists so that a vector that contradicts itself is found without a server.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from jobengine.wire.engine_messages import Ack, EngineMessage, ErrorFrame, Lease, Nack, Welcome
from jobengine.wire.frames import Malformed, decode_worker_frame, encode_frame
from jobengine.wire.jobs import BulkItem, ErrorBody, JobRequest, decode_job_requests
from jobengine.wire.worker_messages import (
    Complete,
    Credit,
    Drain,
    Fail,
    Heartbeat,
    Hello,
    Release,
    Submit,
    WorkerMessage,
)


class _Job:
    def __init__(self, serial: int, request: JobRequest) -> None:
        self.job_id = f"job-{serial}"
        self.request = request
        self.attempt = self.failures = 0


class ReferenceEngine:
    """State outlives connections; `connect` is what the runner wants."""

    def __init__(self) -> None:
        self.ready: list[_Job] = []
        self.live: dict[str, tuple[_Job, int]] = {}
        self.ended: dict[str, tuple[int, str]] = {}
        self.serial = 0
        self.hello: Hello | None = None
        self.credit = 0
        self.draining = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["_Connection"]:
        self.hello, self.credit, self.draining = None, 0, False
        yield _Connection(self)

    def receive(self, text: str) -> list[EngineMessage]:
        answers: list[EngineMessage] = []
        for message in decode_worker_frame(text):
            if isinstance(message, Malformed):
                answers.append(
                    ErrorFrame(
                        ref=message.ref,
                        code=message.code,
                        message=message.message,
                        path=message.path,
                    )
                )
            elif self.hello is None and not isinstance(message, Hello):
                answers.append(ErrorFrame(code="HELLO_REQUIRED", message="say hello first"))
            else:
                answers.extend(self._answer(message))
        return answers + self._grant()

    def _answer(self, message: WorkerMessage) -> list[EngineMessage]:
        match message:
            case Hello():
                self.hello = message
                named = [item.lease_id for item in message.resume]
                return [
                    Welcome(
                        session_id="s",
                        node_id="n",
                        lease_seconds=30,
                        heartbeat_seconds=10.0,
                        resumed=[name for name in named if name in self.live],
                        lost=[name for name in named if name not in self.live],
                    )
                ]
            case Credit():
                self.credit = message.slots
                return []
            case Drain():
                self.draining = True
            case Heartbeat():
                named = [item.lease_id for item in message.leases or []]
                lost = [name for name in named if name not in self.live]
                return [Ack(ref=message.ref, lost=lost)]
            case Submit():
                return [Ack(ref=message.ref, jobs=self._submit(message))]
            case Complete() | Fail() | Release():
                return [self._end(message)]
            case _:
                pass
        return [Ack(ref=message.ref)]

    def _submit(self, submit: Submit) -> list[BulkItem]:
        items = []
        for index, request in enumerate(decode_job_requests(submit.jobs)):
            if isinstance(request, JobRequest):
                items.append(BulkItem(index, "created", self._create(request).job_id))
            else:
                error = ErrorBody(code=request.code, message=request.message)
                items.append(BulkItem(index, "rejected", error=error))
        return items

    def _create(self, request: JobRequest) -> _Job:
        self.serial += 1
        job = _Job(self.serial, request)
        self.ready.append(job)
        return job

    def _end(self, outcome: Complete | Fail | Release) -> EngineMessage:
        kind = type(outcome).__name__
        job, token = self.live.get(outcome.lease_id, (None, 0))
        if job is None or token != outcome.token:
            if self.ended.get(outcome.lease_id) == (outcome.token, kind):
                return Ack(ref=outcome.ref)
            return Nack(ref=outcome.ref, code="LEASE_LOST", message="the lease is not yours")
        del self.live[outcome.lease_id]
        self.ended[outcome.lease_id] = (token, kind)
        if self.hello is not None and self.hello.auto_credit:
            self.credit += 1
        if isinstance(outcome, Complete):
            for request in outcome.follow_ups:
                self._create(request)
        elif isinstance(outcome, Fail):
            job.failures += 1
            if outcome.error.retryable and job.failures <= job.request.max_retries:
                self.ready.append(job)
        else:
            self.ready.append(job)
        return Ack(ref=outcome.ref)

    def _grant(self) -> list[EngineMessage]:
        leases: list[EngineMessage] = []
        capacity = 0 if self.hello is None or self.draining else self.hello.capacity
        while self.ready and self.credit > 0 and len(self.live) < capacity:
            job = self.ready.pop(0)
            job.attempt += 1
            self.credit -= 1
            lease_id = f"{job.job_id}-{job.attempt}"
            self.live[lease_id] = (job, job.attempt)
            leases.append(_lease(job, lease_id))
        return leases


def _lease(job: _Job, lease_id: str) -> Lease:
    return Lease(
        job_id=job.job_id,
        job_type=job.request.job_type,
        queue=job.request.queue or job.request.job_type,
        attempt=job.attempt,
        failures=job.failures,
        max_retries=job.request.max_retries,
        lease_id=lease_id,
        token=job.attempt,
        lease_until="2026-11-21T12:00:00.000Z",
        lease_seconds=job.request.lease_seconds,
        heartbeat_seconds=10.0,
        idempotency_key=f"{job.job_id}:{job.attempt}",
        tenant_id="acme",
        correlation_id=job.job_id,
        payload=job.request.payload.copy(),
    )


class _Connection:
    def __init__(self, engine: ReferenceEngine) -> None:
        self._engine = engine
        self._send, self._receive = trio.open_memory_channel[str](math.inf)

    async def send(self, text: str) -> None:
        if answers := self._engine.receive(text):
            await self._send.send(encode_frame(answers))

    async def receive(self) -> str:
        return await self._receive.receive()

    async def drop(self) -> None:
        self._engine.hello = None
