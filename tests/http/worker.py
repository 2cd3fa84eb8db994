"""A worker that speaks to the shard directly: what a session would say on its behalf."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from jobengine.domain.change import ArtifactRow
from jobengine.domain.failure import Failure
from jobengine.engine import Engine
from jobengine.messages.session import Grant, Granted
from jobengine.messages.worker_reports import (
    ArtifactNamed,
    Attach,
    Completed,
    Detach,
    Failed,
    Logged,
    Reports,
    SetCredit,
)


class Worker:
    def __init__(self, engine: Engine, tenant_id: str) -> None:
        self._shard = engine.registry.shard(tenant_id)
        self._tenant_id = tenant_id
        self._said, self._heard = trio.open_memory_channel[Any](1_000)
        self.session_id = engine.registry.enlist(tenant_id, self)

    def hear(self, message: Any) -> None:
        self._said.send_nowait(message)

    def tick(self, mono: float) -> None:
        pass

    async def attach(self) -> None:
        await self._shard.tell(
            Attach(
                session_id=self.session_id,
                tenant_id=self._tenant_id,
                worker_id="w-1",
                task_runner_id="r-1",
                queues=frozenset(),
                job_types=frozenset(),
                capacity=10,
            )
        )

    async def take(self) -> Grant:
        """One lease, as soon as there is one."""
        await self._shard.tell(SetCredit(session_id=self.session_id, slots=1))
        with trio.fail_after(15):
            while True:
                message = await self._heard.receive()
                if isinstance(message, Granted):
                    return message.leases[0]

    async def report(self, *reports: Any) -> None:
        await self._shard.tell(Reports(session_id=self.session_id, reports=reports))

    async def fail(self, grant: Grant, message: str = "boom", *, retryable: bool = False) -> None:
        error = Failure(class_="Boom", message=message, retryable=retryable)
        await self.report(Failed(lease_id=grant.lease_id, token=grant.token, error=error))

    async def complete(self, grant: Grant, result: bytes = b'{"ok":true}') -> None:
        await self.report(Completed(lease_id=grant.lease_id, token=grant.token, result=result))

    async def log(self, grant: Grant, lines: bytes) -> None:
        await self.report(Logged(lease_id=grant.lease_id, token=grant.token, lines=lines))

    async def name_artifact(self, grant: Grant, name: str) -> None:
        row = ArtifactRow(
            tenant_id=self._tenant_id,
            job_id=grant.job.job_id,
            attempt=grant.job.attempt,
            name=name,
            uri=f"file:///{name}",
            at=1,
        )
        await self.report(ArtifactNamed(lease_id=grant.lease_id, token=grant.token, artifact=row))

    async def detach(self) -> None:
        await self._shard.tell(Detach(session_id=self.session_id))


@asynccontextmanager
async def working(engine: Engine, tenant_id: str = "demo") -> AsyncIterator[Worker]:
    worker = Worker(engine, tenant_id)
    await worker.attach()
    try:
        yield worker
    finally:
        engine.registry.dismiss(worker.session_id)
