"""Packets between engine and PostgreSQL vanish, and neither end is told: commits whose statement
never arrived, and commits whose answer never came, are given up and settled by the engine itself,
with nothing lost and nothing created, committed or run twice.

TCP alone would wait for ever: the proxy's end confirms what it drops."""

import random
from functools import partial

import trio
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.configuration import DATABASE, ROLE
from tests.chaos.crowd import Producer, Workers
from tests.chaos.cutting_proxy import CuttingProxy, open_socket_proxy
from tests.chaos.database import open_database
from tests.chaos.schedule import WITHIN_S, Fault, come, strike
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import LOOPBACK, Stage

SEED = 20261122
PAUSE_S = (0.0, 0.1)
TIMEOUT_S = 0.8
CONNECT_S = 2.0
UNDER_WAY_MAX = 4
"""Commits that may have been committed already, and be acked nonetheless when no answer passes any
more: two beside each other, and one behind each."""
DEADLINES = f"""
commit_timeout_s = {TIMEOUT_S}
read_timeout_s = {TIMEOUT_S}
connect_timeout_s = {CONNECT_S}
"""


async def test_what_becomes_of_commits_without_an_answer_is_found_out(stage: Stage) -> None:
    dice = random.Random(SEED)
    with open_database() as database:
        async with open_socket_proxy(database.socket, SEED) as proxy:
            host, _, port = proxy.address.partition(":")
            conninfo = make_conninfo(host=host, port=port, user=ROLE, dbname=DATABASE)
            file = stage.directory / "jobengine.toml"
            file.write_text(DEADLINES)
            flags = ("--database-url", conninfo, "--config", str(file), *LOOPBACK)
            engine = await trio.to_thread.run_sync(stage.engine, *flags)
            workers = Workers(stage, engine, engine.worker)
            workers.add()
            workers.add()
            producer = Producer(engine.http, engine)
            with trio.fail_after(WITHIN_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(producer.run)
                    await come(workers.began)
                    await strike(dice, _faults(proxy, producer), PAUSE_S)
                    producer.stopping = True
                await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
            await trio.to_thread.run_sync(workers.end)
            assert await trio.to_thread.run_sync(engine.terminate) == 0
        ledger = require_all_done(database.conninfo, engine.tenant, producer.job_ids)
        assert require_one_owner(ledger, workers.spans()) == 0


def _faults(proxy: CuttingProxy, producer: Producer) -> list[Fault]:
    """Each is over when work is taken again, on connections that were opened after it began."""

    async def acks(count: int) -> None:
        before = len(producer.accepted)
        await come(lambda: len(producer.accepted) >= before + count)

    async def settle() -> None:
        await acks(UNDER_WAY_MAX + 1)
        proxy.cut(1.0)

    async def swallow(*, requests: bool = False, answers: bool = False) -> None:
        vanished = proxy.vanished
        while proxy.vanished == vanished:  # It may have met nothing on its way.
            await acks(1)
            proxy.swallow(requests=requests, answers=answers)
            await settle()

    async def lose_near_ends() -> None:
        proxy.lose_near_ends()
        await settle()

    return [
        partial(swallow, requests=True),
        partial(swallow, answers=True),
        partial(swallow, requests=True, answers=True),
        lose_near_ends,
    ]
