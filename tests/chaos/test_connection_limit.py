"""Every connection that PostgreSQL allows is taken by others: the engine refuses and says why, and
goes on by itself once there is room, as one that starts waits for it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import trio

from tests.chaos.crowd import Producer, Workers, unready
from tests.chaos.database import Database, open_database
from tests.chaos.schedule import LONG, SECONDS, WITHIN_S, come
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import LOOPBACK, RunningEngine, Stage

SEED = 20261122
CONNECTIONS_MAX = 20
FULL = "too many clients already"
TAKEN_S = (0.2, 1.0) if LONG else (0.1, 0.3)
_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"


async def test_an_engine_without_connections_refuses_and_goes_on(stage: Stage) -> None:
    dice = random.Random(SEED)
    with open_database(connections_max=CONNECTIONS_MAX) as database:
        # The engine logs in as a superuser here, who else would have connections of its own.
        database.execute("ALTER SYSTEM SET superuser_reserved_connections = 0")
        await trio.to_thread.run_sync(database.stop)
        await trio.to_thread.run_sync(database.start)
        flags = ("--database-url", database.conninfo, *LOOPBACK)
        with taken(database):
            refused = await trio.to_thread.run_sync(stage.run, "up", *flags)
            assert refused.returncode == 1
            assert FULL in refused.stderr.strip().splitlines()[-1]
        engine = await trio.to_thread.run_sync(stage.engine, *flags)
        workers = Workers(stage, engine, engine.worker)
        workers.add()
        producer = Producer(engine.http, engine)
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(producer.run)
                await come(workers.began)
                until, times = trio.current_time() + SECONDS, 0
                while times == 0 or trio.current_time() < until:
                    await _take_all(database, engine, producer, dice.uniform(*TAKEN_S))
                    times += 1
                producer.stopping = True
            await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
        await trio.to_thread.run_sync(workers.end)
        ledger = require_all_done(database.conninfo, engine.tenant, producer.job_ids)
        assert require_one_owner(ledger, workers.spans()) == 0
        assert engine.terminate() == 0


async def _take_all(
    database: Database, engine: RunningEngine, producer: Producer, seconds: float
) -> None:
    """Others have every connection, for this long after the engine was seen to say so."""
    refusals = len(producer.refusals)
    with taken(database):
        await come(lambda: FULL in unready(engine))
        await come(lambda: len(producer.refusals) > refusals)
        await trio.sleep(seconds)
    await come(lambda: not unready(engine))
    accepted = len(producer.accepted)
    await come(lambda: len(producer.accepted) > accepted)


@contextmanager
def taken(database: Database) -> Iterator[None]:
    """Every connection is ours during the block; who had one is thrown out."""
    held: list[psycopg.Connection] = []
    try:
        while len(held) < CONNECTIONS_MAX:
            if held:
                held[0].execute(_OTHERS, ("jobengine%",))
            with suppress(psycopg.OperationalError):
                held.append(
                    psycopg.connect(database.conninfo, autocommit=True, application_name="greedy")
                )
        yield
    finally:
        for connection in held:
            connection.close()
