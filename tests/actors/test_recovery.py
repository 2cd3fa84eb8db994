"""Restarts in the middle of each step: what a successor finds, over the real actors."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.runtime.dice import SeededDice
from jobengine.domain.job import Job, State
from jobengine.engine import Engine
from jobengine.messages.lease_shard import CancelJob, IdempotencyClaim, SubmitAnswer
from jobengine.messages.session import Grant, Settled, ShardRestarted
from jobengine.messages.shard_commands import LedgerAway
from jobengine.messages.worker_reports import Completed, LeaseClaim, Reports
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.auditor import Auditor
from tests.actors.bare_worker import PRODUCER, TENANT, BareWorker, new_job, submit
from tests.actors.faulty_store import Fault, FaultyStore, fail_call

SMALL = Settings(shards=2, lane_jobs_max=64, window_jobs_max=64, due_jobs_max=16)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@asynccontextmanager
async def engine_over(store: Any, settings: Settings = SMALL) -> AsyncIterator[Engine]:
    async with memory_engine(store=store, settings=settings) as engine:
        yield engine


async def job_of(store: Any, job_id: str | None) -> Job:
    assert job_id is not None
    [job] = await store.jobs(TENANT, [job_id])
    found: Job = job
    return found


async def audited(store: Any) -> Auditor:
    auditor = Auditor()
    auditor.read(await store.blocks(TENANT, 0, 1_000_000, 1 << 40))
    return auditor


async def finish(worker: BareWorker, count: int) -> list[str]:
    """Complete at least the next ``count`` leases; their jobs in the order of their grants."""
    done: list[str] = []
    with trio.fail_after(3600):
        while len(done) < count:
            for grant in worker.granted()[len(done) :]:
                await worker.complete(grant)
                done.append(grant.job.job_id)
            await trio.sleep(0.1)
    return done


def crash(engine: Engine, name: str) -> None:
    """Send an actor what it does not understand."""
    [box] = [box for box in engine.mailboxes if box.name == name]
    box.deliver(object())


def shard_of_tenant(engine: Engine) -> str:
    return engine.registry.shard(TENANT).name


# ---- a second engine on the same store


async def test_a_grant_that_was_committed_but_never_told_expires_and_is_granted_anew(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        await submit(engine, new_job(engine, lease_us=10_000_000))
        commits = store.calls["commit"]
        store.plan = fail_call("commit", Fault(after_s=1e6), first=commits + 1)
        worker = BareWorker(engine)
        await worker.attach()
        await trio.sleep(1)
        assert worker.granted() == []
    async with engine_over(store) as engine:
        assert sum(shard.core.leases for shard in engine.shards if shard.core) == 1
        worker = BareWorker(engine, "w2")
        await worker.attach()
        [grant] = await worker.leases(1)
        assert (grant.token, grant.job.crashes) == (2, 1)


async def test_a_report_that_was_committed_but_never_acknowledged_is_acknowledged_again(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        store.plan = fail_call("commit", Fault(after_s=1e6), first=store.calls["commit"] + 1)
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await worker.complete(grant, {"n": 1})
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        attached = await worker.attach(resume=[LeaseClaim(grant.lease_id, grant.token)])
        assert attached.lost == [grant.lease_id]
        assert (await worker.complete(grant, {"n": 1})).acks
        assert (await worker.complete(grant, {"n": 2})).nacks
        assert (await job_of(store, outcome.job_id)).result == b'{"n":1}'


async def test_a_submit_whose_answer_was_lost_is_answered_from_its_idempotency_key(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    claim = IdempotencyClaim("key", "POST /jobs", "digest")
    async with engine_over(store) as engine:
        job = new_job(engine)
        store.plan = fail_call("commit", Fault(after_s=1e6))
        with trio.move_on_after(5):
            await engine.gateway.submit(TENANT, PRODUCER, [job], claim)
    async with engine_over(store) as engine:
        answer = await engine.gateway.submit(TENANT, PRODUCER, [new_job(engine)], claim)
        assert isinstance(answer, SubmitAnswer)
        assert answer.replayed
        assert answer.stored is not None
        assert job.job_id.encode() in answer.stored
        assert list((await audited(store)).jobs) == [job.job_id]


async def test_delayed_jobs_of_every_age_run_after_a_restart_each_at_its_time(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        start_at = engine.clock.moment().at
        jobs = [new_job(engine, not_before=start_at + n * 1_000_000) for n in range(1, 121)]
        await submit(engine, *jobs)
    await trio.sleep(60)
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach(capacity=200, auto_credit=True)
        done = await finish(worker, 120)
        assert sorted(done) == sorted(job.job_id for job in jobs)
        for job in await store.jobs(TENANT, done):
            assert job.started_at is not None
            assert job.started_at >= job.due_at
            late_us = job.started_at - max(job.due_at, start_at + 60_000_000)
            assert late_us < 1_000_000


async def test_more_expiries_than_fit_in_memory_all_take_effect_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        at = engine.clock.moment().at
        held = [
            new_job(engine, hold=bool(n % 2), expires_at=at + n * 1_000_000) for n in range(1, 101)
        ]
        await submit(engine, *held)
        await trio.sleep(20)
    await trio.sleep(30)
    async with engine_over(store):
        await trio.sleep(52)
        jobs = await store.jobs(TENANT, [job.job_id for job in held])
        assert {(job.state, job.reason) for job in jobs} == {(State.CANCELLED, "expired")}


async def test_a_lane_many_times_its_window_is_granted_in_order_and_whole(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    expected: list[tuple[int, str]] = []
    async with engine_over(store) as engine:
        for priority in (5, 9, 0, 3, 5, 9):
            jobs = [new_job(engine, priority=priority) for _ in range(50)]
            at = engine.clock.moment().at
            await submit(engine, *jobs)
            expected += [(at - priority * 60_000_000, job.job_id) for job in jobs]
            await trio.sleep(1)
        worker = BareWorker(engine)
        await worker.attach(capacity=7, auto_credit=True)
        first = await finish(worker, 150)
        await worker.detach()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach(capacity=7, auto_credit=True)
        rest = await finish(worker, 300 - len(first))
    # What stood leased at the restart comes back behind the others, so order is of the first life.
    order = [job_id for _, job_id in sorted(expected)]
    assert first == order[: len(first)]
    assert sorted({*first, *rest}) == sorted(order)


async def test_many_lanes_share_a_window_smaller_than_any_of_them(
    autojump_clock: MockClock,
) -> None:
    async with engine_over(MemoryStore()) as engine:
        types = [f"type{number}" for number in range(6)]
        for job_type in types:
            await submit(engine, *(new_job(engine, job_type) for _ in range(100)))
        held = sum(sum(s.core.ready_counts().values()) for s in engine.shards if s.core)
        assert held <= SMALL.window_jobs_max
        workers = [BareWorker(engine, f"w-{job_type}") for job_type in types]
        async with trio.open_nursery() as nursery:
            for worker, job_type in zip(workers, types, strict=True):
                await worker.attach(capacity=3, auto_credit=True, job_types=[job_type])
                nursery.start_soon(finish, worker, 100)


async def test_every_shard_goes_on_where_it_stood(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    settings = Settings(shards=16)
    tenants = [f"tenant-{number}" for number in range(40)]
    async with engine_over(store, settings) as engine:
        for tenant in tenants:
            await submit(engine, new_job(engine), new_job(engine), tenant_id=tenant)
    async with engine_over(store, settings) as engine:
        for tenant in tenants:
            worker = BareWorker(engine, tenant_id=tenant)
            await worker.attach(auto_credit=True)
            await finish(worker, 2)
        for tenant in tenants:
            assert not any((await store.job_counts(tenant)).values())


async def test_a_timeout_goes_on_counting_over_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(
            engine, new_job(engine, timeout_us=60_000_000, lease_us=3600_000_000, max_retries=0)
        )
        await worker.leases(1)
        await trio.sleep(40)
    async with engine_over(store):
        await trio.sleep(19)
        assert (await job_of(store, outcome.job_id)).state is State.RUNNING
        await trio.sleep(2)
        job = await job_of(store, outcome.job_id)
        assert (job.state, job.reason, job.crashes) == (State.FAILED, "timed_out", 0)


async def test_a_cancel_from_before_a_restart_takes_effect_though_its_worker_goes_on(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        await engine.gateway.operate(
            TENANT,
            lambda ask_id: CancelJob(
                ask_id=ask_id, tenant_id=TENANT, job_id=grant.job.job_id, actor=PRODUCER
            ),
        )
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach(resume=[LeaseClaim(grant.lease_id, grant.token)])
        for _ in range(8):
            await trio.sleep(5)
            await worker.beat()
        assert (await job_of(store, outcome.job_id)).state is State.CANCELLED


# ---- the same engine


async def test_a_shard_that_crashes_tells_its_sessions_and_keeps_their_leases(
    autojump_clock: MockClock,
) -> None:
    async with engine_over(MemoryStore()) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        crash(engine, shard_of_tenant(engine))
        await worker.wait_for(lambda heard: [m for m in heard if isinstance(m, ShardRestarted)])
        worker.heard.clear()
        attached = await worker.attach(resume=[LeaseClaim(grant.lease_id, grant.token)])
        assert attached.resumed == [grant.lease_id]
        assert (await worker.complete(grant)).acks


async def test_a_ledger_that_crashes_takes_its_shards_with_it_and_all_go_on(
    autojump_clock: MockClock,
) -> None:
    async with engine_over(MemoryStore()) as engine:
        worker, other = BareWorker(engine), BareWorker(engine, tenant_id="globex")
        for session in (worker, other):
            await session.attach()
        await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        crash(engine, "ledger")
        for session in (worker, other):
            await session.wait_for(
                lambda heard: [m for m in heard if isinstance(m, ShardRestarted)]
            )
        await worker.attach(resume=[LeaseClaim(grant.lease_id, grant.token)])
        assert (await worker.complete(grant)).acks
        await submit(engine, new_job(engine))
        await worker.leases(2)
        await audited(engine.store)


async def test_a_ledger_that_gives_up_while_the_database_is_away_leaves_the_doors_open(
    autojump_clock: MockClock,
) -> None:
    """Somebody else moved the heads while a commit was not known to have taken effect."""
    store = FaultyStore()
    async with engine_over(store) as engine:
        await submit(engine, new_job(engine))
        async with memory_engine(store=Rival(store), settings=SMALL, dice=SeededDice(2)) as rival:
            store.plan = fail_call(
                "commit",
                Fault(away=True, unknown=True),
                first=store.calls["commit"] + 1,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails_to_submit, engine)
                await wait_all_tasks_blocked()
                await submit(rival, new_job(rival))
        await trio.sleep(10)
        assert engine.gateway.ledger.away_since_mono is None
        await submit(engine, new_job(engine))
        assert len((await audited(store)).jobs) == 3


class Rival:
    """The same store as another process would see it, without the faults of the first."""

    def __init__(self, store: FaultyStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.inner, name)


async def fails_to_submit(engine: Engine) -> None:
    with pytest.raises(UnavailableError):
        await submit(engine, new_job(engine))


async def test_shards_read_nothing_while_a_commit_of_an_earlier_ledger_may_be_under_way(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        read = store.calls["leased"]
        store.plan = lambda name, _: Fault(away=True) if name == "settled_heads" else None
        crash(engine, "ledger")
        await trio.sleep(300)
        assert store.calls["leased"] == read
        assert engine.gateway.ledger.trouble == "doubt"
        store.plan = None
        await worker.wait_for(lambda heard: [m for m in heard if isinstance(m, ShardRestarted)])
        assert engine.gateway.ledger.trouble is None


async def test_a_shard_that_starts_while_the_database_is_away_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach(credit=0)
        [outcome] = await submit(engine, new_job(engine))
        store.plan = lambda name, _: Fault(away=True)
        crash(engine, shard_of_tenant(engine))
        await trio.sleep(300)
        store.plan = None
        await worker.wait_for(lambda heard: [m for m in heard if isinstance(m, ShardRestarted)])
        await worker.attach()
        [grant] = await worker.leases(1)
        assert grant.job.job_id == outcome.job_id


async def test_leases_do_not_expire_while_the_database_is_away(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine, lease_us=20_000_000))
        [grant] = await worker.leases(1)
        store.plan = lambda name, _: Fault(away=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(complete_patiently, worker, grant)
            await trio.sleep(3600)
            with pytest.raises(UnavailableError):
                await submit(engine, new_job(engine))
            store.plan = None
        assert (await job_of(store, grant.job.job_id)).state is State.COMPLETED


async def test_what_a_ledger_that_has_died_said_last_stops_no_lease_of_the_next_one(
    autojump_clock: MockClock,
) -> None:
    async with engine_over(MemoryStore()) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        crash(engine, "ledger")
        await worker.wait_for(lambda heard: [m for m in heard if isinstance(m, ShardRestarted)])
        [box] = [box for box in engine.mailboxes if box.name == shard_of_tenant(engine)]
        box.deliver(LedgerAway(life=1))
        await worker.attach()
        await submit(engine, new_job(engine, lease_us=20_000_000))
        [grant] = await worker.leases(1)
        await trio.sleep(30)
        assert (await job_of(engine.store, grant.job.job_id)).failures == 1


async def complete_patiently(worker: BareWorker, grant: Grant) -> None:
    report = Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"1")
    shard = worker._shard
    await shard.tell(Reports(session_id=worker.session_id, reports=(report,)))
    await worker.wait_for(
        lambda heard: [m for m in heard if isinstance(m, Settled) and "c" in m.acks], 2 * 3600
    )


async def test_reports_of_a_session_nobody_knows_are_dropped(autojump_clock: MockClock) -> None:
    async with engine_over(MemoryStore()) as engine:
        shard = engine.registry.shard(TENANT)
        await shard.tell(Reports(session_id=999, reports=()))
        await submit(engine, new_job(engine))
