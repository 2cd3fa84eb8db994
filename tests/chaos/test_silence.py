"""Packets between engine and PostgreSQL vanish, and neither end is told: commits whose statement
never arrived, and commits whose answer never came, are settled within the time that a commit may
take, with nothing lost and nothing created, committed or run twice."""

import random
import time
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
TIMEOUT_S = 0.4
CONNECT_S = 2.0
SETTLED_S = 2 * TIMEOUT_S + CONNECT_S + 5.0
"""From the first vanished packet until new work is taken again, at most: a commit or a read is
given up, perhaps a connection that was being opened as well, and what is opened then is used."""
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
            settled_s: list[float] = []
            with trio.fail_after(WITHIN_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(producer.run)
                    await come(workers.began)
                    await strike(dice, _faults(proxy, producer, settled_s), PAUSE_S)
                    producer.stopping = True
                await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
            await trio.to_thread.run_sync(workers.end)
            assert await trio.to_thread.run_sync(engine.terminate) == 0
        ledger = require_all_done(database.conninfo, engine.tenant, producer.job_ids)
        assert require_one_owner(ledger, workers.spans()) == 0
        assert max(settled_s) < SETTLED_S
        assert max(settled_s) > TIMEOUT_S, "no commit was under way in any of it"


def _faults(proxy: CuttingProxy, producer: Producer, settled_s: list[float]) -> list[Fault]:
    """Each is over when work is taken again, on connections that were opened after it began."""

    async def swallow(*, requests: bool = False, answers: bool = False) -> None:
        began_at = time.monotonic()
        proxy.swallow(requests=requests, answers=answers)
        # What was answered before may still be on its way to the producer.
        await come(lambda: producer.acked_at[-1] > began_at + TIMEOUT_S / 2)
        settled_s.append(time.monotonic() - began_at)
        proxy.cut(1.0)

    async def lose_near_ends() -> None:
        began_at = time.monotonic()
        proxy.lose_near_ends()
        await come(lambda: producer.acked_at[-1] > began_at)
        settled_s.append(time.monotonic() - began_at)
        proxy.cut(1.0)

    return [
        partial(swallow, requests=True),
        partial(swallow, answers=True),
        partial(swallow, requests=True, answers=True),
        lose_near_ends,
    ]
