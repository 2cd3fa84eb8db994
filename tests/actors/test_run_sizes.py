"""However much the nodes of a run bring in, no change and no memory of it grows without a bound."""

from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.run_results import READ_BYTES_MAX, RunResults
from jobengine.actors.run_sheets import BYTES_MAX, RunSheets
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import CommitBatch
from jobengine.domain.node import NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.run_sheet import EXPANSION_BYTES_MAX, EvaluationError
from jobengine.store.memory import MemoryStore
from tests.actors.bare_worker import TENANT
from tests.actors.faulty_store import FaultyStore
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
    states,
)
from tests.actors.test_recovery import audited, engine_over

KB, MB = 1024, 1024 * 1024
BIG = "x" * 240 * KB
"""About as large as a payload or a result may be."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class WeighingStore(MemoryStore):
    """Knows the bytes of payloads and results in the largest change that was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        for change in batch.changes:
            rows = change.job_rows()
            size = sum(len(row.payload or b"") + len(row.result or b"") for row in rows)
            self.largest = max(self.largest, size)
        return super().commit(batch)


@pytest.mark.parametrize("kind", [NodeKind.JOB, NodeKind.APPROVAL])
async def test_what_is_filled_in_leaves_in_parts(autojump_clock: MockClock, kind: NodeKind) -> None:
    store, payload = WeighingStore(), {"x": "${inputs.big}"}
    made = [
        job(f"n{n}", payload=payload) if kind is NodeKind.JOB else gate(kind, f"n{n}", "", payload)
        for n in range(80)
    ]
    nodes = [*made, job("plain"), job("skipped", when="inputs.no"), job("behind", "n0 n79 plain")]
    async with engine_over(store) as engine, crew(engine) as hands:
        run_id = await create(engine, nodes, inputs={"big": BIG, "no": False})
        if kind is NodeKind.APPROVAL:
            for n in range(80):
                await is_open(store, run_id, f"n{n}")
                await engine.gateway.runs.approve(TENANT, run_id, f"n{n}", OPS)
        assert await ended(store, run_id) is RunState.COMPLETED
        found = await states(store, run_id)
        assert found.pop("skipped") == "skipped"
        assert set(found.values()) == {"completed"}
        assert len(hands.done) == len(set(hands.done))
    await audited(store)
    assert 7 * MB < store.largest < 9 * MB


async def test_results_of_callbacks_leave_in_parts(autojump_clock: MockClock) -> None:
    store = WeighingStore()
    keys = [f"c{n}" for n in range(80)]
    result = canonical_of(BIG)
    async with engine_over(store) as engine:
        run_id = await create(engine, [gate(NodeKind.CALLBACK, key) for key in keys])
        await is_open(store, run_id, keys[-1])
        async with trio.open_nursery() as nursery:

            async def call_back(key: str) -> None:
                runs = engine.gateway.runs
                await runs.complete_callback(TENANT, run_id, key, OPS, result=result)

            for key in keys:
                nursery.start_soon(call_back, key)
        assert await ended(store, run_id) is RunState.COMPLETED
    assert store.largest < 9 * MB


@pytest.mark.parametrize(
    "payload", [{"x": "${inputs.big}"}, {"x": BIG}], ids=["filled in", "constant"]
)
async def test_a_list_whose_jobs_are_too_large_together_fails_its_node_and_says_what_to_do(
    autojump_clock: MockClock, payload: Any
) -> None:
    store = WeighingStore()
    nodes = [fan_out("few", "inputs.few", payload), fan_out("many", "inputs.many", payload)]
    inputs = {"few": [0] * 10, "many": [0] * 100, "big": BIG}
    async with engine_over(store) as engine, crew(engine):
        run_id = await create(engine, nodes, inputs=inputs)
        assert await ended(store, run_id) is RunState.FAILED
        found = await states(store, run_id)
        assert (found["few"], found["many"]) == ("completed", "failed: template_error")
        error = (await job_at(store, run_id, "many")).error
        assert b"references to what is large" in (error or b"")
    assert store.largest < EXPANSION_BYTES_MAX


async def test_a_node_that_reads_too_much_fails_and_those_that_read_part_of_it_go_on(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    first = [f"n{n}" for n in range(40)]
    all_of = {key: f"${{length(results.{key})}}" for key in first}
    nodes = [
        *(job(key) for key in first),
        *(job(f"of-{key}", key, {"n": f"${{length(results.{key})}}"}) for key in first),
        job("all", " ".join(first), all_of),
    ]
    async with engine_over(store) as engine, crew(engine, lambda _: BIG):
        run_id = await create(engine, nodes)
        assert await ended(store, run_id) is RunState.FAILED
        found = await states(store, run_id)
        assert found.pop("all") == "failed: template_error"
        assert set(found.values()) == {"completed"}
        error = (await job_at(store, run_id, "all")).error
        assert b"references to what is large" in (error or b"")


async def test_results_are_read_by_pages_and_those_looked_at_last_are_kept(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    keys = [f"n{n}" for n in range(70)]
    async with engine_over(store) as engine, crew(engine, lambda _: BIG):
        run_id = await create(engine, [job(key) for key in keys])
        await ended(store, run_id)
        job_ids = [(await job_at(store, run_id, key)).job_id for key in keys]
        results, read = RunResults(store, TENANT, [*job_ids, "absent"]), store.calls["jobs"]
        for job_id in job_ids:
            assert (await results.of([job_id])).get(job_id) == BIG
        assert store.calls["jobs"] - read == 3
        assert (await results.of([job_ids[-1], "absent"])).get("absent") is None
        assert store.calls["jobs"] - read == 3
        await results.of([job_ids[0]])
        assert store.calls["jobs"] - read == 4
        with pytest.raises(EvaluationError, match=f"{READ_BYTES_MAX} bytes"):
            await results.of(job_ids)


async def test_of_sheets_with_large_inputs_those_used_last_are_kept(
    autojump_clock: MockClock,
) -> None:
    store, node = FaultyStore(), gate(NodeKind.APPROVAL, "ok")
    count = BYTES_MAX // (16 * len(BIG)) + 5
    async with engine_over(store) as engine:
        run_ids = [
            await create(engine, [node], f"token-{n}", inputs={"big": BIG}) for n in range(count)
        ]
        sheets = RunSheets(store)
        for run_id in run_ids:
            await sheets.of(TENANT, run_id)
        read = store.calls["run_parts"]
        await sheets.of(TENANT, run_ids[-1])
        assert store.calls["run_parts"] == read
        await sheets.of(TENANT, run_ids[0])
        assert store.calls["run_parts"] == read + 1
