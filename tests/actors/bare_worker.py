"""A worker that speaks the shard's alphabet directly: no frames, no sockets."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import trio

from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.failure import Failure
from jobengine.domain.job import Definition
from jobengine.domain.records import NewJob
from jobengine.engine import Engine
from jobengine.messages.lease_shard import Actor
from jobengine.messages.session import Attached, Beaten, Grant, Granted, Settled
from jobengine.messages.worker_reports import (
    Attach,
    Beat,
    Completed,
    Detach,
    Failed,
    GivenBack,
    LeaseClaim,
    Report,
    Reports,
    SetCredit,
)

TENANT = "acme"
PRODUCER = Actor("producer")


class BareWorker:
    """Hears everything its shard says; ``wait_for`` returns what has come once it suffices."""

    def __init__(self, engine: Engine, worker_id: str = "w1", tenant_id: str = TENANT) -> None:
        self._engine = engine
        self._shard = engine.registry.shard(tenant_id)
        self.tenant_id = tenant_id
        self.worker_id = worker_id
        self.session_id = engine.registry.enlist(tenant_id, self)
        self.heard: list[Any] = []
        self._changed = trio.Event()

    def hear(self, message: Any) -> None:
        if isinstance(message, Granted):
            leases = [
                Grant(grant.job, grant.lease_id, grant.token, grant.until_at)
                for grant in message.leases
            ]
            message = Granted(leases=leases)
        self.heard.append(message)
        self._changed.set()
        self._changed = trio.Event()

    def tick(self, mono: float) -> None:
        pass

    async def wait_for(self, ready: Callable[[list[Any]], Any], within_s: float = 600) -> Any:
        with trio.fail_after(within_s):
            while not (found := ready(self.heard)):
                await self._changed.wait()
        return found

    async def attach(
        self,
        *,
        capacity: int = 10,
        credit: int | None = None,
        queues: Sequence[str] = (),
        job_types: Sequence[str] = ("scan",),
        auto_credit: bool = False,
        resume: Sequence[LeaseClaim] = (),
    ) -> Attached:
        await self._shard.tell(
            Attach(
                session_id=self.session_id,
                tenant_id=self.tenant_id,
                worker_id=self.worker_id,
                task_runner_id=self.worker_id,
                queues=frozenset(queues),
                job_types=frozenset(job_types),
                capacity=capacity,
                auto_credit=auto_credit,
                resume=resume,
            )
        )
        attached = await self.wait_for(lambda heard: _last(heard, Attached))
        await self.credit(capacity if credit is None else credit)
        return attached

    async def credit(self, slots: int) -> None:
        await self._shard.tell(SetCredit(session_id=self.session_id, slots=slots))

    async def leases(self, count: int) -> list[Grant]:
        """The first ``count`` leases ever granted to this session, once there are that many."""

        def granted(heard: list[Any]) -> list[Grant]:
            grants = [g for m in heard if isinstance(m, Granted) for g in m.leases]
            return grants[:count] if len(grants) >= count else []

        return await self.wait_for(granted)

    def granted(self) -> list[Grant]:
        return [g for m in self.heard if isinstance(m, Granted) for g in m.leases]

    async def report(self, *reports: Report) -> Settled:
        """Send one frame of reports; what is settled of them, all together."""
        before = sum(isinstance(m, Settled) for m in self.heard)
        await self._shard.tell(Reports(session_id=self.session_id, reports=reports))
        wanted = {report.ref for report in reports}

        def settled(heard: list[Any]) -> Settled | None:
            said = [m for m in heard if isinstance(m, Settled)][before:]
            acks = [ref for m in said for ref in m.acks]
            nacks = [nack for m in said for nack in m.nacks]
            if wanted <= {*acks, *(nack.ref for nack in nacks)}:
                return Settled(acks=acks, nacks=nacks)
            return None

        return await self.wait_for(settled)

    async def complete(self, grant: Grant, result: Any = None) -> Settled:
        return await self.report(
            Completed(
                ref=f"c-{grant.lease_id}",
                lease_id=grant.lease_id,
                token=grant.token,
                result=canonical_of(result),
            )
        )

    async def fail(
        self, grant: Grant, message: str = "boom", *, retryable: bool = True, **also: Any
    ) -> Settled:
        return await self.report(
            Failed(
                ref=f"f-{grant.lease_id}",
                lease_id=grant.lease_id,
                token=grant.token,
                error=Failure(class_="Boom", message=message, retryable=retryable),
                **also,
            )
        )

    async def release(self, grant: Grant, delay_us: int = 0) -> Settled:
        return await self.report(
            GivenBack(
                ref=f"r-{grant.lease_id}",
                lease_id=grant.lease_id,
                token=grant.token,
                delay_us=delay_us,
                reason="snooze",
            )
        )

    async def beat(self) -> Beaten:
        before = sum(isinstance(m, Beaten) for m in self.heard)
        await self._shard.tell(Beat(session_id=self.session_id, ref="b"))
        [beaten, *_] = await self.wait_for(
            lambda heard: [m for m in heard if isinstance(m, Beaten)][before:]
        )
        return beaten

    async def detach(self) -> None:
        self._engine.registry.dismiss(self.session_id)
        await self._shard.tell(Detach(session_id=self.session_id))


def _last(heard: list[Any], kind: type) -> Any:
    return next((message for message in reversed(heard) if isinstance(message, kind)), None)


def new_job(
    engine: Engine, job_type: str = "scan", *, payload: Any = None, **fields: Any
) -> NewJob:
    """A job as a door would hand it in."""
    text = canonical_of({} if payload is None else payload)
    [job_id] = engine.gateway.new_job_ids(1)
    definition = Definition(
        job_type=job_type,
        queue=fields.pop("queue", job_type),
        payload_digest=digest(text),
        correlation_id=job_id,
        **fields,
    )
    return NewJob(
        job_id=job_id,
        definition=definition,
        definition_json=msgspec.json.encode(definition),
        payload=text,
    )


class Submitted(NamedTuple):
    outcome: str
    job_id: str


async def submit(engine: Engine, *jobs: NewJob, tenant_id: str = TENANT) -> list[Submitted]:
    answer = await engine.gateway.submit(tenant_id, PRODUCER, jobs)
    return [Submitted(outcome.outcome, outcome.job_id or "") for outcome in answer.outcomes]
