"""A run with nodes of every kind, whose engine or actors fail in the middle of each of its steps.

Whatever fails, the run comes to what it comes to undisturbed, and nothing is done twice.
"""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.gateway import UnavailableError
from jobengine.domain.errors import RefusedError
from jobengine.domain.graph import Edge
from jobengine.domain.job import Job, State
from jobengine.domain.node import NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.engine import Engine, open_database, open_engine
from jobengine.settings import Settings
from jobengine.store.runs import RunFilter
from tests.actors.bare_worker import TENANT
from tests.actors.faulty_store import Fault, FaultyStore, chance_of_faults, fail_call
from tests.actors.run_harness import (
    OPS,
    create,
    crew,
    ended,
    fan_out,
    gate,
    is_open,
    job,
    job_at,
    payload_of,
    policy,
    prepared,
    register,
    states,
    sub_run,
    until,
)
from tests.actors.test_recovery import audited, crash, engine_over, shard_of_tenant
from tests.postgres_server import PostgresServer, database, postgres_server

__all__ = ["database", "postgres_server"]

INNER = [job("x", payload={"n": "${inputs.n}"}), job("y", "x")]
NODES = [
    job("list"),
    job("skipped", "list", when="length(results.list) > `5`"),
    policy("few", "length(results.list) < `5`", "list"),
    fan_out("pages", "results.list", {"item": "${item}"}, "list few"),
    sub_run("sub", "inner", {"n": "${results.list[0]}"}, "few list"),
    gate(NodeKind.CALLBACK, "call", "pages"),
    gate(NodeKind.APPROVAL, "ok", "sub call"),
    job("end", "ok pages call", {"pages": "${results.pages}", "call": "${results.call}"}),
    job("last", "end skipped", trigger=TriggerRule.NONE_FAILED),
]
COMMITS_MAX = 60


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def handle(each: Job) -> Any:
    return [1, 2] if each.definition.node_key == "list" else f"did {each.definition.node_key}"


async def eventually(do: Callable[[], Any]) -> Any:
    """A door is asked again while the engine is away or rebuilt."""
    with trio.fail_after(3600):
        while True:
            try:
                return await do()
            except UnavailableError:
                await trio.sleep(0.5)
            except RefusedError as error:
                if error.refusal.code != "STORE_UNAVAILABLE":
                    return error.refusal
                await trio.sleep(0.5)


async def operate(engine: Engine, run_id: str) -> None:
    """Let the run grow, call it back, and approve."""
    runs = engine.gateway.runs
    more = prepared([job("new", "list", {"n": "${results.list[1]}"})])
    await eventually(lambda: runs.extend(TENANT, run_id, OPS, more, [Edge("new", "end")]))
    await is_open(engine.store, run_id, "call")
    await eventually(
        lambda: runs.complete_callback(TENANT, run_id, "call", OPS, result=b'"called"')
    )
    await is_open(engine.store, run_id, "ok")
    await eventually(lambda: runs.approve(TENANT, run_id, "ok", OPS))


@asynccontextmanager
async def going_on(engine: Engine, store: Any) -> AsyncIterator[trio.Event]:
    """The run, created or found, with all who have to do with it; the event says that it ended."""
    done = trio.Event()

    async def go_on() -> None:
        await eventually(lambda: register(engine, "inner", INNER))
        run_id = await eventually(lambda: create(engine, NODES))
        async with trio.open_nursery() as hands:
            hands.start_soon(operate, engine, run_id)
            await ended(store, run_id)
            hands.cancel_scope.cancel()
        done.set()

    async with crew(engine, handle), trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        yield done
        nursery.cancel_scope.cancel()


async def judge(store: Any) -> None:
    """The run is what it is undisturbed."""
    record = await store.run_by_token(TENANT, "token")
    assert record.state is RunState.COMPLETED
    found = await states(store, record.run_id)
    assert found.pop("skipped") == "skipped"
    assert set(found.values()) == {"completed"}
    assert set(found) == {
        *(each.node.key for each in NODES if each.node.key != "skipped"),
        "new", "pages[]", "pages[0]", "pages[1]",
    }  # fmt: skip
    assert payload_of(await job_at(store, record.run_id, "end")) == {
        "pages": ["did pages[0]", "did pages[1]"], "call": "called"
    }  # fmt: skip
    runs = await store.run_list(TENANT, RunFilter(), None, 100)
    assert sorted(run.run_token for run in runs) == sorted(["token", f"{record.run_id}/sub"])
    assert {run.state for run in runs} == {RunState.COMPLETED}
    assert record.rolled.completed == len(found)
    assert record.nodes == len(found) + 1


async def commits_undisturbed() -> int:
    store = FaultyStore()
    async with engine_over(store) as engine, going_on(engine, store) as done:
        await done.wait()
    await judge(store)
    await audited(store)
    return store.calls["commit"]


async def test_undisturbed_the_run_takes_so_many_commits(autojump_clock: MockClock) -> None:
    assert 15 < await commits_undisturbed() < COMMITS_MAX


LOST, UNTOLD = Fault(before_s=1e9), Fault(after_s=1e9)


@pytest.mark.parametrize(
    ("nth", "fault"),
    [(nth, (LOST, UNTOLD)[nth % 3 > 0]) for nth in range(1, 34)],
)
async def test_an_engine_that_is_killed_in_its_nth_commit_is_followed_by_one_that_goes_on(
    autojump_clock: MockClock, nth: int, fault: Fault
) -> None:
    store = FaultyStore(plan=fail_call("commit", fault, first=nth, last=10_000))
    async with engine_over(store) as engine, going_on(engine, store) as done:
        with trio.move_on_after(60):
            await done.wait()
    store.plan = None
    async with engine_over(store) as engine, going_on(engine, store) as done:
        await done.wait()
    await judge(store)
    await audited(store)


@pytest.mark.parametrize("actor", ["planner", "shard", "ledger"])
@pytest.mark.parametrize("first", range(1, 26, 4))
async def test_an_actor_that_fails_around_its_nth_commit_costs_nothing(
    autojump_clock: MockClock, first: int, actor: str
) -> None:
    slow = Fault(before_s=0.05, after_s=0.05)
    store = FaultyStore(plan=fail_call("commit", slow, first=1, last=10_000))

    async def committing(nth: int) -> None:
        while store.calls["commit"] < nth:  # noqa: ASYNC110 - the store is watched
            await trio.sleep(0.02)

    async with engine_over(store) as engine, going_on(engine, store) as done:
        shard = shard_of_tenant(engine)
        name = {
            "planner": shard.replace("lease-shard", "dag-planner"),
            "shard": shard,
            "ledger": "ledger",
        }[actor]
        with trio.move_on_after(600):
            for nth in (first, first + 7):
                await committing(nth)
                crash(engine, name)
        await done.wait()
    await judge(store)
    await audited(store)


async def test_a_planner_that_starts_while_the_database_is_away_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    slow = Fault(before_s=0.05, after_s=0.05)
    store = FaultyStore(plan=fail_call("commit", slow, first=1, last=10_000))
    async with engine_over(store) as engine, going_on(engine, store) as done:
        await trio.sleep(0.5)
        store.plan = lambda name, number: Fault(away=True)
        crash(engine, shard_of_tenant(engine).replace("lease-shard", "dag-planner"))
        await trio.sleep(30)
        assert not done.is_set()
        store.plan = None
        await done.wait()
    await judge(store)


@pytest.mark.parametrize("seed", range(6))
async def test_faults_of_every_kind_and_failing_actors_cost_nothing(
    autojump_clock: MockClock, seed: int
) -> None:
    store, dice = FaultyStore(), random.Random(seed)
    async with engine_over(store) as engine, going_on(engine, store) as done:
        store.plan = chance_of_faults(seed, 0.15)
        shard = shard_of_tenant(engine)
        planner = shard.replace("lease-shard", "dag-planner")
        with trio.move_on_after(60):
            for _ in range(3):
                await trio.sleep(dice.random() * 12)
                crash(engine, dice.choice((shard, planner)))
            await done.wait()
        store.plan = None
        await done.wait()
    await judge(store)
    await audited(store)


async def test_a_run_is_given_up_though_everything_fails_in_the_middle(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        run_id = await create(engine, [gate(NodeKind.APPROVAL, "ok"), *NODES[:1]], "cut")
        await is_open(store, run_id, "ok")
        store.plan = fail_call("commit", Fault(after_s=1e9), first=store.calls["commit"] + 1)
        with trio.move_on_after(5):
            await engine.gateway.runs.cancel(TENANT, run_id, OPS)
    async with engine_over(store):
        assert await ended(store, run_id) is RunState.CANCELLED
    assert set((await states(store, run_id)).values()) == {"run_cancelled"}


async def test_runs_outlive_the_engine_in_a_real_database(
    postgres_server: PostgresServer, database: str
) -> None:
    settings = Settings(shards=2)
    async with open_database(settings, conninfo=database) as store:

        async def reached(key: str, state: State) -> bool:
            record = await store.run_by_token(TENANT, "token")
            if record is None:
                return False
            found = await states(store, record.run_id)
            return found.get(key) == state

        async with open_engine(store, settings) as engine, crew(engine, handle):
            await register(engine, "inner", INNER)
            run_id = await create(engine, NODES)
            await is_open(store, run_id, "call")
            await until(lambda: reached("sub", State.COMPLETED))
        async with open_engine(store, settings) as engine, going_on(engine, store) as done:
            await done.wait()
        await judge(store)
