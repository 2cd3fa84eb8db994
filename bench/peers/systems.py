"""Peers and jobengine in one form: processes that submit, processes that work, and the end of it.

A worker works from its start. `settle` returns when everything that was handled is acknowledged,
and says when that was: for jobengine when the last ack of a drain came, for a peer when its
database says that nothing is unfinished, asked every few milliseconds.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import attrs
import trio

from bench.harness.children import LoadProcess, open_load, open_process
from bench.harness.target import Target
from bench.peers.catalog import Peer
from bench.peers.databases import PeerDatabase, create_database
from bench.peers.installation import Installation
from bench.rounds import open_ready_load

__all__ = ["Arena", "JobengineArena", "JobengineSystem", "PeerArena", "PeerSystem", "System"]

_ASK_EVERY_S: Final = 0.005
_CAPACITY: Final = 10_000


class Arena(Protocol):
    """One measurement's place: a job type of its own in jobengine, a database of a peer's."""

    async def submit(self, producer: LoadProcess, jobs: int, **order: Any) -> None:
        """Order `jobs` jobs: batch, clients, payload_bytes, rate?, record?; `bulk` for the best
        way of storing many. To be answered with jobs, began_at, ended_at and record."""
        ...

    def open_producer(self, clients: int, *, bulk: bool = False) -> Any:
        """A process for a block that has said that it is ready."""
        ...

    def open_worker(self, *, record: bool = False) -> Any:
        """A process for a block that works."""
        ...

    async def settle(self, worker: LoadProcess) -> tuple[float, list[tuple[Any, int]]]:
        """When the last of what was handled was acknowledged, in monotonic seconds, and the
        worker's record."""
        ...


class System(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def target(self) -> Target: ...

    def open_arena(self, case: str) -> Any:
        """An `Arena` for a block, with nothing in it."""
        ...


@attrs.define
class JobengineSystem:
    target: Target
    name: str = "jobengine"
    _arenas: int = 0

    @asynccontextmanager
    async def open_arena(self, case: str) -> AsyncIterator[Arena]:
        self._arenas += 1
        job_type = self.target.job_type("peers", case.replace(" ", "_"), self._arenas)
        yield JobengineArena(self.target, job_type)


@attrs.frozen
class JobengineArena:
    target: Target
    job_type: str

    async def submit(self, producer: LoadProcess, jobs: int, **order: Any) -> None:
        clients = order.pop("clients")
        order |= {"job_type": self.job_type, "jobs": jobs}
        if producer.kind == "poster":
            await producer.order(do="post", clients=clients, **order)
        else:
            # Without a rate each client waits for its answer; batches fill one connection.
            in_flight = 60 if order.get("rate") else 1 if order["batch"] == 1 else 24
            await producer.order(do="submit", in_flight=in_flight, **order)

    def open_producer(self, clients: int, *, bulk: bool = False) -> Any:
        if bulk:
            return open_ready_load("poster", self.target)
        return open_ready_load("producer", self.target, connections=clients)

    def open_worker(self, *, record: bool = False) -> Any:
        return open_load(
            "worker",
            **self.target.door(),
            job_type=self.job_type,
            capacity=_CAPACITY,
            record=record,
        )

    async def settle(self, worker: LoadProcess) -> tuple[float, list[tuple[Any, int]]]:
        drained = await worker.ask(do="drain")
        return drained["ended_at"], drained["record"]


@attrs.define
class PeerSystem:
    """A peer with its tables made, in a template of what it is measured in."""

    target: Target
    peer: Peer
    installation: Installation
    template: PeerDatabase

    @property
    def name(self) -> str:
        return self.peer.name

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: Target, peer: Peer, installation: Installation
    ) -> AsyncIterator["PeerSystem"]:
        async with create_database(target.require_database(), f"{peer.name}_template") as template:
            system = cls(target, peer, installation, template)
            command = installation.command(peer)
            async with open_process(peer.name, command, role="setup", url=template.url) as setup:
                await setup.answer()
            yield system

    @asynccontextmanager
    async def open_arena(self, case: str) -> AsyncIterator[Arena]:
        server = self.target.require_database()
        async with create_database(server, self.peer.name, self.template) as database:
            yield PeerArena(self.peer, self.installation, database)


@attrs.frozen
class PeerArena:
    peer: Peer
    installation: Installation
    database: PeerDatabase

    async def submit(self, producer: LoadProcess, jobs: int, **order: Any) -> None:
        await producer.order(do="submit", jobs=jobs, **order)

    def open_producer(self, clients: int, *, bulk: bool = False) -> Any:
        return self._open("producer", clients=clients)

    def open_worker(self, *, record: bool = False) -> Any:
        return self._open("worker", record=record)

    async def settle(self, worker: LoadProcess) -> tuple[float, list[tuple[Any, int]]]:
        unfinished = self.peer.unfinished
        while await trio.to_thread.run_sync(self.database.count, unfinished):  # noqa: ASYNC110
            await trio.sleep(_ASK_EVERY_S)
        ended_at = time.monotonic()
        told = await worker.ask(do="tell")
        return ended_at, told["record"]

    @asynccontextmanager
    async def _open(self, role: str, **plan: Any) -> AsyncIterator[LoadProcess]:
        command = self.installation.command(self.peer)
        async with open_process(
            self.peer.name, command, role=role, url=self.database.url, **plan
        ) as process:
            await process.answer()
            yield process
