"""An engine that is frozen for longer than leases last, as a suspended machine is: when it goes on,
nobody's job is given to somebody else before its worker had a full period to be heard again."""

import random
import time
from functools import partial

import trio

from tests.chaos.crowd import Producer, Workers, stopped
from tests.chaos.database import conninfo_of
from tests.chaos.schedule import LONG, SECONDS, WITHIN_S, come
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import Stage

SEED = 20261122
LEASE_S = 2 if LONG else 1
JOB_S = 2.5 * LEASE_S
JOBS = 8
"""As many as one of two workers has room for: the other one is free to take what is lost."""


async def test_no_lease_ends_before_its_worker_could_be_heard_again(stage: Stage) -> None:
    dice = random.Random(SEED)
    engine = await trio.to_thread.run_sync(stage.engine)
    database = conninfo_of(stage.data / "postgres" / "cluster")
    workers = Workers(stage, engine, engine.worker)
    workers.add()
    workers.add()
    fields = {"lease_seconds": LEASE_S}
    producer = Producer(engine.http, engine, batch=JOBS, fields=fields, seconds=JOB_S)
    with trio.fail_after(WITHIN_S):
        until = trio.current_time() + SECONDS
        woken_at: list[float] = []
        while not woken_at or trio.current_time() < until:
            await producer.submit()
            await come(partial(workers.have_begun, JOBS * (len(woken_at) + 1)))
            with stopped(engine):
                await trio.sleep(LEASE_S * dice.uniform(1.2, 1.6))
            woken_at.append(time.time())
            await come(lambda: not unfinished(database, engine.tenant))
    await trio.to_thread.run_sync(workers.end)
    ledger = require_all_done(database, engine.tenant, producer.job_ids)
    require_one_owner(ledger, workers.spans())
    for entry in ledger.entries:
        if entry.get("reason") == "lease_expired":
            ended_at = entry["at"] / 1e6
            assert ended_at - max(at for at in woken_at if at <= ended_at) > 0.95 * LEASE_S
