"""Admission under faults: the real actors on a store that fails, with kills, crashes and restarts;
an auditor that reads only the ledger says whether any limit was ever broken or a slot was lost."""

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.gateway import UnavailableError
from jobengine.domain.blackout import Blackout, BlackoutScope, OneOff
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Quota,
    RatePolicy,
    Source,
    Throttle,
)
from jobengine.domain.errors import RefusedError
from jobengine.domain.failure import Failure
from jobengine.domain.records import NewJob
from jobengine.engine import Engine
from jobengine.messages.admission import BreakerVerb, ChangeControl, OperateBreaker
from jobengine.messages.lease_shard import Actor
from jobengine.messages.rate_bucket import Peek
from jobengine.messages.worker_reports import Completed, Failed, GivenBack
from jobengine.settings import Settings
from jobengine.testing import memory_engine
from tests.actors.admission_auditor import AdmissionAuditor
from tests.actors.auditor import FINAL, Auditor
from tests.actors.bare_worker import new_job
from tests.actors.faulty_store import FaultyStore, chance_of_faults
from tests.actors.test_shard_properties import Seen, SimulatedWorker

TENANT = "acme"
SOURCES, PROJECTS, KEYS = ("osv", "nvd"), ("", "p1", "p2"), ("k1", "k2")
SMALL = Settings(shards=2, lane_jobs_max=64, window_jobs_max=64, due_jobs_max=16, ask_timeout_s=5.0)
ROOMY = Settings(shards=2)
LIVES, LIFE_S, HEAL_WITHIN_S = 3, 60.0, 4 * 3600.0
OPERATOR = Actor("operator", "chaos", "T-1")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Actors fail by the dozen here; rendering each failure takes longer than the rest."""
    with structlog.testing.capture_logs():
        yield


class Worker(SimulatedWorker):
    """Ends its leases well, by its own fault, by the fault of the source, or never."""

    async def work(self, lease_id: str, token: int) -> None:
        dice = self.dice
        if self.honest:
            await self.report(Completed, lease_id, token, result=b"1")
            return
        await trio.sleep(dice.choice((0.0, 0.5, 2.0, 6.0)))
        fate = dice.random()
        if fate < 0.6:
            await self.report(Completed, lease_id, token, result=b"1")
        elif fate < 0.8:
            status = dice.choice((None, 429, 502, 502, 503))
            error = Failure(class_="Boom", message="no", retryable=True, http_status=status)
            retry_after_us = 2_000_000 if status == 503 else None
            await self.report(Failed, lease_id, token, error=error, retry_after_us=retry_after_us)
        elif fate < 0.9:
            await self.report(GivenBack, lease_id, token, delay_us=dice.choice((0, 3_000_000)))


def random_job(engine: Engine, dice: random.Random) -> NewJob:
    fields: dict[str, Any] = {
        "cost": dice.choice((1, 1, 1, 2)),
        "lease_us": dice.choice((5_000_000, 15_000_000)),
        "max_retries": dice.randrange(3),
        "priority": dice.randrange(10),
        "project_id": dice.choice(PROJECTS),
        "source_id": dice.choice((None, *SOURCES)),
    }
    if dice.random() < 0.3:
        fields["concurrency_key"] = key = dice.choice(KEYS)
        fields["concurrency_limit"] = int(key[1])
    return new_job(engine, dice.choice(("scan", "fetch")), **fields)


def random_control(engine: Engine, dice: random.Random) -> tuple[ControlKind, str, Control | None]:
    policy = RatePolicy(burst=dice.randrange(2, 8), per_minute_micro=dice.choice((60, 600)) * 10**6)
    match dice.randrange(8):
        case 0 | 1:
            return "source", dice.choice(SOURCES), a_source(policy, dice)
        case 2:
            name = dice.choice(("running", "hourly"))
            if name == "running":
                return "quota", name, Quota(max_active=dice.randrange(1, 6))
            hourly = Quota(max_per_hour=dice.randrange(200, 900), burst=dice.choice((None, 40)))
            return "quota", name, dice.choice((hourly, None))
        case 3:
            quota = Quota(scope="project", key="p1", max_active=dice.randrange(1, 3))
            return "quota", "project", dice.choice((quota, None))
        case 4:
            return "throttle", "tenant", dice.choice((Throttle(rate=policy), None))
        case 5:
            now_at = engine.clock.moment().at
            window = OneOff(start_at=now_at, end_at=now_at + dice.randrange(1, 9) * 1_000_000)
            blackout = Blackout(
                blackout_id="b",
                calendar=(window,),
                reason="works",
                scope=BlackoutScope.SOURCE,
                key=dice.choice(SOURCES),
            )
            return "blackout", "b", blackout
        case _:
            return "pause", "source:osv", dice.choice((Pause(scope="source", key="osv"), None))


def a_source(policy: RatePolicy, dice: random.Random) -> Source:
    return Source(
        host=dice.choice(("one.example", "two.example")),
        lock_key=dice.choice((None, None, "lock")),
        max_active=dice.choice((None, 3)),
        rate_policy=policy,
        source_type="advisories",
    )


async def change(engine: Engine, kind: ControlKind, name: str, control: Control | None) -> bool:
    try:
        await engine.gateway.change_control(
            TENANT,
            lambda ask_id: ChangeControl(
                ask_id=ask_id,
                tenant_id=TENANT,
                actor=OPERATOR,
                event=f"{kind}.changed",
                kind=kind,
                name=name,
                control=control,
                force=True,
            ),
        )
    except UnavailableError:
        return False
    except RefusedError:
        return True
    return True


async def operate(engine: Engine, dice: random.Random) -> None:
    while True:
        await change(engine, *random_control(engine, dice))
        await trio.sleep(dice.uniform(0.0, 8.0))
        if dice.random() < 0.2:
            await force(engine, dice.choice(SOURCES), dice.choice(("open", "close", "release")))


async def force(engine: Engine, source_id: str, verb: BreakerVerb) -> None:
    with suppress(UnavailableError, RefusedError):
        await engine.gateway.gates(
            TENANT,
            lambda ask_id: OperateBreaker(
                ask_id=ask_id, tenant_id=TENANT, actor=OPERATOR, source_id=source_id, verb=verb
            ),
        )


async def produce(engine: Engine, dice: random.Random) -> None:
    while True:
        await trio.sleep(dice.uniform(0.0, 1.5))
        jobs = [random_job(engine, dice) for _ in range(dice.choice((1, 1, 3, 12)))]
        with suppress(UnavailableError, RefusedError):
            await engine.gateway.submit(TENANT, Actor("producer"), jobs, None)


async def come_and_go(engine: Engine, dice: random.Random) -> None:
    """One worker after the other, each killed after a while."""
    while True:
        worker = Worker(engine, Seen(), dice, TENANT, honest=False)
        with trio.move_on_after(dice.uniform(1.0, 30.0)):
            await worker.run()


async def crash_actors(engine: Engine, dice: random.Random) -> None:
    """Now and then a shard, the ledger or the buckets of a shard meet a message that ends them."""
    boxes = [box for box in engine.mailboxes if box.name != "broadcaster"]
    while True:
        await trio.sleep(dice.uniform(15.0, 40.0))
        if dice.random() < 0.5:
            dice.choice(boxes).deliver(object())
        else:
            for buckets in engine.rates:
                buckets.deliver(Peek(tenant_id=TENANT, stamp=0, requests=[NOT_A_REQUEST]))


NOT_A_REQUEST: Any = object()


async def live(store: FaultyStore, dice: random.Random) -> None:
    with trio.move_on_after(LIFE_S):
        async with (
            memory_engine(store=store, settings=SMALL) as engine,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(produce, engine, dice)
            nursery.start_soon(operate, engine, dice)
            nursery.start_soon(crash_actors, engine, dice)
            for _ in range(4):
                nursery.start_soon(come_and_go, engine, dice)


async def entries_of(store: FaultyStore) -> list[dict[str, Any]]:
    """Every entry of the ledger, once its chain has been found whole."""
    blocks = await store.inner.blocks(TENANT, 0, 1_000_000, 1 << 40)
    Auditor().read(blocks)
    return list(Auditor.entries(blocks))


async def audit(store: FaultyStore) -> AdmissionAuditor:
    auditor = AdmissionAuditor(restarts=True)
    auditor.read(await entries_of(store))
    auditor.finish()
    return auditor


async def unfinished(store: FaultyStore) -> dict[str, str]:
    auditor = Auditor()
    auditor.read(await store.inner.blocks(TENANT, 0, 1_000_000, 1 << 40))
    return {job_id: job.state for job_id, job in auditor.jobs.items() if job.state not in FINAL}


async def all_end(store: FaultyStore) -> None:
    deadline = trio.current_time() + HEAL_WITHIN_S
    while left := await unfinished(store):
        assert trio.current_time() < deadline, f"stuck: {left}"
        await trio.sleep(60)


async def heal(store: FaultyStore) -> None:
    """Without faults, with small limits and an honest worker, everything ends; and a new job of
    each key still starts, so no place was lost."""
    store.plan = None
    dice = random.Random(1)
    policy = RatePolicy(burst=20, per_minute_micro=6000 * 10**6)
    async with (
        memory_engine(store=store, settings=ROOMY) as engine,
        trio.open_nursery() as nursery,
    ):
        for kind, name in (await audit(store)).controls:
            assert await change(engine, kind, name, None)  # type: ignore[arg-type]
        for source_id in SOURCES:
            source = Source(host="one.example", rate_policy=policy, source_type="advisories")
            await change(engine, "source", source_id, source)
        await change(engine, "quota", "all", Quota(max_active=3))
        await change(engine, "quota", "project", Quota(scope="project", key="p1", max_active=1))
        worker = SimulatedWorker(engine, Seen(), dice, TENANT, honest=True)
        nursery.start_soon(worker.run)
        await all_end(store)
        jobs = [
            new_job(engine, concurrency_key=key, concurrency_limit=1, source_id=source, **project)
            for key in KEYS
            for source in SOURCES
            for project in ({}, {"project_id": "p1"})
        ]
        await engine.gateway.submit(TENANT, Actor("producer"), jobs, None)
        await all_end(store)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_no_limit_is_broken_and_no_place_is_lost(
    seed: int, autojump_clock: MockClock
) -> None:
    dice = random.Random(seed)
    store = FaultyStore(plan=chance_of_faults(seed, 0.02 * (seed % 3)))
    for _ in range(LIVES):
        await live(store, dice)
    in_chaos = (await audit(store)).starts
    await heal(store)
    auditor = await audit(store)
    assert not auditor.running
    assert in_chaos > 30
