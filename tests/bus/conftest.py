"""An engine in memory with a bus beside it, and a real server of that bus."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from jobengine.bus import Bus, open_bus
from jobengine.domain.redaction import Redactor
from jobengine.engine import Engine
from jobengine.messages.lease_shard import Actor
from jobengine.settings import Settings
from jobengine.store.port import JobFilter, Store
from jobengine.testing import memory_engine
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import new_job
from tests.bus.servers import Server, running


@pytest.fixture(params=["nats", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, tmp_path) as server:
        yield server


@attrs.frozen
class Node:
    """An engine with its bus."""

    engine: Engine
    bus: Bus

    async def submit(self, tenant_id: str, count: int = 1) -> None:
        gateway = self.engine.gateway
        request = JobRequest(job_type="scan")
        jobs = [new_job(request, job_id) for job_id in gateway.new_job_ids(count)]
        await gateway.submit(tenant_id, Actor("tester"), jobs)

    async def jobs(self, tenant_id: str) -> list[Any]:
        page = await self.engine.store.job_list(tenant_id, JobFilter(), None, 1_000)
        return list(page.jobs)

    async def published(self) -> None:
        """Returns when nobody is behind, and the cursors say so."""
        feed = f"bus:{self.bus.address.kind}"
        await until(lambda: self.engine.store.feeds_behind(feed, "", 1), [])


@asynccontextmanager
async def open_node(url: str, store: Store | None = None, **settings: Any) -> AsyncIterator[Node]:
    given: dict[str, Any] = {"shards": 2, "bus_url": url, "bus_jobs": "on", "bus_retry_s": 0.3}
    async with (
        memory_engine(settings=Settings(**(given | settings)), store=store) as engine,
        open_bus(engine, Redactor()) as bus,
    ):
        assert bus is not None
        yield Node(engine, bus)


def asking(look: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """What can be seen at once, in the form that `until` asks in."""

    async def asked() -> object:
        return look()

    return asked


async def until(ask: Callable[[], Awaitable[object]], wanted: object, within_s: float = 60) -> None:
    """Ask again and again until the answer is this one."""
    answer: object = None
    with trio.move_on_after(within_s):
        while True:
            answer = await ask()
            if answer == wanted:
                return
            await trio.sleep(0.02)
    pytest.fail(f"still {answer!r}, and not {wanted!r}")
