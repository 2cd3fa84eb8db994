"""Engine, workers and PostgreSQL are killed and frozen, one after the other, while jobs are
submitted and done: the ledger is whole, nothing accepted is lost, and no job had two owners."""

import os
import random
import signal
from pathlib import Path

import attrs
import trio

from tests.chaos.crowd import Producer, Workers, stopped
from tests.chaos.database import conninfo_of, frozen, postmaster_of
from tests.chaos.schedule import LONG, WITHIN_S, come, strike
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import RunningEngine, Stage

SEED = 20261122
PAUSE_S = (0.2, 0.8) if LONG else (0.1, 0.3)
FROZEN_S = (0.3, 1.5) if LONG else (0.3, 0.6)
SLEPT_S = (1.3, 2.0) if LONG else (1.2, 1.4)
"""Longer than the leases of the producer's jobs."""


@attrs.define(eq=False)
class Harm:
    """The faults, and what they are done to. The addresses of the engine stay."""

    stage: Stage
    engine: RunningEngine
    workers: Workers
    dice: random.Random

    @property
    def cluster(self) -> Path:
        return self.stage.data / "postgres" / "cluster"

    async def kill_engine(self) -> None:
        """Its database goes with it, and comes with the next one."""
        self.engine.kill()
        http = self.engine.http.removeprefix("http://")
        worker = self.engine.worker.removeprefix("ws://")
        self.engine = await trio.to_thread.run_sync(
            self.stage.engine, "--http", http, "--worker", worker
        )

    async def freeze_engine(self) -> None:
        with stopped(self.engine):
            await trio.sleep(self.dice.uniform(*FROZEN_S))

    async def kill_worker(self) -> None:
        self.workers.kill(0)

    async def freeze_worker(self) -> None:
        with stopped(self.dice.choice(self.workers.running)):
            await trio.sleep(self.dice.uniform(*SLEPT_S))

    async def kill_database(self) -> None:
        killed = postmaster_of(self.cluster)
        os.kill(killed, signal.SIGKILL)
        await come(lambda: self._postmaster() not in (None, killed))

    async def freeze_database(self) -> None:
        with frozen(self.cluster):
            await trio.sleep(self.dice.uniform(*FROZEN_S))

    def _postmaster(self) -> int | None:
        try:
            return postmaster_of(self.cluster)
        except (OSError, IndexError, ValueError):
            return None


async def test_nothing_is_lost_and_no_job_has_two_owners(stage: Stage) -> None:
    dice = random.Random(SEED)
    engine = await trio.to_thread.run_sync(stage.engine)
    workers = Workers(stage, engine, engine.worker)
    workers.add()
    workers.add()
    harm = Harm(stage, engine, workers, dice)
    producer = Producer(engine.http, engine, seconds=0.05)
    faults = (
        harm.kill_engine,
        harm.freeze_engine,
        harm.kill_worker,
        harm.freeze_worker,
        harm.kill_database,
        harm.freeze_database,
    )
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer.run)
            await come(workers.began)
            struck = await strike(dice, faults, PAUSE_S)
            producer.stopping = True
        database = conninfo_of(harm.cluster)
        await come(lambda: not unfinished(database, engine.tenant), WITHIN_S)
    await trio.to_thread.run_sync(workers.end)
    assert struck >= len(faults)
    ledger = require_all_done(database, engine.tenant, producer.job_ids)
    require_one_owner(ledger, workers.spans())
