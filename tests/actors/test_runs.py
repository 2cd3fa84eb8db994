"""Runs over the real actors: what each kind of node comes to."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors import run_making
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.domain.graph import Edge
from jobengine.domain.job import Job
from jobengine.domain.node import NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.engine import Engine
from jobengine.store.memory import MemoryStore
from tests.actors.bare_worker import TENANT
from tests.actors.run_harness import (
    OPS,
    JobFailureError,
    create,
    crew,
    ended,
    fan_out,
    gate,
    is_open,
    job,
    job_at,
    payload_of,
    planned,
    policy,
    prepared,
    register,
    states,
    sub_run,
)
from tests.actors.test_recovery import audited, engine_over

DIAMOND = [job("a"), job("b", "a"), job("c", "a"), job("d", "b c")]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def failing(*keys: str) -> Any:
    def handle(each: Job) -> str:
        if each.definition.node_key in keys:
            raise JobFailureError("boom")
        return f"did {each.definition.node_key}"

    return handle


async def test_a_diamond_runs_in_the_order_of_its_edges(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine) as hands:
        run_id = await create(engine, DIAMOND)
        assert await ended(store, run_id) is RunState.COMPLETED
        assert hands.done in (["a", "b", "c", "d"], ["a", "c", "b", "d"])
        assert set((await states(store, run_id)).values()) == {"completed"}
        record = await store.run(TENANT, run_id)
        assert record is not None
        assert record.rolled is not None
        assert record.rolled.completed == 4
    await audited(store)


async def test_the_same_run_token_answers_with_the_same_run(autojump_clock: MockClock) -> None:
    async with engine_over(MemoryStore()) as engine:
        first = await engine.gateway.runs.create(planned(engine, DIAMOND, "t"), OPS)
        again = await engine.gateway.runs.create(planned(engine, DIAMOND[::-1], "t"), OPS)
        assert (first.existing, again.existing) == (False, True)
        assert first.run is not None
        assert again.run is not None
        assert first.run.run_id == again.run.run_id
        with pytest.raises(RefusedError) as refused:
            await engine.gateway.runs.create(planned(engine, DIAMOND[:2], "t"), OPS)
        assert refused.value.refusal.code is ErrorCode.IDEMPOTENCY_MISMATCH


async def test_a_template_is_filled_in_with_inputs_and_results_when_its_job_is_released(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    nodes = [
        job("find"),
        job("use", "find", {"n": "${results.find.n}", "in": "${inputs.dir}/x", "k": 1}),
    ]
    async with engine_over(store) as engine, crew(engine, lambda _: {"n": [1, 2]}):
        run_id = await create(engine, nodes, inputs={"dir": "/tmp"})
        assert await ended(store, run_id) is RunState.COMPLETED
        done = await job_at(store, run_id, "use")
        assert payload_of(done) == {"n": [1, 2], "in": "/tmp/x", "k": 1}
        assert not done.definition.templated
    await audited(store)


async def test_a_template_that_finds_nothing_fails_its_job_and_names_the_expression(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    nodes = [job("a"), job("b", "a", {"x": "${results.a.missing}"}), job("c", "b")]
    async with engine_over(store) as engine, crew(engine, lambda _: {"n": 1}) as hands:
        run_id = await create(engine, nodes)
        assert await ended(store, run_id) is RunState.FAILED
        assert hands.done == ["a"]
        assert await states(store, run_id) == {
            "a": "completed",
            "b": "failed: template_error",
            "c": "upstream_failed",
        }
        error = (await job_at(store, run_id, "b")).error
        assert error is not None
        assert b"${results.a.missing}" in error


async def test_a_node_whose_condition_does_not_hold_is_skipped(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [
        job("a"),
        job("no", "a", when="results.a.n > `5`"),
        job("yes", "a", when="results.a.n < `5`"),
        gate(NodeKind.APPROVAL, "gate", "a", when="inputs.ask"),
        job("end", "no yes gate", trigger=TriggerRule.NONE_FAILED),
    ]
    async with engine_over(store) as engine, crew(engine, lambda _: {"n": 1}) as hands:
        run_id = await create(engine, nodes, inputs={"ask": False})
        assert await ended(store, run_id) is RunState.COMPLETED
        assert hands.done == ["a", "yes", "end"]
        found = await states(store, run_id)
        assert (found["no"], found["gate"]) == ("skipped", "skipped")


@pytest.mark.parametrize("count", [0, 3])
async def test_a_list_is_mapped_and_its_results_come_together(
    autojump_clock: MockClock, count: int
) -> None:
    store = MemoryStore()

    def handle(each: Job) -> Any:
        match each.definition.node_key:
            case "list":
                return [{"name": f"page {n}"} for n in range(count)]
            case "sum":
                return payload_of(each)["all"]
            case _:
                return payload_of(each)["name"]

    nodes = [
        job("list"),
        fan_out("pages", "results.list", {"name": "${item.name} at ${index}"}, "list"),
        job("sum", "pages", {"all": "${results.pages}"}),
    ]
    async with engine_over(store) as engine, crew(engine, handle):
        run_id = await create(engine, nodes)
        assert await ended(store, run_id) is RunState.COMPLETED
        expected = [f"page {n} at {n}" for n in range(count)]
        assert payload_of(await job_at(store, run_id, "sum")) == {"all": expected}
        assert set(await states(store, run_id)) == {
            "list", "pages", "pages[]", "sum", *(f"pages[{n}]" for n in range(count))
        }  # fmt: skip
    await audited(store)


@pytest.mark.parametrize(
    ("over", "payload"),
    [("results.list", {}), ("inputs.many", {"x": "${item.missing}"}), ("inputs.absent", {})],
)
async def test_a_list_that_is_none_or_whose_jobs_cannot_be_made_fails_its_node(
    autojump_clock: MockClock, over: str, payload: Any
) -> None:
    store = MemoryStore()
    nodes = [job("list"), fan_out("pages", over, payload, "list"), job("end", "pages")]
    async with engine_over(store) as engine, crew(engine, lambda _: {"no": "list"}):
        run_id = await create(engine, nodes, inputs={"many": [{"n": 1}, {"n": 2}]})
        assert await ended(store, run_id) is RunState.FAILED
        found = await states(store, run_id)
        assert found["pages"] == "failed: template_error"
        assert found["end"] == "upstream_failed"


async def test_an_approval_waits_for_an_operator(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [job("a"), gate(NodeKind.APPROVAL, "ok", "a"), job("b", "ok")]
    async with engine_over(store) as engine, crew(engine) as hands:
        run_id = await create(engine, nodes)
        with pytest.raises(RefusedError) as refused:
            await engine.gateway.runs.approve(TENANT, run_id, "ok", OPS)
        assert refused.value.refusal.code is ErrorCode.NODE_NOT_OPEN
        await is_open(store, run_id, "ok")
        await trio.sleep(3600)
        assert hands.done == ["a"]
        answer = await engine.gateway.runs.approve(TENANT, run_id, "ok", OPS)
        assert (answer.key, str(answer.state)) == ("ok", "completed")
        assert await ended(store, run_id) is RunState.COMPLETED


async def test_a_rejected_approval_fails_what_is_behind_it(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [gate(NodeKind.APPROVAL, "ok"), job("b", "ok")]
    async with engine_over(store) as engine:
        run_id = await create(engine, nodes)
        await is_open(store, run_id, "ok")
        await engine.gateway.runs.reject(TENANT, run_id, "ok", OPS)
        assert await ended(store, run_id) is RunState.FAILED
        assert await states(store, run_id) == {"ok": "failed: rejected", "b": "upstream_failed"}
        with pytest.raises(RefusedError) as refused:
            await engine.gateway.runs.approve(TENANT, run_id, "ok", OPS)
        assert refused.value.refusal.code is ErrorCode.RUN_ENDED


async def test_the_result_of_a_callback_is_read_by_what_depends_on_it(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    nodes = [
        gate(NodeKind.CALLBACK, "call", payload={"say": "${inputs.n}"}),
        job("b", "call", {"got": "${results.call.n}"}),
    ]
    async with engine_over(store) as engine, crew(engine):
        run_id = await create(engine, nodes, inputs={"n": 1})
        await is_open(store, run_id, "call")
        assert payload_of(await job_at(store, run_id, "call")) == {"say": 1}
        await engine.gateway.runs.complete_callback(TENANT, run_id, "call", OPS, result=b'{"n":7}')
        assert await ended(store, run_id) is RunState.COMPLETED
        assert payload_of(await job_at(store, run_id, "b")) == {"got": 7}


@pytest.mark.parametrize(("n", "end"), [(1, RunState.COMPLETED), (9, RunState.FAILED)])
async def test_a_policy_is_judged_on_results(
    autojump_clock: MockClock, n: int, end: RunState
) -> None:
    store = MemoryStore()
    nodes = [job("a"), policy("few", "results.a.n < `5`", "a"), job("b", "few")]
    async with engine_over(store) as engine, crew(engine, lambda _: {"n": n}):
        run_id = await create(engine, nodes)
        assert await ended(store, run_id) is end
        judged = "completed" if end is RunState.COMPLETED else "failed: policy_denied"
        assert (await states(store, run_id))["few"] == judged


@pytest.mark.parametrize("fails", [False, True])
async def test_a_sub_run_has_jobs_and_inputs_of_its_own_and_ends_its_node(
    autojump_clock: MockClock, fails: bool
) -> None:
    store = MemoryStore()
    inner = [job("x", payload={"of": "${inputs.n}"}), job("y", "x")]
    nodes = [job("a"), sub_run("sub", "inner", {"n": "${results.a.n}"}, "a"), job("b", "sub")]

    def handle(each: Job) -> Any:
        if fails and each.definition.node_key == "y":
            raise JobFailureError("boom")
        return {"n": 5}

    async with engine_over(store) as engine, crew(engine, handle) as hands:
        await register(engine, "inner", inner)
        run_id = await create(engine, nodes)
        end = await ended(store, run_id)
        child = await store.run_by_token(TENANT, f"{run_id}/sub")
        assert child is not None
        assert (child.parent_run, child.parent_key) == (run_id, "sub")
        assert payload_of(await job_at(store, child.run_id, "x")) == {"of": 5}
        found = await states(store, run_id)
        if fails:
            assert (end, found["sub"]) == (RunState.FAILED, "failed: sub_run_failed")
            assert found["b"] == "upstream_failed"
        else:
            assert end is RunState.COMPLETED
            assert hands.done == ["a", "x", "y", "b"]
            result = (await job_at(store, run_id, "sub")).result
            assert result == b'{"runId":"%s"}' % child.run_id.encode()
    await audited(store)


async def test_a_sub_run_is_cancelled_with_the_run_that_it_is_part_of(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    inner = [gate(NodeKind.APPROVAL, "ok"), job("x", "ok")]
    async with engine_over(store) as engine:
        await register(engine, "inner", inner)
        run_id = await create(engine, [sub_run("sub", "inner", {})])
        await is_open(store, run_id, "sub")
        await trio.sleep(1)
        child = await store.run_by_token(TENANT, f"{run_id}/sub")
        assert child is not None
        await engine.gateway.runs.cancel(TENANT, run_id, OPS)
        assert await ended(store, run_id) is RunState.CANCELLED
        assert await ended(store, child.run_id) is RunState.CANCELLED


async def test_a_sub_run_whose_inputs_fail_their_schema_fails_its_node(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine:
        schema = b'{"properties":{"n":{"type":"integer"}},"required":["n"]}'
        await register(engine, "inner", [job("x", payload={"of": "${inputs.n}"})], schema)
        run_id = await create(engine, [sub_run("sub", "inner", {"n": "many"})])
        assert await ended(store, run_id) is RunState.FAILED
        assert await states(store, run_id) == {"sub": "failed: INPUTS_INVALID"}


async def test_a_sub_run_of_a_dag_that_is_not_registered_fails_its_node(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    node = gate(NodeKind.SUB_RUN, "sub", payload={"dagId": "nowhere"})
    async with engine_over(store) as engine:
        run_id = await create(engine, [node])
        assert await ended(store, run_id) is RunState.FAILED
        assert await states(store, run_id) == {"sub": "failed: NOT_FOUND"}


async def test_a_failure_cancels_what_needs_it_and_the_rest_goes_on(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    nodes = [
        *DIAMOND,
        job("other"),
        job("mend", "b", trigger=TriggerRule.ANY_FAILED),
    ]
    async with engine_over(store) as engine, crew(engine, failing("b")):
        run_id = await create(engine, nodes)
        assert await ended(store, run_id) is RunState.FAILED
        found = await states(store, run_id)
        assert found["d"] == "upstream_failed"
        assert {found[key] for key in ("a", "c", "other", "mend")} == {"completed"}


async def test_fail_fast_cancels_the_rest(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [job("a"), gate(NodeKind.APPROVAL, "ok"), job("b", "ok")]
    async with engine_over(store) as engine, crew(engine, failing("a")):
        run_id = await create(engine, nodes, fail_fast=True)
        assert await ended(store, run_id) is RunState.FAILED
        assert await states(store, run_id) == {
            "a": "failed: Boom", "ok": "run_cancelled", "b": "run_cancelled"
        }  # fmt: skip


async def test_a_cancelled_run_ends_when_its_worker_has_stopped(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine) as hands:
        hands.paused = True
        run_id = await create(engine, DIAMOND)
        await is_open(store, run_id, "a")
        await engine.gateway.runs.cancel(TENANT, run_id, OPS)
        assert await ended(store, run_id) is RunState.CANCELLED
        assert set((await states(store, run_id)).values()) == {"run_cancelled"}


async def test_a_run_grows_while_it_goes_on(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [gate(NodeKind.APPROVAL, "ok"), job("end", "ok")]
    async with engine_over(store) as engine, crew(engine, lambda _: {"n": 3}) as hands:
        run_id = await create(engine, nodes)
        more = prepared([job("new"), job("reads", "new", {"n": "${results.new.n}"})])
        answer = await engine.gateway.runs.extend(TENANT, run_id, OPS, more, [Edge("reads", "end")])
        assert len(answer.job_ids) == 2
        await is_open(store, run_id, "reads")
        await engine.gateway.runs.approve(TENANT, run_id, "ok", OPS)
        assert await ended(store, run_id) is RunState.COMPLETED
        assert hands.done == ["new", "reads", "end"]
        assert payload_of(await job_at(store, run_id, "reads")) == {"n": 3}
    await audited(store)


async def test_what_failed_runs_again_in_a_run_of_its_own_with_the_results_that_are_kept(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    nodes = [
        job("a"),
        fan_out("m", "inputs.many", {"item": "${item}"}, "a"),
        job("b", "a m", {"a": "${results.a}", "m": "${results.m}"}),
        job("c", "b"),
    ]
    bad = ["b"]

    def handle(each: Job) -> Any:
        if each.definition.node_key in bad:
            raise JobFailureError("boom")
        return f"{each.definition.node_key} of {each.definition.run_id}"

    async with engine_over(store) as engine, crew(engine, handle) as hands:
        first = await create(engine, nodes, inputs={"many": [1, 2]})
        assert await ended(store, first) is RunState.FAILED
        second = (await engine.gateway.runs.retry_failed(TENANT, first, "again", OPS)).run_id
        assert await ended(store, second) is RunState.FAILED
        bad.clear()
        hands.done.clear()
        third = (await engine.gateway.runs.retry_failed(TENANT, second, "third", OPS)).run_id
        assert await ended(store, third) is RunState.COMPLETED
        assert hands.done == ["b", "c"]
        assert payload_of(await job_at(store, third, "b")) == {
            "a": f"a of {first}", "m": [f"m[0] of {first}", f"m[1] of {first}"]
        }  # fmt: skip
        record = await store.run(TENANT, third)
        assert record is not None
        assert record.replay_of == second
        assert record.rolled is not None
        assert record.rolled.completed == 7
    await audited(store)


async def test_a_replay_runs_a_node_and_all_behind_it_again(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine) as hands:
        first = await create(engine, DIAMOND)
        assert await ended(store, first) is RunState.COMPLETED
        hands.done.clear()
        runs = engine.gateway.runs
        answer = await runs.replay_from(TENANT, first, "b", "again", OPS)
        assert await ended(store, answer.run_id) is RunState.COMPLETED
        assert hands.done == ["b", "d"]
        same = await runs.replay_from(TENANT, first, "b", "again", OPS)
        assert same.run_id == answer.run_id
        with pytest.raises(RefusedError) as refused:
            await runs.retry_failed(TENANT, first, "more", OPS)
        assert refused.value.refusal.code is ErrorCode.ILLEGAL_TRANSITION


async def test_a_replay_of_more_than_one_commit_may_hold_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_making, "AGAIN_BYTES_MAX", 3)
    store = MemoryStore()
    async with engine_over(store) as engine, crew(engine) as hands:
        first = await create(engine, DIAMOND)
        assert await ended(store, first) is RunState.COMPLETED
        hands.done.clear()
        with pytest.raises(RefusedError) as refused:
            await engine.gateway.runs.replay_from(TENANT, first, "a", "again", OPS)
        refusal = refused.value.refusal
        assert refusal.code is ErrorCode.PAYLOAD_TOO_LARGE
        assert "replay from a later node" in refusal.message
        assert hands.done == []


async def gates(engine: Engine, store: Any, run_id: str, key: str) -> list[tuple[str, str]]:
    found = await engine.gateway.explain(TENANT, [(await job_at(store, run_id, key)).job_id])
    return [(each.gate, each.key) for each in found[0].gates]


async def test_explain_names_what_a_job_of_a_run_waits_for(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    nodes = [gate(NodeKind.APPROVAL, "ok"), job("a"), job("b", "a ok")]
    async with engine_over(store) as engine:
        run_id = await create(engine, nodes)
        await is_open(store, run_id, "ok")
        assert await gates(engine, store, run_id, "b") == [
            ("dependency", "a"),
            ("dependency", "ok"),
        ]
        assert await gates(engine, store, run_id, "ok") == [("held", "ok")]
        assert await gates(engine, store, run_id, "a") == [("no_worker", "scan")]
