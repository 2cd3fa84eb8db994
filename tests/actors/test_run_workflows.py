"""Workflows that were published, over the real actors, from their request to their end."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import structlog
from trio.testing import MockClock

from jobengine.domain.job import Job
from jobengine.domain.node import Node
from jobengine.domain.run import RunState
from jobengine.store.memory import MemoryStore
from tests.actors.bare_worker import TENANT
from tests.actors.run_harness import JobFailureError, create, crew, ended, job, states
from tests.actors.test_recovery import audited, engine_over
from tests.core.test_dag_planner import cybershake, cycles, epigenomics, genome, montage

Shape = Callable[[int], list[Node]]

PUBLISHED = pytest.mark.parametrize("shape", [montage, epigenomics, cybershake, cycles, genome])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def behind(nodes: Sequence[Node], first: str) -> set[str]:
    """The keys of all nodes that follow from one."""
    reached = {first}
    for _ in nodes:
        reached |= {node.key for node in nodes if reached & set(node.depends_on)}
    return reached - {first}


@PUBLISHED
async def test_a_published_workflow_runs_to_completion_in_the_order_of_its_edges(
    shape: Shape, autojump_clock: MockClock
) -> None:
    store, nodes = MemoryStore(), shape(20)
    async with engine_over(store) as engine, crew(engine) as hands:
        run_id = await create(engine, [job(node.key, " ".join(node.depends_on)) for node in nodes])
        assert await ended(store, run_id) is RunState.COMPLETED
        assert set((await states(store, run_id)).values()) == {"completed"}
        record = await store.run(TENANT, run_id)
        assert record is not None
        assert record.rolled is not None
        assert record.rolled.completed == len(nodes)
    await audited(store)
    place = {key: number for number, key in enumerate(hands.done)}
    assert sorted(place) == sorted(node.key for node in nodes)
    assert len(hands.done) == len(nodes)
    for node in nodes:
        assert all(place[key] < place[node.key] for key in node.depends_on)


@PUBLISHED
async def test_what_stands_behind_a_failure_of_a_published_workflow_is_cancelled(
    shape: Shape, autojump_clock: MockClock
) -> None:
    store, nodes = MemoryStore(), shape(12)
    broken = nodes[len(nodes) // 2].key

    def handle(each: Job) -> None:
        if each.definition.node_key == broken:
            raise JobFailureError("boom")

    async with engine_over(store) as engine, crew(engine, handle):
        run_id = await create(engine, [job(node.key, " ".join(node.depends_on)) for node in nodes])
        assert await ended(store, run_id) is RunState.FAILED
        expected = dict.fromkeys((node.key for node in nodes), "completed")
        expected |= dict.fromkeys(behind(nodes, broken), "upstream_failed")
        assert await states(store, run_id) == expected | {broken: "failed: Boom"}
    await audited(store)
