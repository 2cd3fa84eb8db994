"""Runs over REST: begun, found, refused, steered and run again, with workers where jobs end."""

import json
from typing import Any

import httpx
import pytest
import trio

from tests.http.conftest import Rest
from tests.http.opened import opened
from tests.http.running import (
    ask,
    begin,
    chain,
    complete,
    job,
    nodes,
    refused,
    take,
    until,
    until_open,
)
from tests.http.worker import working

NOWHERE = "00000000-0000-7000-8000-000000000000"


# ---- begun and found


@pytest.mark.parametrize(
    "payload",
    [
        "${sum(inputs.a[*].to_number(@))}",
        '${keys(`"a\\u0000b"`)}',
        "${inputs.a[*]" + ".not_null(`[0,1,2,3,4,5,6,7,8,9]`)[]" * 13 + "}",
    ],
)
async def test_an_expression_ends_its_own_node_whatever_it_comes_to(
    rest: Rest, payload: str
) -> None:
    node = job("a", template=True, payload={"x": payload})
    run_id = await begin(rest, node, inputs={"a": ["9" * 4_300] * 2})
    run = await until(rest, run_id, "failed")
    assert run["rollUp"]["errors"] == [{"key": "a", "error": "template_error"}]
    assert (await rest.client.get(f"/runs/{run_id}/dag")).status_code == 200
    assert (await ask(rest, job("b"), token="after")).status_code == 201


async def test_a_run_is_created_with_the_ids_of_its_jobs(rest: Rest) -> None:
    answer = await ask(rest, *chain("a", "b"), inputs={"n": 1}, correlationId="c")
    assert answer.status_code == 201
    run = answer.json()
    assert answer.headers["Location"].endswith(f"/runs/{run['runId']}")
    assert (run["state"], run["nodes"], run["inputs"]) == ("pending", 2, {"n": 1})
    assert (run["correlationId"], run["createdBy"]) == ("c", "tester")
    first = (await rest.client.get(f"/jobs/{run['jobIds']['a']}")).json()
    assert (first["runId"], first["runKey"]) == (run["runId"], "a")
    second = (await rest.client.get(f"/jobs/{run['jobIds']['b']}")).json()
    assert second["dependsOn"] == [first["jobId"]]
    assert second["correlationId"] == "c"


async def test_a_run_goes_on_as_its_jobs_end_and_says_what_came_out(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "b"), job("c", "a"))
        await complete(worker, "a")
        await complete(worker, "b", "c")
        run = await until(rest, run_id, "completed")
    assert run["rollUp"]["completed"] == 3
    assert run["rollUp"]["errors"] == []
    assert run["outputsHash"] == run["rollUp"]["outputsHash"]
    assert run["createdAt"] <= run["startedAt"] <= run["finishedAt"]
    assert run["durationMs"] >= 0


async def test_a_run_token_finds_its_run_and_nothing_else(rest: Rest) -> None:
    created = await ask(rest, *chain("a", "b"))
    found = await ask(rest, *reversed(chain("a", "b")))
    assert found.status_code == 200
    assert found.json()["jobIds"] == created.json()["jobIds"]
    assert "runToken" in refused(await ask(rest, *chain("a")), 422, "IDEMPOTENCY_MISMATCH")
    other = await ask(rest, *chain("a", "b"), inputs={"n": 2})
    refused(other, 422, "IDEMPOTENCY_MISMATCH", "runToken")


async def test_a_repeat_under_its_idempotency_key_is_the_first_answer(rest: Rest) -> None:
    body = {"runToken": "t", "jobs": chain("a", "b")}
    key = {"Idempotency-Key": "k"}
    first = await rest.client.post("/runs", json=body, headers=key)
    async with working(rest.engine) as worker:
        await complete(worker, "a")
        await complete(worker, "b")
        await until(rest, first.json()["runId"], "completed")
    again = await rest.client.post("/runs", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    other = await rest.client.post("/runs", json={**body, "failFast": True}, headers=key)
    refused(other, 422, "IDEMPOTENCY_MISMATCH")


async def test_edges_are_dependencies_written_apart(rest: Rest) -> None:
    run_id = await begin(rest, job("a"), job("b"), edges=[{"from": "a", "to": "b"}])
    answer = (await rest.client.get(f"/runs/{run_id}/dag")).json()
    assert answer["edges"] == [["a", "b"]]


async def test_runs_are_listed_newest_first_and_filtered(rest: Rest) -> None:
    made = [await begin(rest, job("a"), token=f"t{n}", projectId=f"p{n}") for n in range(3)]
    listed = (await rest.client.get("/runs", params={"pageSize": 2})).json()
    rest_of = {"pageSize": 2, "pageToken": listed["nextPageToken"]}
    more = (await rest.client.get("/runs", params=rest_of)).json()
    assert [run["runId"] for run in listed["items"] + more["items"]] == made[::-1]
    one = (await rest.client.get("/runs", params={"project": "p1"})).json()
    assert [run["runId"] for run in one["items"]] == [made[1]]
    assert (await rest.client.get("/runs?state=completed")).json()["items"] == []


# ---- bad input


@pytest.mark.parametrize(
    ("jobs", "code", "path"),
    [
        ([job("a", "a")], "RUN_INVALID", "jobs[0].dependsOn[0]"),
        ([job("a", "nowhere")], "RUN_INVALID", "jobs[0].dependsOn[0]"),
        ([job("a"), job("b", "a", "a")], "RUN_INVALID", "jobs[1].dependsOn[1]"),
        ([job("a"), job("a")], "RUN_INVALID", "jobs[1].key"),
        ([job("a b")], "RUN_INVALID", "jobs[0].key"),
        ([job("a[0]")], "RUN_INVALID", "jobs[0].key"),
        (
            [job("a"), job("b", template=True, payload="${results.a}")],
            "RUN_INVALID",
            "jobs[1].dependsOn",
        ),
        ([job("a", template=True, payload="${input.x}")], "TEMPLATE_INVALID", "jobs[0].payload"),
        ([job("a", template=True, payload="${inputs.x")], "TEMPLATE_INVALID", "jobs[0].payload"),
        (
            [job("a", template=True, payload={"b": ["${[inputs, inputs]}"]})],
            "TEMPLATE_INVALID",
            "jobs[0].payload.b[0]",
        ),
        ([job("a", when="inputs.x ==")], "TEMPLATE_INVALID", "jobs[0].when"),
        ([job("a"), job("b", when="results.a.ok")], "RUN_INVALID", "jobs[1].dependsOn"),
        ([{"key": "p", "kind": "policy", "require": "inputs."}], "TEMPLATE_INVALID", None),
        ([job("m", kind="map", over="inputs.", payload={})], "TEMPLATE_INVALID", "jobs[0].over"),
    ],
)
async def test_what_is_no_graph_or_template_is_refused_by_name(
    shared: Rest, jobs: list[dict[str, Any]], code: str, path: str | None
) -> None:
    refused(await ask(shared, *jobs), 422, code, path)
    assert (await shared.client.get("/runs")).json()["items"] == []


async def test_a_cycle_is_named(rest: Rest) -> None:
    answer = await ask(rest, job("a", "c"), job("b", "a"), job("c", "b"), job("d", "c"))
    assert "a → b → c → a" in refused(answer, 422, "RUN_INVALID", "jobs")
    assert answer.json()["error"]["details"][0]["length"] == 3


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prio": 1}, "prio"),
        ({"jobType": None}, "jobType"),
        ({"kind": "approval"}, "jobType"),
        ({"kind": "policy", "jobType": None}, "require"),
        ({"require": "inputs.x"}, "require"),
        ({"kind": "map"}, "over"),
        ({"hold": True}, "approval"),
        ({"uniqueKey": "u"}, "runToken"),
        ({"runId": "r"}, "runId"),
        ({"jobType": "orch.join"}, "orch."),
        ({"trigger": "sometimes"}, "trigger"),
        ({"priority": 11}, "priority"),
        ({"key": ""}, "key"),
        ({"key": "k" * 129}, "key"),
        ({"notBefore": "1969-12-31T00:00:00Z"}, "notBefore"),
        ({"payload": {"n": 2**60}}, "payload"),
        ({"kind": "sub_run", "jobType": None, "run": {"dagId": "d", "inputs": 2**60}}, "inputs"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    shared: Rest, fields: dict[str, Any], word: str
) -> None:
    answer = await ask(shared, job("ok"), {**job("a"), **fields})
    assert answer.status_code == 400, answer.text
    assert word in refused(answer, 400, "INVALID_FIELD")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"runToken": "t"}, 400),
        ({"runToken": "t", "jobs": []}, 400),
        ({"runToken": "", "jobs": [job("a")]}, 400),
        ({"runToken": "t", "jobs": [job("a")], "version": 1}, 400),
        ({"runToken": "t", "jobs": [job("a")], "inputs": [1]}, 400),
        ({"runToken": "t", "jobs": [job("a")], "inputs": {"n": 2**60}}, 400),
        ({"runToken": "t", "jobs": [job("a")], "inputs": {"s": "x" * 300_000}}, 413),
        ({"runToken": "t", "jobs": [job("a")], "edges": [{"from": "a", "to": "x"}]}, 422),
        ({"runToken": "t", "jobs": [job("a")], "edges": [{"from": "x", "to": "a"}]}, 422),
        ({"runToken": "t", "dagId": "nowhere"}, 404),
    ],
)
async def test_a_request_that_is_no_run_is_refused(
    rest: Rest, body: dict[str, Any], status: int
) -> None:
    answer = await rest.client.post("/runs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("depth", [90, 110, 900])
async def test_what_may_be_a_template_is_nested_a_hundred_deep_at_most(
    rest: Rest, depth: int
) -> None:
    payload = "[" * depth + '"${inputs.x}"' + "]" * depth
    body = '{"runToken": "%s", "inputs": {"x": 1}, "jobs": [{"key": "a", "jobType": "scan", %s}]}'
    plain = await rest.client.post("/runs", content=body % ("p", f'"payload": {payload}'))
    template = body % ("t", f'"template": true, "payload": {payload}')
    filled = await rest.client.post("/runs", content=template)
    if depth <= 100:
        assert (plain.status_code, filled.status_code) == (201, 201)
    else:
        refused(plain, 400, "INVALID_FIELD", "jobs[0].payload")
        refused(filled, 422, "TEMPLATE_INVALID", "jobs[0].payload")
    bare = body % ("b", f'"payload": {payload.replace("$", "")}')
    assert (await rest.client.post("/runs", content=bare)).status_code == 201


async def test_a_payload_that_is_no_template_reaches_its_worker_as_it_was_given(
    rest: Rest,
) -> None:
    payload = {"a": "${inputs.x}", "b": ["$${", "${", {"${c}": "$"}]}
    async with working(rest.engine) as worker:
        await begin(rest, job("a", payload=payload), job("b", payload=payload, template=False))
        for grant in (await take(worker, "a", "b")).values():
            assert json.loads(grant.job.payload) == payload


async def test_many_equal_keys_are_refused_at_once() -> None:
    node = '{"key":"a","jobType":"s"}'
    body = '{"runToken":"t","jobs":[' + ",".join([node] * 100_000) + "]}"
    async with opened() as node_opened:
        with trio.fail_after(15):
            answer = await node_opened.client.post("/runs", content=body)
        refused(answer, 422, "RUN_INVALID", "jobs[1].key")


async def test_a_job_of_its_own_depends_on_nothing(rest: Rest) -> None:
    body = {"jobType": "scan", "dependsOn": [NOWHERE]}
    answer = await rest.client.post("/jobs", json=body)
    assert "POST /runs" in refused(answer, 400, "INVALID_FIELD", "dependsOn")
    bulk = (await rest.client.post("/jobs:bulk", json=[body, body, {"jobType": "scan"}])).json()
    assert [item["outcome"] for item in bulk["items"]] == ["rejected", "rejected", "created"]


async def test_a_label_with_the_id_of_a_run_makes_no_node_of_a_job(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, job("a"), {"key": "gate", "kind": "approval"})
        await rest.submit(runId=run_id, hold=True)
        await complete(worker, "a")
        assert sorted(await nodes(rest, run_id)) == ["a", "gate"]
        await until_open(rest, run_id, "gate")
        approved = await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
        assert approved.status_code == 200, approved.text
        assert (await until(rest, run_id, "completed"))["rollUp"]["completed"] == 2
    listed = (await rest.client.get("/jobs", params={"runId": run_id})).json()
    assert sorted(each.get("runKey", "") for each in listed["items"]) == ["", "a", "gate"]


# ---- not there


VERBS = [
    ("GET", ""),
    ("GET", "/dag"),
    ("GET", "/gantt"),
    ("GET", "/record"),
    ("GET", "/first-signal"),
    ("GET", "/callbacks"),
    ("POST", ":cancel"),
    ("POST", ":extend"),
    ("POST", ":retryFailed"),
    ("POST", ":replayFrom"),
    ("POST", ":approve"),
    ("POST", ":reject"),
]
BODIES = {":extend": {"jobs": [job("x")]}, ":replayFrom": {"key": "a"}, ":approve": {"key": "a"}}
BODIES[":reject"] = BODIES[":approve"]


@pytest.mark.parametrize(("method", "verb"), VERBS)
async def test_what_is_no_run_of_the_tenant_is_not_found(
    rest: Rest, method: str, verb: str
) -> None:
    foreign = await begin(rest, job("a"))
    other = rest.headers("other")
    for run_id, headers in ((NOWHERE, {}), ("not-an-id", {}), (foreign, other)):
        answer = await rest.client.request(
            method,
            f"/runs/{run_id}{verb}",
            json=BODIES.get(verb),
            headers={
                **headers,
                "X-Stella-Operator-Reason": "a test",
                "X-Stella-Operator-Ticket": "T-1",
            },
        )
        refused(answer, 404, "NOT_FOUND")


# ---- cancelled and extended


async def test_a_run_is_cancelled_when_all_of_its_jobs_are(rest: Rest) -> None:
    run_id = await begin(rest, *chain("a", "b"))
    answer = await rest.operate(f"/runs/{run_id}:cancel")
    assert answer.status_code == 200
    assert answer.json()["cancelRequestedAt"]
    run = await until(rest, run_id, "cancelled")
    assert run["rollUp"]["cancelled"] == 2
    again = await rest.operate(f"/runs/{run_id}:cancel")
    refused(again, 409, "RUN_ENDED")
    assert again.json()["error"]["state"] == "cancelled"
    unsaid = await rest.client.post(f"/runs/{run_id}:cancel")
    refused(unsaid, 400, "AUDIT_REASON_REQUIRED")


async def extend(rest: Rest, run_id: str, *jobs: dict[str, Any], **more: Any) -> httpx.Response:
    return await rest.client.post(f"/runs/{run_id}:extend", json={"jobs": jobs, **more})


async def test_a_run_grows_while_it_is_under_way(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "z"))
        await take(worker, "a")
        grown = await extend(rest, run_id, job("b", "a"), edges=[{"from": "b", "to": "z"}])
        assert grown.status_code == 200, grown.text
        graph = await nodes(rest, run_id)
        assert grown.json()["jobIds"] == [graph["b"]["jobId"]]
        assert (graph["z"]["level"], graph["b"]["level"]) == (2, 1)
        assert (await rest.client.get(f"/runs/{run_id}")).json()["nodes"] == 3
        again = await extend(rest, run_id, job("b", "a"), edges=[{"from": "b", "to": "z"}])
        assert (again.status_code, again.json()) == (200, grown.json())
        other = await extend(rest, run_id, job("b", "a", payload={"n": 1}))
        refused(other, 422, "RUN_INVALID", "jobs[0].key")


async def test_growth_that_does_not_fit_is_refused_and_changes_nothing(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "b", "c"))
        grant = (await take(worker, "a"))["a"]
        await worker.complete(grant)
        held = (await take(worker, "b"))["b"]
        for jobs, edges, path in (
            ([job("n")], [{"from": "n", "to": "a"}], "edges[0].to"),
            ([job("n")], [{"from": "n", "to": "b"}], "edges[0].to"),
            ([job("n", "c")], [{"from": "n", "to": "c"}], "jobs"),
            ([], [{"from": "b", "to": "nowhere"}], "edges[0].to"),
            ([job("c")], [], "jobs[0].key"),
            ([job("n", "nowhere")], [], "jobs[0].dependsOn[0]"),
        ):
            answer = await extend(rest, run_id, *jobs, edges=edges)
            refused(answer, 422, "RUN_INVALID", path)
        refused(await extend(rest, run_id), 400, "INVALID_FIELD")
        assert sorted(await nodes(rest, run_id)) == ["a", "b", "c"]
        await worker.complete(held)
        await complete(worker, "c")
        await until(rest, run_id, "completed")
        refused(await extend(rest, run_id, job("n")), 409, "RUN_ENDED")


# ---- fan-out


async def test_a_list_becomes_jobs_and_their_results_a_list(rest: Rest) -> None:
    fan = job(
        "m", "a", kind="map", over="results.a.list", template=True, payload={"n": "${item.n}"}
    )
    end = job("end", "m", template=True, payload={"all": "${results.m}"})
    async with working(rest.engine) as worker:
        run_id = await begin(rest, job("a"), fan, end)
        await complete(worker, "a", result=b'{"list":[{"n":1},{"n":2}]}')
        for key, grant in (await take(worker, "m[0]", "m[1]")).items():
            await worker.complete(grant, json.dumps(key).encode())
        last = (await take(worker, "end"))["end"]
        assert json.loads(last.job.payload) == {"all": ["m[0]", "m[1]"]}
        await worker.complete(last)
        await until(rest, run_id, "completed")


async def test_an_empty_list_is_no_obstacle(rest: Rest) -> None:
    fan = job("m", kind="map", over="inputs.list")
    async with working(rest.engine) as worker:
        run_id = await begin(rest, fan, job("end", "m"), inputs={"list": []})
        await complete(worker, "end")
        await until(rest, run_id, "completed")


async def test_what_is_no_list_or_has_no_value_fails_its_node_and_says_why(rest: Rest) -> None:
    fan = job("m", kind="map", over="inputs.list")
    run_id = await begin(rest, fan, inputs={"list": {"a": 1}})
    run = await until(rest, run_id, "failed")
    assert run["rollUp"]["errors"][0] == {"key": "m", "error": "template_error"}
    lost = job("a", template=True, payload="${inputs.list}")
    run_id = await begin(rest, lost, token="u", inputs={"other": 1})
    run = await until(rest, run_id, "failed")
    job_id = (await nodes(rest, run_id))["a"]["jobId"]
    error = (await rest.client.get(f"/jobs/{job_id}")).json()["error"]
    assert "${inputs.list}" in error["message"]


async def test_a_list_that_is_too_long_fails_its_node(rest: Rest) -> None:
    fan = job("m", kind="map", over="inputs.list")
    run_id = await begin(rest, fan, inputs={"list": [0] * 100_001})
    run = await until(rest, run_id, "failed")
    assert [error["key"] for error in run["rollUp"]["errors"]] == ["m", "m[]"]


# ---- run again


async def test_what_did_not_complete_runs_again_with_the_rest_kept(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "b", "c"))
        early = await rest.operate(f"/runs/{run_id}:retryFailed")
        refused(early, 409, "RUN_UNFINISHED")
        await complete(worker, "a", result=b'{"made":1}')
        await worker.fail((await take(worker, "b"))["b"])
        failed = await until(rest, run_id, "failed")
        assert failed["rollUp"]["errors"] == [{"key": "b", "error": "Boom"}]
        answer = await rest.operate(f"/runs/{run_id}:retryFailed", json={"runToken": "again"})
        assert answer.status_code == 201, answer.text
        again = answer.json()
        assert (again["replayOf"], again["runToken"]) == (run_id, "again")
        repeat = await rest.operate(f"/runs/{run_id}:retryFailed", json={"runToken": "again"})
        assert (repeat.status_code, repeat.json()["runId"]) == (200, again["runId"])
        await complete(worker, "b")
        await complete(worker, "c")
        run = await until(rest, again["runId"], "completed")
    assert run["rollUp"]["completed"] == 3
    before, after = await nodes(rest, run_id), await nodes(rest, again["runId"])
    assert [after[key].get("kept", False) for key in "abc"] == [True, False, False]
    assert after["a"]["jobId"] == before["a"]["jobId"]
    whole = await rest.operate(f"/runs/{again['runId']}:retryFailed")
    refused(whole, 409, "ILLEGAL_TRANSITION")


async def test_a_completed_run_is_replayed_from_a_node_on(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "b", "c"), job("other"))
        await complete(worker, "a", "other")
        await complete(worker, "b")
        await complete(worker, "c")
        await until(rest, run_id, "completed")
        unknown = await rest.operate(f"/runs/{run_id}:replayFrom", json={"key": "nowhere"})
        refused(unknown, 404, "NOT_FOUND", "key")
        key = {"Idempotency-Key": "k"}
        path = f"/runs/{run_id}:replayFrom"
        answer = await rest.operate(path, json={"key": "b"}, headers=key)
        again = await rest.operate(path, json={"key": "b"}, headers=key)
        assert (answer.status_code, again.status_code) == (201, 200)
        assert answer.json()["runId"] == again.json()["runId"]
        await complete(worker, "b")
        await complete(worker, "c")
        await until(rest, answer.json()["runId"], "completed")
    graph = await nodes(rest, answer.json()["runId"])
    assert sorted(name for name, node in graph.items() if node.get("kept")) == ["a", "other"]


async def test_jobs_of_a_run_are_explained_by_what_they_wait_for(rest: Rest) -> None:
    answer = await ask(rest, job("a"), {"key": "g", "kind": "approval"}, job("b", "a", "g"))
    run = answer.json()
    await until_open(rest, run["runId"], "g")
    found = {}
    for key, job_id in run["jobIds"].items():
        gates = (await rest.client.get(f"/jobs/{job_id}/explain")).json()["gates"]
        found[key] = sorted({gate["gate"] for gate in gates})
    assert found == {"a": ["no_worker"], "g": ["held"], "b": ["dependency"]}
