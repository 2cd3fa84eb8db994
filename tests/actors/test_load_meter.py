"""The load meter over the real actors: what makes a node busy, who is told, and that it passes."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.memory import memory_bytes_of_process, memory_bytes_there_are
from jobengine.domain.change import CommitBatch
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.domain.event import events_of
from jobengine.domain.governance import SYSTEM_TENANT
from jobengine.engine import Engine
from jobengine.messages.lease_shard import ReleaseJob
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, TENANT, BareWorker, new_job, submit
from tests.actors.faulty_store import Fault, FaultyStore, fail_call

SMALL = Settings(shards=2, ask_timeout_s=15.0)
OVERLOADED = Settings(shards=2, memory_bytes_max=1)
ONE_BY_ONE = Settings(
    shards=2,
    ask_timeout_s=15.0,
    batch_entries_max=10,
    commits_in_flight_max=1,
    commit_follow_entries=0,
)
SLOW = fail_call("commit", Fault(before_s=8.0), last=1_000_000)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def until(holds: Callable[[], bool], within_s: float = 120.0) -> None:
    """Virtual time: what is waited for has no event of its own."""
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.1)


async def reach(engine: Engine, level: str) -> None:
    await until(lambda: engine.gateway.load.level == level)


async def changes(store: Any) -> list[tuple[str, str]]:
    """What the ledger of the node says of its levels, before and after."""
    blocks = await store.blocks(SYSTEM_TENANT, 0, 1_000, 1 << 20)
    events = [msgspec.json.decode(event.body) for block in blocks for event in events_of(block)]
    assert all(event["eventType"] == "load.changed" for event in events)
    return [(event["data"]["before"], event["data"]["level"]) for event in events]


async def test_slow_commits_shed_new_work_which_is_taken_again_when_they_are_quick(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store, settings=SMALL) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        store.plan = SLOW
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, engine, new_job(engine, hold=True))
            await reach(engine, "shedding")
            with pytest.raises(UnavailableError) as refused:
                await submit(engine, new_job(engine))
            assert refused.value.refusal.code == ErrorCode.OVERLOADED
            assert refused.value.retry_after_s == 5
            assert engine.gateway.load.sheds["load"] == 1
            store.plan = None
            assert not (await worker.complete(grant)).nacks, "reports go on"
            await reach(engine, "normal")
        await submit(engine, new_job(engine))
        await trio.sleep(5)
    recorded = await changes(store.inner)
    assert recorded[-2:] == [("shedding", "elevated"), ("elevated", "normal")]
    told = [log for log in logs if log["event"] == "load_level_changed"]
    assert [(log["before"], log["level"]) for log in told] == recorded
    assert told[0]["causes"][0]["name"] in ("commit_latency", "commits_waiting")


async def test_work_that_comes_faster_than_it_is_committed_is_refused_before_any_waits_in_vain(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    quick = fail_call("commit", Fault(before_s=0.2), last=1_000_000)
    told: Counter[ErrorCode | None] = Counter()

    async def produce(tenant_id: str) -> None:
        try:
            await submit(engine, new_job(engine, hold=True), tenant_id=tenant_id)
        except UnavailableError as error:
            told[error.refusal.code] += 1
        else:
            told[None] += 1

    async with memory_engine(store=FaultyStore(plan=quick), settings=ONE_BY_ONE) as engine:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                for number in range(40):
                    nursery.start_soon(produce, f"t{number}")
                await trio.sleep(0.4)
        assert told.keys() == {None, ErrorCode.OVERLOADED}
        await reach(engine, "normal")
        await trio.sleep(5)
        assert engine.ledger.state.waiting_since_mono is None
    first = next(log for log in logs if log["event"] == "load_level_changed")
    assert [cause["name"] for cause in first["causes"]] == ["commits_waiting"]


async def test_what_waited_for_the_database_to_be_back_has_waited_since_then_only(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = FaultyStore()
    settings = Settings(shards=2, ask_timeout_s=150.0, batch_entries_max=1, commits_in_flight_max=1)
    async with memory_engine(store=store, settings=settings) as engine:
        store.plan = fail_call("commit", Fault(away=True), last=1_000_000)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(
                    lambda number: submit(engine, new_job(engine), tenant_id=f"t{number}"), number
                )
            await trio.sleep(60)
            store.plan = fail_call("commit", Fault(before_s=1.0), last=1_000_000)
        assert engine.gateway.load.changes_total == 0


class BrokenStore(FaultyStore):
    """Fails once, before a commit has begun."""

    broken = False

    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        if self.broken:
            self.broken = False
            raise RuntimeError("broken")
        committed: Awaitable[None] = self.inner.commit(batch)
        return committed


async def test_a_ledger_that_failed_leaves_no_commit_under_way_behind(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = BrokenStore()
    async with memory_engine(store=store, settings=SMALL) as engine:
        store.broken = True
        with pytest.raises(UnavailableError):
            await submit(engine, new_job(engine))
        await submit(engine, new_job(engine))
        await trio.sleep(60)
        assert engine.ledger.state.behind_since_mono is None
        assert engine.gateway.load.changes_total == 0


async def test_a_busy_engine_defers_low_priority_until_it_is_not(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    resident = memory_bytes_of_process()
    elevated = Settings(shards=2, memory_bytes_max=round(resident / 0.82))
    async with memory_engine(settings=elevated) as engine:
        await reach(engine, "elevated")
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine, priority=0), new_job(engine, priority=5))
        [grant] = await worker.leases(1)
        assert grant.job.definition.priority == 5
        await trio.sleep(30)
        assert len(worker.granted()) == 1


async def test_a_shard_that_starts_again_knows_the_level(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    elevated = Settings(shards=1, memory_bytes_max=round(memory_bytes_of_process() / 0.82))
    async with memory_engine(settings=elevated) as engine:
        await reach(engine, "elevated")
        before = engine.shards[0].core
        engine.shards[-1].mailbox.deliver(object())
        await until(lambda: engine.shards[0].core is not before)
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine, priority=0), new_job(engine, priority=5))
        await worker.leases(1)
        await trio.sleep(30)
        assert [grant.job.definition.priority for grant in worker.granted()] == [5]


async def test_at_shedding_an_operator_still_acts(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = MemoryStore()
    async with memory_engine(store=store, settings=SMALL) as engine:
        [held] = await submit(engine, new_job(engine, hold=True))
    async with memory_engine(store=store, settings=OVERLOADED) as engine:
        await reach(engine, "shedding")
        answer = await engine.gateway.operate(
            TENANT,
            lambda ask_id: ReleaseJob(
                ask_id=ask_id, tenant_id=TENANT, job_id=held.job_id, actor=PRODUCER
            ),
        )
        assert answer.job is not None
        assert answer.job.state == "scheduled"


async def test_a_database_that_is_away_is_no_load_and_work_is_taken_at_once_when_it_is_back(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = FaultyStore(plan=None)
    async with memory_engine(store=store, settings=SMALL) as engine:
        store.plan = fail_call("commit", Fault(away=True), last=1_000_000)
        for _ in range(2):
            with pytest.raises(UnavailableError) as refused:
                await submit(engine, new_job(engine))
            assert refused.value.refusal.code == ErrorCode.STORE_UNAVAILABLE
            await trio.sleep(60)
        store.plan = None
        await until(lambda: engine.gateway.ledger.away_since_mono is None)
        await submit(engine, new_job(engine))
        assert engine.gateway.load.changes_total == 0


async def test_an_idle_engine_asks_the_database_nothing_and_wakes_seldom(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store, settings=SMALL) as engine:
        await submit(engine, new_job(engine, hold=True))
        await trio.sleep(700)
        asked = store.calls.copy()
        samples = 0

        class Counting(trio.abc.Instrument):
            def task_scheduled(self, task: trio.lowlevel.Task) -> None:
                nonlocal samples
                samples += "load" in task.name

        counting = Counting()
        trio.lowlevel.add_instrument(counting)
        await trio.sleep(600)
        trio.lowlevel.remove_instrument(counting)
        assert store.calls == asked
        assert samples <= 600


def test_memory_is_told_as_the_kernel_does(tmp_path: Path) -> None:
    assert memory_bytes_of_process() > 1 << 20
    assert memory_bytes_of_process(tmp_path) == 0
    assert memory_bytes_there_are() >= memory_bytes_of_process()


@pytest.mark.parametrize(
    ("named", "file"),
    [("0::/outer/inner\n", "memory.max"), ("4:cpu,memory:/outer/inner\n", "memory/")],
)
def test_the_limit_is_the_least_of_all_groups_around(tmp_path: Path, named: str, file: str) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    root, name = (groups, file)
    if file == "memory/":
        root, name = groups / "memory", "memory.limit_in_bytes"
    inner = root / "outer" / "inner"
    for directory in (proc, inner):
        directory.mkdir(parents=True)
    (proc / "cgroup").write_text(named)
    (inner / name).write_text("max\n")
    (inner.parent / name).write_text("1048576\n")
    assert memory_bytes_there_are(proc, groups) == 1_048_576
    (inner / name).write_text("4096\n")
    assert memory_bytes_there_are(proc, groups) == 4096


async def test_the_backlog_is_known_exactly_after_a_restart_of_the_engine_and_of_a_shard(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    store = MemoryStore()
    capped = Settings(shards=2, tenant_backlog_jobs_max=5)
    async with memory_engine(store=store, settings=capped) as engine:
        later = engine.clock.moment().at + 3_600_000_000
        jobs = (new_job(engine, hold=True), new_job(engine), new_job(engine, not_before=later))
        await submit(engine, *jobs)
    async with memory_engine(store=store, settings=capped) as engine:
        assert sum(shard.core.backlog for shard in engine.shards if shard.core) == 3
        worker = BareWorker(engine)
        await worker.attach(capacity=1)
        await worker.leases(1)
        before = [shard.core for shard in engine.shards]
        for box in engine.mailboxes:
            if box.name.startswith("lease-shard"):
                box.deliver(object())
        await until(lambda: all(shard.core not in before for shard in engine.shards))
        answer = await engine.gateway.submit(TENANT, PRODUCER, [new_job(engine)])
        assert answer.backlog == 3
        with pytest.raises(RefusedError) as refused:
            await submit(engine, *(new_job(engine) for _ in range(3)))
        assert refused.value.refusal.code == ErrorCode.BACKLOG_FULL
        assert engine.gateway.load.sheds["backlog"] == 1
