"""Sub-runs that meet a full backlog or the end of their parent, and lists that change meanwhile."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.node_evaluation import NodeEvaluation
from jobengine.actors.run_sheets import RunSheets
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import State
from jobengine.domain.node import NodeKind, instance_of
from jobengine.domain.run import RunState
from jobengine.messages.planner_commands import GrowRun, NewNode, NodeEnd
from jobengine.store.memory import MemoryStore
from tests.actors.bare_worker import TENANT
from tests.actors.faulty_store import Fault, FaultyStore, fail_call
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
    policy,
    register,
    states,
    sub_run,
)
from tests.actors.test_recovery import SMALL, audited, engine_over

APPROVALS = [gate(NodeKind.APPROVAL, key) for key in "abc"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


async def test_a_run_that_is_cancelled_while_its_sub_run_is_read_leaves_none_behind(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with engine_over(store) as engine:
        await register(engine, "inner", APPROVALS)
        store.plan = fail_call("registered", Fault(after_s=60), last=1_000)
        run_id = await create(engine, [sub_run("sub", "inner", {})])
        await is_open(store, run_id, "sub")
        await engine.gateway.runs.cancel(TENANT, run_id, OPS)
        assert await ended(store, run_id) is RunState.CANCELLED
        assert await store.run_by_token(TENANT, f"{run_id}/sub") is None
        await trio.sleep(60)
        child = await store.run_by_token(TENANT, f"{run_id}/sub")
        assert child is not None
        assert await ended(store, child.run_id) is RunState.CANCELLED
    await audited(store.inner)


async def test_a_sub_run_waits_for_room_in_the_backlog_and_what_stands_beside_it_does_not(
    autojump_clock: MockClock,
) -> None:
    store, settings = MemoryStore(), attrs.evolve(SMALL, tenant_backlog_jobs_max=7)
    async with engine_over(store, settings) as engine, crew(engine):
        await register(engine, "inner", [job("x"), job("y")])
        filler = await create(engine, APPROVALS, "filler")
        nodes = [
            sub_run("one", "inner", {}),
            sub_run("two", "inner", {}),
            policy("beside", "`true`"),
            gate(NodeKind.APPROVAL, "behind", "beside"),
        ]
        run_id = await create(engine, nodes)
        await is_open(store, run_id, "behind")
        await trio.sleep(30)
        found = await states(store, run_id)
        assert (found["one"], found["two"], found["beside"]) == ("pending", "pending", "completed")
        await engine.gateway.runs.cancel(TENANT, filler, OPS)
        await engine.gateway.runs.approve(TENANT, run_id, "behind", OPS)
        assert await ended(store, run_id) is RunState.COMPLETED
    await audited(store)


async def test_a_sub_run_that_the_backlog_could_never_take_fails_its_node(
    autojump_clock: MockClock,
) -> None:
    store, settings = MemoryStore(), attrs.evolve(SMALL, tenant_backlog_jobs_max=2)
    async with engine_over(store, settings) as engine:
        await register(engine, "inner", APPROVALS)
        run_id = await create(engine, [sub_run("sub", "inner", {})])
        assert await ended(store, run_id) is RunState.FAILED
        assert await states(store, run_id) == {"sub": "failed: BACKLOG_FULL"}


@pytest.mark.parametrize("count", [1, 3])
async def test_the_jobs_of_a_list_that_has_changed_are_refused_for_now(
    autojump_clock: MockClock, count: int
) -> None:
    store, told = MemoryStore(), list[Any]()
    async with engine_over(store) as engine:
        callbacks = [gate(NodeKind.CALLBACK, key) for key in ("c", "d")]
        nodes = [
            *callbacks,
            gate(NodeKind.APPROVAL, "ok"),
            fan_out("m", "keys(callbacks)", {}, "ok"),
        ]
        run_id = await create(engine, nodes)
        evaluation = NodeEvaluation(
            sheets=RunSheets(store),
            sign=lambda *_: "",
            tell=told.append,
            carry_out=None,  # type: ignore[arg-type]
            start_sub_run=None,  # type: ignore[arg-type]
        )
        opened = (await job_at(store, run_id, "m")).job_id
        command = GrowRun(
            stamp=1,
            tenant_id=TENANT,
            run_id=run_id,
            nodes=[NewNode(instance_of("m", place), f"job-{place}") for place in range(count)],
            edges=[],
            body=b"",
            actor=None,
            opened=NodeEnd("m", opened, State.COMPLETED),
        )
        refusal = await evaluation.grow(command)
        assert isinstance(refusal, Refusal)
        assert refusal.code is ErrorCode.REVISION_MISMATCH
        assert told == []


async def hash_of_outputs(*, restarts: bool) -> str:
    """Of a run with a callback that failed and said something; it is no output."""
    store = MemoryStore()
    nodes = [*(gate(NodeKind.CALLBACK, key) for key in ("good", "bad")), APPROVALS[0]]
    async with engine_over(store) as engine:
        run_id = await create(engine, nodes)
        await is_open(store, run_id, "bad")
        call_back = engine.gateway.runs.complete_callback
        await call_back(TENANT, run_id, "good", OPS, result=b'{"n":7}')
        await call_back(TENANT, run_id, "bad", OPS, result=b'{"n":8}', error="broken")
        if not restarts:
            await engine.gateway.runs.approve(TENANT, run_id, "a", OPS)
            await ended(store, run_id)
    if restarts:
        async with engine_over(store) as engine:
            await engine.gateway.runs.approve(TENANT, run_id, "a", OPS)
            await ended(store, run_id)
    record = await store.run(TENANT, run_id)
    assert record is not None
    assert record.rolled is not None
    return record.rolled.outputs_hash


async def test_the_hash_of_outputs_does_not_hang_on_restarts(autojump_clock: MockClock) -> None:
    assert await hash_of_outputs(restarts=True) == await hash_of_outputs(restarts=False)
