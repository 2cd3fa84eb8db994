"""What doors give becomes a run: graph, jobs, ids, and refusals that name the place."""

import random
from typing import Any

import msgspec
import pytest

from jobengine.domain.canonical import canonical, digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.job import Definition
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import JobIds, RunState
from jobengine.domain.run_nodes import (
    MapSpec,
    NodeJob,
    PolicySpec,
    decode_nodes,
    encode_nodes,
    prepare_nodes,
    workerless,
)
from jobengine.domain.run_part import RunPart, decode_part, encode_part, templates_of
from jobengine.domain.run_plan import PlannedRun, jobs_of_growth, plan_rerun, plan_run
from jobengine.domain.run_record import RunRecord
from jobengine.domain.run_sheet import (
    PAYLOAD_BYTES_MAX,
    EvaluationError,
    ListChangedError,
    RunSheet,
)
from jobengine.wire.fields import PAYLOAD_BYTES_MAX as PAYLOAD_BYTES_MAX_AT_DOORS

AT = 1_767_225_600_000_000
RECORD = RunRecord(
    tenant_id="acme",
    run_id="run-1",
    run_token="token",
    state=RunState.PENDING,
    nodes=0,
    created_at=AT,
    created_by="producer",
    project_id="p1",
    inputs=b'{"n":3}',
    traceparent="00-trace",
)
IDS = JobIds("acme", "token", AT)
SCAN = Definition(job_type="scan", queue="scan", payload_digest="")
COSTLY = msgspec.structs.replace(SCAN, cost=2)
UNIQUE = msgspec.structs.replace(SCAN, unique_key="k")
HELD = msgspec.structs.replace(SCAN, hold=True)
INVALID, NO_TEMPLATE = ErrorCode.RUN_INVALID, ErrorCode.TEMPLATE_INVALID


def node(
    key: str, after: str = "", payload: Any = None, kind: NodeKind = NodeKind.JOB, **fields: Any
) -> NodeJob:
    definition = fields.pop("definition", SCAN if kind is NodeKind.JOB else workerless(kind))
    text = canonical(msgspec.json.encode({} if payload is None else payload))
    return NodeJob(
        definition=definition,
        node=Node(key=key, kind=kind, depends_on=tuple(after.split()), **fields),
        payload=msgspec.Raw(text),
    )


def mapped(key: str, over: str, payload: Any, after: str = "") -> NodeJob:
    raw = msgspec.Raw(canonical(msgspec.json.encode(payload)))
    return node(key, after, MapSpec(definition=SCAN, over=over, payload=raw), NodeKind.MAP)


def plan(*nodes: NodeJob, record: RunRecord = RECORD) -> PlannedRun:
    whole = plan_run(record, nodes)
    assert isinstance(whole, PlannedRun), whole
    return whole


def test_jobs_name_their_run_their_key_and_what_they_depend_on() -> None:
    whole = plan(node("b", "a", {"x": 1}), node("a"))
    assert [new.job_id for new in whole.jobs] == [IDS.of("a"), IDS.of("b")]
    b = whole.jobs[1].definition
    assert (b.run_id, b.node_key, b.depends_on) == ("run-1", "b", (IDS.of("a"),))
    assert (b.project_id, b.correlation_id, b.traceparent) == ("p1", "run-1", "00-trace")
    assert b.payload_digest == digest(b'{"x":1}')
    assert msgspec.json.decode(whole.jobs[1].definition_json, type=Definition) == b
    assert whole.record.nodes == 2


def test_the_plan_does_not_depend_on_the_order_in_which_nodes_came() -> None:
    nodes = [node(f"n{i}", " ".join(f"n{j}" for j in range(i) if j % 3 == i % 3)) for i in range(9)]
    first = plan(*nodes)
    for seed in range(5):
        shuffled = nodes.copy()
        random.Random(seed).shuffle(shuffled)
        other = plan(*shuffled)
        assert (other.record, other.nodes, other.jobs) == (first.record, first.nodes, first.jobs)


@pytest.mark.parametrize(
    "other",
    [
        [node("a", payload={"x": 2}), node("b", "a")],
        [node("a", payload={"x": 1}), node("b")],
        [node("a", payload={"x": 1}), node("b", "a", when="inputs.n > `1`")],
        [
            node("a", payload={"x": 1}, definition=COSTLY),
            node("b", "a"),
        ],
    ],
)
def test_the_inputs_hash_tells_runs_apart_that_do_something_else(other: list[NodeJob]) -> None:
    one = [node("a", payload={"x": 1}), node("b", "a")]
    record = msgspec.structs.replace(RECORD, run_id="run-2", run_token="t2", created_at=AT + 1)
    traced = msgspec.structs.replace(SCAN, correlation_id="c", traceparent="00-other")
    same = [node("a", payload={"x": 1}, definition=traced), node("b", "a")]
    assert plan(*one).record.inputs_hash == plan(*same, record=record).record.inputs_hash
    assert plan(*one).record.inputs_hash != plan(*other).record.inputs_hash


def test_what_reads_anything_is_templated_and_its_template_is_kept_with_the_part() -> None:
    whole = plan(
        node("a", payload={"literal": "$5"}),
        node("b", "a", {"x": "${results.a.n}"}),
        node("c", payload={"x": "${inputs.n}"}),
    )
    templated = {new.definition.node_key: new.definition.templated for new in whole.jobs}
    assert templated == {"a": False, "b": True, "c": True}
    reads = {each.key: each.reads for each in whole.nodes}
    assert reads == {"a": None, "b": ("a",), "c": ()}
    part = RunPart(nodes=tuple(whole.nodes), templates=templates_of(whole.jobs))
    stored = decode_part(encode_part(part))
    assert {key: bytes(text) for key, text in stored.templates.items()} == {
        "b": b'{"x":"${results.a.n}"}', "c": b'{"x":"${inputs.n}"}'
    }  # fmt: skip


def test_a_map_node_brings_the_job_of_its_join_and_who_depends_on_it_waits_for_that() -> None:
    whole = plan(mapped("m", "inputs.n", {}), node("z", "m"))
    assert [new.definition.node_key for new in whole.jobs] == ["m", "m[]", "z"]
    assert [new.definition.job_type for new in whole.jobs] == ["orch.map", "orch.join", "scan"]
    assert whole.jobs[2].definition.depends_on == (IDS.of("m[]"),)
    assert whole.record.nodes == 3


@pytest.mark.parametrize(
    ("bad", "path", "code"),
    [
        (node("b", payload={"x": "${results.a}"}), "jobs[1].dependsOn", INVALID),
        (node("b", when="results.a"), "jobs[1].dependsOn", INVALID),
        (node("b", "nowhere"), "jobs[1].dependsOn[0]", INVALID),
        (node("b", when="inputs.["), "jobs[1].when", NO_TEMPLATE),
        (node("b", payload={"x": "${item}"}), "jobs[1].payload.x", NO_TEMPLATE),
        (mapped("b", "item", {}), "jobs[1].over", NO_TEMPLATE),
        (
            mapped("b", "inputs", {"x": "${no}"}),
            "jobs[1].job.payload.x",
            ErrorCode.TEMPLATE_INVALID,
        ),
        (
            node("b", payload={"no": 1}, kind=NodeKind.POLICY),
            "jobs[1].payload",
            ErrorCode.RUN_INVALID,
        ),
        (
            node("b", payload={"inputs": {}}, kind=NodeKind.SUB_RUN),
            "jobs[1].payload",
            ErrorCode.RUN_INVALID,
        ),
        (
            node("b", definition=UNIQUE),
            "jobs[1].uniqueKey",
            ErrorCode.RUN_INVALID,
        ),
        (
            node("b", definition=HELD),
            "jobs[1].hold",
            ErrorCode.RUN_INVALID,
        ),
        (node("b", definition=workerless(NodeKind.JOIN)), "jobs[1].jobType", INVALID),
    ],
)
def test_what_is_no_run_is_refused_and_the_place_named(
    bad: NodeJob, path: str, code: ErrorCode
) -> None:
    refusal = plan_run(RECORD, [node("a"), bad])
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.details["path"]) == (code, path)


def test_prepared_nodes_travel_as_the_body_of_a_growth() -> None:
    ready = prepare_nodes([node("b", "", {"x": "${results.a}"})], [Edge("a", "b")])
    assert not isinstance(ready, Refusal)
    assert decode_nodes(encode_nodes(ready)) == tuple(ready)
    new = [(ready[0].node, IDS.of("b"))]
    [made] = jobs_of_growth(RECORD, new, {"b": ready[0]}, [Edge("a", "b")], lambda key: key == "a")
    assert made.definition.depends_on == (IDS.of("a[]"),)
    assert made.definition.templated


def test_of_a_rerun_only_what_runs_again_has_jobs() -> None:
    whole = plan(node("a"), mapped("m", "inputs.n", {}, "a"), node("z", "m"))
    by_key = {"z": node("z", "m")}
    record = msgspec.structs.replace(RECORD, run_token="again", replay_of="run-1")
    kept = ["a", "m", "m[]"]
    again = plan_rerun(record, whole.nodes, [], by_key, kept)
    assert isinstance(again, PlannedRun)
    assert [new.definition.node_key for new in again.jobs] == ["z"]
    assert again.record.nodes == 4
    assert again.record.inputs_hash != whole.record.inputs_hash


# ---- sheets


def sheet_of(*nodes: NodeJob, record: RunRecord = RECORD, more: RunPart | None = None) -> RunSheet:
    whole = plan(*nodes, record=record)
    part = RunPart(nodes=tuple(whole.nodes), templates=templates_of(whole.jobs))
    return RunSheet.of(record, [part] if more is None else [part, more])


def test_a_sheet_fills_in_what_it_was_given_by_job_id() -> None:
    sheet = sheet_of(
        node("a"),
        node("b", "a", {"n": "${inputs.n}", "of": "${results.a.of}", "run": "${run.runId}"}),
    )
    assert sheet.sources(["b"]) == [IDS.of("a")]
    environment = sheet.environment("b", {IDS.of("a"): {"of": [1]}})
    assert sheet.payload("b", environment) == b'{"n":3,"of":[1],"run":"run-1"}'
    with pytest.raises(EvaluationError, match=r"\$\{results\.a\.of\}"):
        sheet.payload("b", sheet.environment("b", {}))


def test_the_result_of_a_map_node_is_the_list_of_its_instances_results() -> None:
    more = RunPart(nodes=tuple(Node(key=f"m[{place}]", of="m") for place in range(3)))
    sheet = sheet_of(mapped("m", "inputs.n", {}), node("z", "m", {"x": "${results.m}"}), more=more)
    wanted = sheet.sources(["z"])
    assert wanted == [IDS.of(f"m[{place}]") for place in range(3)]
    environment = sheet.environment("z", {wanted[0]: 0, wanted[2]: 2})
    assert sheet.payload("z", environment) == b'{"x":[0,null,2]}'


def test_instances_see_their_item_and_index() -> None:
    record = msgspec.structs.replace(RECORD, inputs=b'{"many":["a","b"]}')
    sheet = sheet_of(mapped("m", "inputs.many", {"x": "${item}${index}"}), record=record)
    environment = sheet.environment("m", {})
    assert list(sheet.places_of("m", environment)) == ["a", "b"]
    nodes = [Node(key=f"m[{place}]", of="m") for place in range(2)]
    made = sheet.instances("m", nodes, environment)
    assert [bytes(each.payload) for each in made] == [b'{"x":"a0"}', b'{"x":"b1"}']


def test_a_list_that_has_other_places_than_instances_were_asked_for_has_changed() -> None:
    record = msgspec.structs.replace(RECORD, inputs=b'{"many":["a","b"]}')
    sheet = sheet_of(mapped("m", "inputs.many", {}), record=record)
    for count in (1, 3):
        nodes = [Node(key=f"m[{place}]", of="m") for place in range(count)]
        with pytest.raises(ListChangedError, match=f"2 places, not {count}"):
            sheet.instances("m", nodes, sheet.environment("m", {}))


def test_a_policy_and_a_condition_hold_or_not() -> None:
    sheet = sheet_of(
        node("p", payload=PolicySpec(require="inputs.n < `5`"), kind=NodeKind.POLICY),
        node("w", when="inputs.n > `5`"),
        node("odd", when="inputs.n"),
    )
    assert sheet.requires("p", sheet.environment("p", {})) == (True, "inputs.n < `5`")
    assert not sheet.goes_on("w", sheet.environment("w", {}))
    with pytest.raises(EvaluationError, match="true or false"):
        sheet.goes_on("odd", sheet.environment("odd", {}))


def test_addresses_of_callbacks_are_signed_for_those_who_look_at_them() -> None:
    sheet = sheet_of(
        node("call", kind=NodeKind.CALLBACK), node("b", payload={"url": "${callbacks.call}"})
    )
    environment = sheet.environment(
        "b", {}, lambda tenant_id, run_id, key: f"/{tenant_id}/{run_id}/{key}"
    )
    assert sheet.payload("b", environment) == b'{"url":"/acme/run-1/call"}'
    assert "callbacks" not in sheet.environment("call", {}, lambda *_: "")


def test_a_sheet_signs_each_address_and_decodes_the_inputs_once() -> None:
    signed = list[str]()

    def sign(tenant_id: str, run_id: str, key: str) -> str:
        signed.append(key)
        return key

    calls = [node(f"call-{n}", kind=NodeKind.CALLBACK) for n in range(3)]
    readers = [node(f"n{n}", payload={"url": '${callbacks."call-1"}'}) for n in range(3)]
    sheet = sheet_of(*calls, *readers)
    first, *others = [sheet.environment(f"n{n}", {}, sign) for n in range(3)]
    assert sorted(signed) == ["call-0", "call-1", "call-2"]
    assert all(other["inputs"] is first["inputs"] for other in others)


def test_what_is_read_for_a_node_counts_until_it_is_known() -> None:
    calls = [node(f"call-{n}", kind=NodeKind.CALLBACK) for n in range(100)]
    sheet = sheet_of(*calls, node("n", payload={"url": '${callbacks."call-1"}'}), node("o"))
    plain, all_of = sheet.bytes_read("n", signed=False), sheet.bytes_read("n", signed=True)
    assert all_of - plain == 100 * 512
    sheet.environment("n", {}, lambda *_: "")
    assert sheet.bytes_read("n", signed=True) == plain - len(RECORD.inputs)
    assert sheet.bytes_read("o", signed=True) == 0


def test_what_is_kept_is_read_from_the_run_that_has_it() -> None:
    kept = RunPart(kept={"a": "job-of-an-earlier-run"})
    sheet = sheet_of(node("a"), node("b", "a", {"x": "${results.a}"}), more=kept)
    assert sheet.sources(["b"]) == ["job-of-an-earlier-run"]


def test_a_payload_that_is_filled_in_may_be_as_large_as_any() -> None:
    assert PAYLOAD_BYTES_MAX == PAYLOAD_BYTES_MAX_AT_DOORS
