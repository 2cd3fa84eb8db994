"""What went wrong in a run is stored, whatever its words, and the run can be read after it."""

import random

import pytest
import structlog

from jobengine.actors.run_reading import read_nodes
from jobengine.domain.node import NodeKind
from jobengine.domain.run import RunState
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.testing import memory_engine
from tests.actors.bare_worker import TENANT
from tests.actors.run_harness import OPS, create, ended, gate, is_open, policy

pytestmark = pytest.mark.parametrize("migrated_database", [18], indirect=True, ids=["18"])


async def test_a_run_whose_errors_hold_what_cannot_be_stored_is_read_as_any_other(
    migrated_database: str,
) -> None:
    nodes = [
        policy("nul", 'keys(`"a\\u0000b"`) == `[]`'),
        policy("large", "keys(inputs.a) == `[]`"),
        gate(NodeKind.CALLBACK, "call"),
    ]
    with structlog.testing.capture_logs():
        async with (
            open_postgres_store(migrated_database, dice=random.Random(1)) as store,
            memory_engine(store=store) as engine,
        ):
            run_id = await create(engine, nodes, inputs={"a": ["x" * 200_000]})
            await is_open(store, run_id, "call")
            await engine.gateway.runs.complete_callback(
                TENANT, run_id, "call", OPS, result=None, error="de\0nied"
            )
            assert await ended(store, run_id) is RunState.FAILED
            found = await read_nodes(store, TENANT, run_id)
            jobs = await store.jobs(TENANT, sorted(each.job_id for each in found))
    assert {each.node_key: each.error_class for each in found} == {
        "nul": "template_error",
        "large": "template_error",
        "call": "de\N{REPLACEMENT CHARACTER}nied",
    }
    assert all(each.error is not None and len(each.error) < 700 for each in jobs)
