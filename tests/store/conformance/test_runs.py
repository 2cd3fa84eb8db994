"""Runs: what a commit does to them, and how they, their parts and their nodes are read back."""

import hashlib
import uuid
from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, JobRow, RunPartRow, RunRow
from jobengine.domain.graph import Edge
from jobengine.domain.job import State
from jobengine.domain.node import Node
from jobengine.domain.run import NodeError, RollUp, RunState
from jobengine.domain.run_part import RunPart, encode_part
from jobengine.domain.run_record import NodeRecord, PackOrigin, RunRecord
from jobengine.store.errors import StaleRowError, StatementRefusedError
from jobengine.store.port import Store
from jobengine.store.runs import RunFilter
from tests.store.conformance.conftest import open_store
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)

DIGEST = "0" * 64
ROLLED = RollUp(
    completed=2, failed=1, errors=(NodeError(key="b", error="timeout"),), outputs_hash="f" * 64
)
ANY = RunFilter()


def run_id(number: int) -> str:
    """Ids that sort by number."""
    return str(uuid.UUID(int=0x0199_0000_0000_7000_8000_0000_0000_0000 + number))


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def begun(number: int = 1, *, tenant_id: str = TENANT, **fields: Any) -> RunRow:
    given: dict[str, Any] = {
        "tenant_id": tenant_id,
        "shard": SHARD,
        "run_id": run_id(number),
        "state": "pending",
        "nodes": 3,
        "run_token": f"token-{number}",
        "created_at": NOW,
        "created_by": "ops",
        "inputs_hash": DIGEST,
    }
    return RunRow(**given | fields)


def changed(
    from_state: str, state: str, number: int = 1, *, tenant_id: str = TENANT, **fields: Any
) -> RunRow:
    return RunRow(
        tenant_id=tenant_id,
        shard=SHARD,
        run_id=run_id(number),
        from_state=from_state,
        state=state,
        **fields,
    )


def ended(number: int, state: str = "completed", **fields: Any) -> RunRow:
    """A run that is over as soon as it is there."""
    return begun(number, state=state, **{"started_at": NOW, "finished_at": NOW + 9} | fields)


def part(body: RunPart, number: int = 1, *, tenant_id: str = TENANT) -> RunPartRow:
    stored = msgspec.Raw(encode_part(body))
    return RunPartRow(tenant_id=tenant_id, run_id=run_id(number), body=stored)


def node_row(number: int, state: str = "pending", *, run: int = 1, **fields: Any) -> JobRow:
    about = definition(run_id=run_id(run), node_key=f"n{number}", payload_digest=f"{number:064x}")
    return new_row(number, state, about=about, **fields)


async def the_run(store: Store, number: int = 1) -> RunRecord:
    run = await store.run(TENANT, run_id(number))
    assert run is not None
    return run


async def numbers(store: Store, wanted: RunFilter) -> list[int]:
    runs = await store.run_list(TENANT, wanted, None, 100)
    return [uuid.UUID(run.run_id).int & 0xFF for run in runs]


# ---- what a commit does


async def test_a_run_is_read_back_whole(store: Store, scribe: Scribe) -> None:
    row = begun(
        project_id="web",
        dag_id="nightly",
        dag_version=4,
        fail_fast=True,
        inputs=msgspec.Raw(b'{"a":"\xc3\xa4"}'),
        traceparent="00-1-2-01",
        correlation_id="c1",
        replay_of=run_id(7),
        parent_run=run_id(8),
        parent_key="sub",
        pack=raw(PackOrigin(digest=DIGEST, pack_id="p", plan_hash="e" * 64, version=2)),
    )
    await scribe.aside(runs=[row])
    whole = RunRecord(
        tenant_id=TENANT,
        run_id=run_id(1),
        run_token="token-1",
        state=RunState.PENDING,
        nodes=3,
        created_at=NOW,
        created_by="ops",
        project_id="web",
        dag_id="nightly",
        dag_version=4,
        fail_fast=True,
        inputs=b'{"a":"\xc3\xa4"}',
        inputs_hash=DIGEST,
        traceparent="00-1-2-01",
        correlation_id="c1",
        replay_of=run_id(7),
        parent_run=run_id(8),
        parent_key="sub",
        pack=PackOrigin(digest=DIGEST, pack_id="p", plan_hash="e" * 64, version=2),
    )
    assert await store.run(TENANT, run_id(1)) == whole
    assert await store.run_by_token(TENANT, "token-1") == whole
    assert await store.run(TENANT, run_id(2)) is None
    assert await store.run(TENANT, "not an id") is None
    assert await store.run_by_token(TENANT, "token-2") is None


async def test_what_a_run_was_not_given_is_read_back_as_nothing(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(runs=[begun(inputs_hash=None, nodes=0)])
    assert await store.run(TENANT, run_id(1)) == RunRecord(
        tenant_id=TENANT,
        run_id=run_id(1),
        run_token="token-1",
        state=RunState.PENDING,
        nodes=0,
        created_at=NOW,
        created_by="ops",
    )


async def test_a_run_goes_forward_and_what_a_change_does_not_name_stays(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(runs=[begun(inputs=msgspec.Raw(b'{"a":1}')), begun(2)])
    await scribe.aside(runs=[changed("pending", "running", started_at=NOW + 1)])
    await scribe.aside(runs=[changed("running", "running", nodes=2)])
    await scribe.aside(runs=[changed("running", "running", cancel_requested_at=NOW + 2)])
    await scribe.aside(
        runs=[changed("running", "cancelled", finished_at=NOW + 3, rolled=raw(ROLLED))]
    )
    run = await the_run(store)
    assert (run.state, run.nodes, run.rolled) == (RunState.CANCELLED, 5, ROLLED)
    assert (run.started_at, run.cancel_requested_at, run.finished_at) == (NOW + 1, NOW + 2, NOW + 3)
    assert (run.inputs, run.run_token, run.created_at) == (b'{"a":1}', "token-1", NOW)
    other = await the_run(store, 2)
    assert (other.state, other.nodes, other.started_at) == (RunState.PENDING, 3, None)


async def test_many_runs_change_in_one_commit_each_in_its_own_way(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(runs=[begun(number) for number in range(1, 6)])
    await scribe.aside(
        runs=[begun(6)]
        + [changed("pending", "running", n, started_at=NOW + n, nodes=n) for n in (4, 2, 5)]
    )
    runs = [await the_run(store, number) for number in range(1, 7)]
    assert [run.started_at for run in runs] == [None, NOW + 2, None, NOW + 4, NOW + 5, None]
    assert [run.nodes for run in runs] == [3, 5, 3, 7, 8, 3]


async def test_a_change_of_a_run_that_is_in_another_state_fails_the_whole_commit(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(runs=[begun(1), begun(2)])
    wrong = [
        changed("pending", "running", 1, started_at=NOW),
        changed("running", "completed", 2, finished_at=NOW),
        changed("pending", "running", 3, started_at=NOW),
    ]
    with pytest.raises(StaleRowError) as raised:
        await scribe.write(ChangeSet(tenant_id=TENANT, rows=[new_row(1)], runs=wrong))
    assert (raised.value.tenant_id, raised.value.ids) == (TENANT, (run_id(2), run_id(3)))
    assert (await the_run(store, 1)).state is RunState.PENDING
    assert await store.jobs(TENANT, [job_id(1)]) == []
    assert await store.heads([TENANT]) == scribe.heads


@pytest.mark.parametrize(
    ("wrong", "constraint"),
    [
        (begun(1, run_token="another"), "runs_pkey"),
        (begun(2, run_token="token-1"), "runs_token_is_one_runs"),
        (begun(2, state="completed"), "runs_ended_at_an_instant"),
        (begun(2, state="running"), "runs_running_has_started"),
        (begun(2, state="halted"), "runs_state_is_known"),
        (begun(2, nodes=-1), "runs_nodes_are_not_negative"),
        (changed("pending", "running"), "runs_running_has_started"),
        (changed("pending", "cancelled"), "runs_ended_at_an_instant"),
        (changed("pending", "pending", nodes=-4), "runs_nodes_are_not_negative"),
    ],
)
async def test_a_run_that_breaks_a_rule_is_refused_with_all_that_came_along(
    store: Store, scribe: Scribe, wrong: RunRow, constraint: str
) -> None:
    await scribe.aside(runs=[begun(1)])
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(runs=[begun(3), wrong])
    assert raised.value.constraint_name == constraint
    assert await store.run(TENANT, run_id(3)) is None
    assert (await the_run(store)).state is RunState.PENDING


async def test_of_two_runs_of_one_token_in_one_commit_there_is_neither(
    store: Store, scribe: Scribe
) -> None:
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(runs=[begun(1), begun(2, run_token="token-1")])
    assert raised.value.constraint_name == "runs_token_is_one_runs"
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(runs=[begun(1, run_token=None)])
    assert raised.value.sqlstate == "23502"
    assert await numbers(store, ANY) == []


async def test_parts_come_back_in_the_order_in_which_they_came(
    store: Store, scribe: Scribe
) -> None:
    first = RunPart(
        nodes=(Node(key="a"), Node(key="b", depends_on=("a",))), kept={"old": job_id(9)}
    )
    grown = [
        RunPart(nodes=(Node(key=f"g{number}"),), edges=(Edge("a", f"g{number}"),))
        for number in range(3)
    ]
    await scribe.aside(runs=[begun(1), begun(2)], run_parts=[part(first), part(RunPart(), 2)])
    for body in grown:
        await scribe.aside(run_parts=[part(body)])
    assert await store.run_parts(TENANT, run_id(1)) == [first, *grown]
    assert await store.run_parts(TENANT, run_id(2)) == [RunPart()]
    assert await store.run_parts(TENANT, run_id(3)) == []
    assert await store.run_parts(TENANT, "not an id") == []
    assert await store.run_parts("globex", run_id(1)) == []


async def test_two_parts_of_a_run_do_not_fit_into_one_commit(store: Store, scribe: Scribe) -> None:
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(runs=[begun()], run_parts=[part(RunPart()), part(RunPart())])
    assert raised.value.constraint_name == "run_parts_pkey"
    assert await store.run(TENANT, run_id(1)) is None


@pytest.mark.parametrize("with_a_run", [False, True], ids=["jobs alone", "with a run"])
@pytest.mark.parametrize("payload", [b'{"filled":"in"}', b"null", b"[1, 2]"])
async def test_a_job_that_is_released_may_bring_its_payload(
    store: Store, scribe: Scribe, payload: bytes, with_a_run: bool
) -> None:
    await scribe.rows(node_row(1, payload=b'"${inputs.a}"'), node_row(2))
    released = change_row(await scribe.job(1), "scheduled", payload=msgspec.Raw(payload))
    runs = [begun()] if with_a_run else []
    other = change_row(await scribe.job(2), "scheduled")
    await scribe.write(ChangeSet(tenant_id=TENANT, rows=[released, other], runs=runs))
    assert (await scribe.job(1)).payload == payload
    assert (await scribe.job(2)).payload == b'{"n":1}'
    (lane,) = await store.lanes(SHARD, NOW)
    first = await store.ready(lane, None, NOW, 10, len(payload) + 6)
    assert len(first) == 1
    assert len(await store.ready(lane, None, NOW, 10, len(payload) + 7)) == 2
    await scribe.rows(change_row(await scribe.job(1), "running"))
    assert (await scribe.job(1)).payload == payload


# ---- how runs are read


async def test_runs_are_listed_newest_first_a_page_at_a_time(store: Store, scribe: Scribe) -> None:
    await scribe.aside(
        runs=[begun(1), begun(2, created_at=NOW - 5), begun(3), begun(4, created_at=NOW + 5)]
    )
    await scribe.aside("globex", runs=[begun(9, tenant_id="globex")])
    found: list[RunRecord] = []
    after: tuple[int, str] | None = None
    while page := await store.run_list(TENANT, ANY, after, 3):
        found += page
        after = (page[-1].created_at, page[-1].run_id)
    assert [run.run_id for run in found] == [run_id(number) for number in (4, 3, 1, 2)]


async def test_runs_are_listed_by_what_they_are(store: Store, scribe: Scribe) -> None:
    pack = raw(PackOrigin(digest=DIGEST, pack_id="audit", plan_hash=DIGEST, version=1))
    other = raw(PackOrigin(digest=DIGEST, pack_id="scan", plan_hash=DIGEST, version=1))
    await scribe.aside(
        runs=[
            begun(1, dag_id="nightly", project_id="web"),
            begun(2, state="running", started_at=NOW, pack=pack, created_at=NOW - 9),
            ended(3, "failed", pack=other, project_id="web"),
            ended(4, dag_id="nightly"),
        ]
    )
    waits = frozenset({RunState.PENDING, RunState.RUNNING})
    cases = [
        (ANY, [4, 3, 1, 2]),
        (RunFilter(states=waits), [1, 2]),
        (RunFilter(dag_id="nightly"), [4, 1]),
        (RunFilter(dag_id="nightly", states=waits), [1]),
        (RunFilter(project_id="web"), [3, 1]),
        (RunFilter(packs=True), [3, 2]),
        (RunFilter(pack_id="audit"), [2]),
        (RunFilter(created_from_at=NOW), [4, 3, 1]),
        (RunFilter(created_before_at=NOW), [2]),
        (RunFilter(created_from_at=NOW - 9, created_before_at=NOW), [2]),
        (RunFilter(pack_id="nightly"), []),
    ]
    for wanted, expected in cases:
        assert await numbers(store, wanted) == expected, wanted


async def test_ended_runs_are_exported_by_their_start_or_else_their_end(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(
        runs=[
            begun(1),
            begun(2, state="running", started_at=NOW),
            ended(3, started_at=NOW + 4),
            ended(4, "failed", started_at=NOW + 2, finished_at=NOW + 50),
            ended(5, "cancelled", started_at=None, finished_at=NOW + 3),
            ended(6, started_at=NOW + 4),
            ended(7, started_at=NOW - 1, finished_at=NOW + 1),
            ended(8, started_at=NOW + 9),
        ]
    )
    found: list[str] = []
    after: tuple[int, str] | None = None
    while page := await store.run_export(TENANT, NOW, NOW + 9, after, 3):
        found += [run.run_id for run in page]
        last = page[-1]
        after = (last.started_at or last.finished_at or 0, last.run_id)
    assert found == [run_id(number) for number in (4, 5, 3, 6)]
    assert await store.run_export("globex", 0, NOW * 2, None, 9) == []


async def test_the_live_runs_of_a_shard_are_read_across_tenants_in_order(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(
        runs=[begun(2), begun(1, state="running", started_at=NOW), ended(3), begun(4, shard=9)]
    )
    for tenant_id in ("globex", "ab"):
        await scribe.aside(tenant_id, runs=[begun(5, tenant_id=tenant_id)])
    found: list[tuple[str, str]] = []
    while page := await store.runs_live(SHARD, found[-1] if found else None, 2):
        found += [(run.tenant_id, run.run_id) for run in page]
    assert found == [
        ("ab", run_id(5)),
        (TENANT, run_id(1)),
        (TENANT, run_id(2)),
        ("globex", run_id(5)),
    ]
    await scribe.aside(runs=[changed("pending", "cancelled", 2, finished_at=NOW)])
    assert len(await store.runs_live(SHARD, None, 9)) == 3


# ---- nodes


async def test_the_nodes_of_a_run_are_its_jobs_without_what_they_are_to_do(
    store: Store, scribe: Scribe
) -> None:
    rows = [node_row(number) for number in (3, 1, 2)]
    await scribe.rows(*rows, node_row(4, run=2), new_row(5, "pending"))
    error = msgspec.Raw(b'{"class":"timeout","message":"late","retryable":false}')
    result = b'{"b": 1,"a":"\xc3\xa4"}'
    await scribe.rows(
        change_row(await scribe.job(2), "scheduled", due_at=NOW + 5),
        change_row(await scribe.job(1), "running"),
    )
    await scribe.rows(
        change_row(
            await scribe.job(1),
            "failed",
            error=error,
            failures=2,
            reason="error",
            result=msgspec.Raw(result),
            progress=msgspec.Raw(b"[0.5]"),
            cancel_requested_at=NOW + 1,
        )
    )
    nodes = await store.run_nodes(TENANT, run_id(1), None, 10)
    assert [node.job_id for node in nodes] == [job_id(number) for number in (1, 2, 3)]
    job = await scribe.job(1)
    assert nodes[0] == NodeRecord(
        job_id=job_id(1),
        node_key="n1",
        job_type="scan",
        queue="scans",
        state=State.FAILED,
        reason="error",
        attempt=1,
        failures=2,
        created_at=NOW,
        due_at=NOW,
        scheduled_at=None,
        started_at=NOW,
        finished_at=NOW,
        cancel_requested_at=NOW + 1,
        payload_digest=f"{1:064x}",
        result_digest=hashlib.sha256(result).hexdigest(),
        error_class="timeout",
        error_retryable=False,
        progress=b"[0.5]",
        seqs=tuple(job.seqs),
    )
    assert len(nodes[0].seqs) == 3
    assert (nodes[1].state, nodes[1].due_at, nodes[1].scheduled_at) == (
        State.SCHEDULED,
        NOW + 5,
        NOW,
    )
    assert (nodes[2].result_digest, nodes[2].error_class, nodes[2].error_retryable) == (None,) * 3


async def test_nodes_come_a_page_at_a_time_or_by_name(store: Store, scribe: Scribe) -> None:
    await scribe.rows(*(node_row(number) for number in range(1, 8)), new_row(9))
    found: list[str] = []
    while page := await store.run_nodes(TENANT, run_id(1), found[-1] if found else None, 3):
        found += [node.job_id for node in page]
    assert found == [job_id(number) for number in range(1, 8)]
    assert await store.run_nodes(TENANT, run_id(2), None, 3) == []
    assert await store.run_nodes("globex", run_id(1), None, 3) == []
    asked = [job_id(9), job_id(2), "not an id", job_id(8), job_id(1), job_id(2)]
    named = await store.node_records(TENANT, asked)
    assert [(node.job_id, node.node_key) for node in named] == [
        (job_id(1), "n1"),
        (job_id(2), "n2"),
        (job_id(9), ""),
    ]
    assert named[0] == (await store.run_nodes(TENANT, run_id(1), None, 1))[0]
    assert await store.node_records("globex", asked) == []


@pytest.mark.parametrize(
    "error", [b'"lost"', b"[1]", b'{"class":"x"}', b'{"class":"x","retryable":true}']
)
async def test_a_node_tells_of_its_error_what_the_error_says(
    store: Store, scribe: Scribe, error: bytes
) -> None:
    await scribe.rows(node_row(1, "failed", error=msgspec.Raw(error)))
    (node,) = await store.run_nodes(TENANT, run_id(1), None, 1)
    assert node.error_class == ("x" if b"x" in error else None)
    assert node.error_retryable == (True if b"true" in error else None)


async def test_typical_durations_are_medians_over_the_newest_completed_jobs(
    store: Store, scribe: Scribe
) -> None:
    def done(number: int, took: int, job_type: str = "scan", state: str = "completed") -> JobRow:
        about = definition(job_type=job_type)
        return new_row(number, state, about=about, started_at=NOW, finished_at=NOW + took)

    await scribe.rows(
        done(1, 1_000_000),
        *(done(number, took) for number, took in enumerate((50, 10, 30, 20), start=2)),
        done(6, 7, "diff"),
        done(7, 1, "diff", "failed"),
        new_row(8, "completed", started_at=None),
        new_row(9, "pending"),
        new_row(10, tenant_id="globex"),
    )
    assert await store.typical_durations(TENANT, 8) == {"scan": 20, "diff": 7}
    assert await store.typical_durations(TENANT, 100) == {"scan": 30, "diff": 7}
    assert await store.typical_durations(TENANT, 5) == {"scan": 20, "diff": 7}
    assert await store.typical_durations(TENANT, 2) == {}
    assert await store.typical_durations("initech", 100) == {}


# ---- across


async def test_runs_of_one_tenant_are_none_of_another(store: Store, scribe: Scribe) -> None:
    await scribe.aside(runs=[ended(1)], run_parts=[part(RunPart(nodes=(Node(key="a"),)))])
    await scribe.rows(node_row(1))
    assert await store.run("globex", run_id(1)) is None
    assert await store.run_by_token("globex", "token-1") is None
    assert await store.run_list("globex", ANY, None, 9) == []
    twin = begun(1, tenant_id="globex", dag_id="theirs")
    mine = RunPart(nodes=(Node(key="theirs"),))
    await scribe.aside("globex", runs=[twin], run_parts=[part(mine, tenant_id="globex")])
    found = await store.run("globex", run_id(1))
    assert found is not None
    assert found.dag_id == "theirs"
    assert (await the_run(store)).dag_id is None
    assert await store.run_parts("globex", run_id(1)) == [mine]
    with pytest.raises(StaleRowError):
        await scribe.aside(runs=[changed("pending", "running", started_at=NOW)])
    await scribe.aside(
        "globex", runs=[changed("pending", "running", tenant_id="globex", started_at=NOW)]
    )
    assert (await the_run(store)).state is RunState.COMPLETED


async def test_a_run_outlives_its_store(migrated_database: str) -> None:
    async with open_store(migrated_database) as store:
        scribe = Scribe(store)
        await scribe.write(
            ChangeSet(
                tenant_id=TENANT,
                rows=[node_row(1), node_row(2)],
                runs=[begun()],
                run_parts=[part(RunPart(nodes=(Node(key="n1"), Node(key="n2"))))],
            )
        )
        before = await the_run(store)
    async with open_store(migrated_database) as store:
        assert await store.runs_live(SHARD, None, 9) == [before]
        assert len((await store.run_parts(TENANT, run_id(1)))[0].nodes) == 2
        nodes = await store.run_nodes(TENANT, run_id(1), None, 9)
        assert [node.node_key for node in nodes] == ["n1", "n2"]
