"""PostgreSQL is restarted every few seconds under load, in order and by SIGKILL: nothing that was
accepted is lost, and work goes on between any two restarts. How fast it goes on is measured by
`python -m bench recovery --restarts`."""

import random
import signal
import time

import trio

from tests.chaos.crowd import Producer, Workers
from tests.chaos.database import Database, open_database
from tests.chaos.schedule import LONG, SECONDS, WITHIN_S, come
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import LOOPBACK, Stage

SEED = 20261122
EVERY_S = (5.0, 40.0) if LONG else (0.1, 0.4)
AWAY_S = (0.0, 0.5) if LONG else (0.0, 0.2)
HOW = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""PostgreSQL's fast and immediate shutdown, and the death of its first process."""


async def test_work_goes_on_after_every_restart_of_the_database(stage: Stage) -> None:
    with open_database() as database:
        flags = ("--database-url", database.conninfo, *LOOPBACK)
        engine = await trio.to_thread.run_sync(stage.engine, *flags)
        workers = Workers(stage, engine, engine.worker)
        workers.add()
        workers.add()
        producer = Producer(engine.http, engine)
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(producer.run)
                await come(workers.began)
                await _restart_again_and_again(database, producer, workers)
                producer.stopping = True
            await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
        await trio.to_thread.run_sync(workers.end)
        ledger = require_all_done(database.conninfo, engine.tenant, producer.job_ids)
        assert require_one_owner(ledger, workers.spans()) == 0
        assert engine.terminate() == 0


async def _restart_again_and_again(
    database: Database, producer: Producer, workers: Workers
) -> None:
    dice = random.Random(SEED)
    until, restarts = trio.current_time() + SECONDS, 0
    while restarts < len(HOW) or trio.current_time() < until:
        await trio.sleep(dice.uniform(*EVERY_S))
        await trio.to_thread.run_sync(database.stop, HOW[restarts % len(HOW)])
        await trio.sleep(dice.uniform(*AWAY_S))
        await trio.to_thread.run_sync(database.start)
        restarts += 1
        await _goes_on(producer, workers)


async def _goes_on(producer: Producer, workers: Workers) -> None:
    """Until something is accepted that was not before, and something is run."""
    now, began = time.monotonic(), workers.began()
    await come(lambda: producer.acked_at[-1] > now)
    await come(lambda: workers.began() > began)
