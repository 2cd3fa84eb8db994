"""Redrives over the real actors: what a restart of any of them, or of the engine, leaves behind."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.domain.change import DeadLetterState
from jobengine.domain.redrive import Redrive, RedriveOrder, RedriveState
from jobengine.engine import Engine, open_database, open_engine
from jobengine.messages.lease_shard import Actor
from jobengine.messages.redriver import ChangeRedrive, StartRedrive
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.store.port import DeadLetterFilter, JobFilter, Store
from tests.actors.bare_worker import TENANT, BareWorker, new_job, submit
from tests.actors.faulty_store import Fault, FaultyStore, fail_call
from tests.actors.test_recovery import audited, crash, engine_over, shard_of_tenant
from tests.postgres_server import PostgresServer, database, postgres_server

__all__ = ["database", "postgres_server"]

ACTOR = Actor("ops", "upstream is back", "T-1")
LETTERS = 12


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


async def until(holds: Callable[[], Any]) -> None:
    """Waits in the time of the clock, whichever it is."""
    with trio.fail_after(600):
        while not await holds():  # noqa: ASYNC110 - the store is watched
            await trio.sleep(0.02)


async def die(engine: Engine, count: int = LETTERS) -> None:
    """As many open dead letters, of jobs that will not be tried again."""
    worker = BareWorker(engine)
    await worker.attach(capacity=count)
    await submit(engine, *(new_job(engine, max_retries=0) for _ in range(count)))
    for grant in await worker.leases(count):
        await worker.fail(grant, retryable=False)
    assert len(await engine.store.dead_letters(TENANT, DeadLetterFilter(), None, 100)) == count
    await worker.detach()


async def start(engine: Engine, spacing_us: int = 1_000_000) -> Redrive:
    gateway = engine.gateway
    order = RedriveOrder(
        created_at=gateway.clock.moment().at,
        created_by="ops",
        matched=LETTERS,
        reason=ACTOR.reason,
        spacing_us=spacing_us,
        ticket=ACTOR.ticket,
    )
    redrive_id = gateway.new_id()
    answer = await gateway.redrive(
        TENANT,
        lambda ask_id: StartRedrive(
            ask_id=ask_id, tenant_id=TENANT, actor=ACTOR, redrive_id=redrive_id, order=order
        ),
    )
    assert answer.redrive is not None
    return answer.redrive


async def change(engine: Engine, redrive: Redrive, target: RedriveState) -> None:
    await engine.gateway.redrive(
        TENANT,
        lambda ask_id: ChangeRedrive(
            ask_id=ask_id,
            tenant_id=TENANT,
            actor=ACTOR,
            redrive_id=redrive.redrive_id,
            target=target,
        ),
    )


async def replayed(store: Store, redrive: Redrive, count: int) -> bool:
    found = await store.redrive(TENANT, redrive.redrive_id)
    return found is not None and found.replayed >= count


async def ended(store: Store, redrive: Redrive) -> bool:
    found = await store.redrive(TENANT, redrive.redrive_id)
    return found is not None and found.state == RedriveState.COMPLETED


async def judge(store: Store, redrive: Redrive) -> None:
    """Every letter was replayed, as one job each, and counted so."""
    found = await store.redrive(TENANT, redrive.redrive_id)
    assert found is not None
    assert (found.replayed, found.failed, found.left) == (LETTERS, 0, 0)
    letters = await store.dead_letters(TENANT, DeadLetterFilter(), None, 100)
    assert {letter.state for letter in letters} == {DeadLetterState.REPLAYED}
    jobs = (await store.job_list(TENANT, JobFilter(), None, 500)).jobs
    copies = [job.definition.replay_of for job in jobs if job.definition.replay_of]
    assert sorted(copies) == sorted(letter.job_id for letter in letters)
    assert {letter.replayed_as for letter in letters} == {
        job.job_id for job in jobs if job.definition.replay_of
    }


async def test_a_redrive_goes_on_in_the_next_life_of_the_engine(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        await die(engine)
        redrive = await start(engine)
        await until(lambda: replayed(store, redrive, 4))
    async with engine_over(store):
        await until(lambda: ended(store, redrive))
    await judge(store, redrive)
    await audited(store)


async def test_a_paused_redrive_is_paused_in_the_next_life_too(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        await die(engine)
        redrive = await start(engine)
        await until(lambda: replayed(store, redrive, 2))
        await change(engine, redrive, RedriveState.PAUSED)
    async with engine_over(store) as engine:
        await trio.sleep(60)
        found = await store.redrive(TENANT, redrive.redrive_id)
        assert found is not None
        assert found.replayed < LETTERS
        await change(engine, redrive, RedriveState.RUNNING)
        await until(lambda: ended(store, redrive))
    await judge(store, redrive)


@pytest.mark.parametrize("actor", ["redriver", "shard"])
async def test_an_actor_that_fails_in_the_middle_costs_no_letter_and_repeats_none(
    autojump_clock: MockClock, actor: str
) -> None:
    # Slow commits, so that there is always something under way when the actor fails.
    store: Any = FaultyStore(plan=fail_call("commit", Fault(before_s=0.3), first=1, last=10_000))
    async with engine_over(store) as engine:
        await die(engine)
        redrive = await start(engine, spacing_us=1_000)
        for count in (1, 3, 6):
            await until(partial(replayed, store, redrive, count))
            crash(engine, "redriver" if actor == "redriver" else shard_of_tenant(engine))
        await until(lambda: ended(store, redrive))
    await judge(store, redrive)
    await audited(store)


async def test_two_redrives_of_the_same_letters_end_while_a_commit_of_another_tenant_is_slow(
    autojump_clock: MockClock,
) -> None:
    store: Any = FaultyStore()
    async with engine_over(store) as engine:
        await die(engine)
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=3600), first=slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(submit, tenant_id="slow"), engine, new_job(engine))
            await wait_all_tasks_blocked()
            redrives = [await start(engine, spacing_us=1_000) for _ in range(2)]
            for redrive in redrives:
                await until(partial(ended, store, redrive))
            found = [await store.redrive(TENANT, each.redrive_id) for each in redrives]
            assert sum(each.replayed for each in found) == LETTERS
            assert all(each.replayed for each in found), "they met"
            nursery.cancel_scope.cancel()


async def test_a_database_that_is_away_for_a_while_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    store: Any = FaultyStore()
    async with engine_over(store) as engine:
        await die(engine)
        redrive = await start(engine, spacing_us=1_000)
        await until(lambda: replayed(store.inner, redrive, 2))
        store.plan = lambda name, number: Fault(away=True)
        await trio.sleep(30)
        store.plan = None
        await until(lambda: ended(store, redrive))
    await judge(store, redrive)


async def test_a_redrive_outlives_the_engine_in_a_real_database(
    postgres_server: PostgresServer, database: str
) -> None:
    settings = Settings(shards=2)
    redrive: Redrive | None = None
    async with open_database(settings, conninfo=database) as store:
        async with open_engine(store, settings) as engine:
            await die(engine)
            redrive = await start(engine, spacing_us=20_000)
            begun = redrive
            await until(lambda: replayed(store, begun, 2))
        async with open_engine(store, settings):
            await until(lambda: ended(store, begun))
        await judge(store, begun)
