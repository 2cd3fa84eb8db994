"""The ledger's shell: commits of different tenants beside each other, over the real actors."""

import trio
from trio.testing import MockClock

from jobengine.engine import Engine
from jobengine.settings import Settings
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, new_job
from tests.actors.faulty_store import Fault, FaultyStore, fail_call


async def submit_as(tenant_id: str, engine: Engine, done: list[str]) -> None:
    await engine.gateway.submit(tenant_id, PRODUCER, [new_job(engine)], None)
    done.append(tenant_id)


async def test_a_tenant_is_answered_while_the_commit_of_another_is_under_way(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        done: list[str] = []
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=5.0), first=slow)
        began_mono = trio.current_time()
        nursery.start_soon(submit_as, "loud", engine, done)
        await trio.sleep(1)
        nursery.start_soon(submit_as, "quiet", engine, done)
        await trio.sleep(1)
        assert done == ["quiet"]
        since_mono = engine.ledger.state.committing_since_mono
        assert since_mono is not None
        assert began_mono <= since_mono < began_mono + 1, "the oldest commit is the one to tell of"
        await trio.sleep(5)
        assert done == ["quiet", "loud"]
        assert engine.ledger.state.committing_since_mono is None


async def test_with_one_commit_at_a_time_a_tenant_waits_for_that_of_another(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    settings = Settings(commits_in_flight_max=1)
    async with (
        memory_engine(store=store, settings=settings) as engine,
        trio.open_nursery() as nursery,
    ):
        done: list[str] = []
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=5.0), first=slow)
        nursery.start_soon(submit_as, "loud", engine, done)
        await trio.sleep(1)
        nursery.start_soon(submit_as, "quiet", engine, done)
        await trio.sleep(1)
        assert done == []
        await trio.sleep(5)
        assert done == ["loud", "quiet"]
