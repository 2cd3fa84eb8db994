"""Whatever the expressions of a run come to, they end its nodes and nothing else."""

from collections.abc import Iterator

import msgspec
import pytest
import structlog
from trio.testing import MockClock

from jobengine.domain.run import RunState
from jobengine.domain.run_nodes import NodeJob
from jobengine.store.memory import MemoryStore
from tests.actors.bare_worker import TENANT
from tests.actors.run_harness import (
    OPS,
    create,
    crew,
    ended,
    fan_out,
    job,
    job_at,
    planned,
    policy,
    register,
    states,
    sub_run,
)
from tests.actors.test_recovery import audited, engine_over

DIGITS = "sum(inputs.digits[*].to_number(@))"
TENFOLD = "inputs.digits[*]" + ".not_null(`[0,1,2,3,4,5,6,7,8,9]`)[]" * 13
ENDLESS = f"length({TENFOLD}) > `1`"
INPUTS = {"digits": ["9" * 4_300] * 2}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize(
    "node",
    [
        job("n", payload={"x": f"${{{DIGITS}}}"}),
        job("n", payload={"x": f"${{{TENFOLD}}}"}),
        job("n", when=DIGITS),
        job("n", when=ENDLESS),
        policy("n", DIGITS),
        policy("n", ENDLESS),
        fan_out("n", TENFOLD, {}),
        fan_out("n", "inputs.digits", {"x": f"${{{TENFOLD}}}"}),
        sub_run("n", "child", {"x": f"${{{DIGITS}}}"}),
    ],
    ids=["payload", "endless payload", "when", "endless when", "policy", "endless policy",
         "list", "instance", "sub-run"],
)  # fmt: skip
async def test_an_expression_that_goes_wrong_fails_its_node_and_the_engine_goes_on(
    autojump_clock: MockClock, node: NodeJob
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine):
        await register(engine, "child", [job("c")])
        run_id = await create(engine, [node], inputs=INPUTS)
        assert await ended(store, run_id) is RunState.FAILED
        assert (await states(store, run_id))["n"] == "failed: template_error"
        error = (await job_at(store, run_id, "n")).error
        assert error is not None
        assert len(error) < 700
        after = await create(engine, [job("a")], token="after")
        assert await ended(store, after) is RunState.COMPLETED
    await audited(store)


async def test_an_expression_of_a_stored_run_that_is_no_longer_taken_fails_its_node(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine):
        plan = planned(engine, [job("a"), job("b", "a", when="inputs.yes")], "token")
        nodes = [
            msgspec.structs.replace(each, when=each.when and "not_null(&inputs)")
            for each in plan.nodes
        ]
        created = await engine.gateway.runs.create(msgspec.structs.replace(plan, nodes=nodes), OPS)
        assert created.run is not None
        assert await ended(store, created.run.run_id) is RunState.FAILED
        found = await states(store, created.run.run_id)
        assert found == {"a": "completed", "b": "failed: template_error"}
        error = (await job_at(store, created.run.run_id, "b")).error
        assert error is not None
        assert b"has & where no expression stands" in error
        record = await store.run(TENANT, created.run.run_id)
        assert record is not None
        assert record.rolled is not None
