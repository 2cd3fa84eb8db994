"""Between engine and PostgreSQL, workers and engine, producer and engine there is a network that is
slow, hangs, cuts, and leaves connections half open: nothing is lost, created twice or run twice."""

import random
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from urllib.parse import urlsplit

import attrs
import trio
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.configuration import DATABASE, ROLE
from tests.chaos.crowd import Producer, Workers
from tests.chaos.cutting_proxy import CuttingProxy, open_proxy, open_socket_proxy
from tests.chaos.database import open_database
from tests.chaos.schedule import LONG, WITHIN_S, Fault, come, strike
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import LOOPBACK, Stage

SEED = 20261122
PAUSE_S = (0.0, 0.2) if LONG else (0.0, 0.05)
FAULT_S = (0.2, 0.6) if LONG else (0.1, 0.3)
LATENCY_S = (0.01, 0.1)
BYTES_PER_S = (20_000.0, 100_000.0)


@attrs.define(eq=False)
class Network:
    """The three ways, and what may happen on each of them."""

    database: CuttingProxy
    workers: CuttingProxy
    producer: CuttingProxy
    dice: random.Random

    @property
    def all(self) -> tuple[CuttingProxy, ...]:
        return self.database, self.workers, self.producer

    async def be_far(self, way: CuttingProxy) -> None:
        way.latency_s = self.dice.uniform(*LATENCY_S)
        await self._wait()
        way.latency_s = 0.0

    async def be_narrow(self, way: CuttingProxy) -> None:
        way.bytes_per_s = self.dice.uniform(*BYTES_PER_S)
        await self._wait()
        way.bytes_per_s = inf

    async def hang(self, way: CuttingProxy) -> None:
        async with way.hold():
            await self._wait()

    async def cut(self, way: CuttingProxy) -> None:
        way.cut(self.dice.choice((0.5, 1.0)))

    async def lose_far_ends(self, way: CuttingProxy) -> None:
        """The near ends hear of it when the network next tells them, as keep-alive makes it."""
        way.half_open()
        await self._wait()
        way.cut(1.0)

    async def _wait(self) -> None:
        await trio.sleep(self.dice.uniform(*FAULT_S))


async def test_nothing_is_lost_or_done_twice_on_a_bad_network(stage: Stage) -> None:
    dice = random.Random(SEED)
    with open_database() as database:
        async with open_socket_proxy(database.socket, SEED) as to_database:
            host, _, port = to_database.address.partition(":")
            conninfo = make_conninfo(host=host, port=port, user=ROLE, dbname=DATABASE)
            flags = ("--database-url", conninfo, *LOOPBACK)
            engine = await trio.to_thread.run_sync(stage.engine, *flags)
            async with _open(engine.worker) as for_workers, _open(engine.http) as for_producer:
                network = Network(to_database, for_workers, for_producer, dice)
                workers = Workers(stage, engine, f"ws://{for_workers.address}")
                workers.add()
                workers.add()
                producer = Producer(f"http://{for_producer.address}", engine)
                with trio.fail_after(WITHIN_S):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(producer.run)
                        await come(workers.began)
                        await strike(dice, _faults(network), PAUSE_S)
                        producer.stopping = True
                    await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
                await trio.to_thread.run_sync(workers.end)
                assert await trio.to_thread.run_sync(engine.terminate) == 0
        ledger = require_all_done(database.conninfo, engine.tenant, producer.job_ids)
        require_one_owner(ledger, workers.spans())
        assert all(way.cuts for way in network.all)


def _faults(network: Network) -> list[Fault]:
    kinds = (network.be_far, network.be_narrow, network.hang, network.cut, network.lose_far_ends)
    return [partial(kind, way) for kind in kinds for way in network.all]


def _open(url: str) -> AbstractAsyncContextManager[CuttingProxy]:
    where = urlsplit(url)
    return open_proxy(where.hostname or "", where.port or 0, SEED)
