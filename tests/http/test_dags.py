"""DAG templates over REST: versions that never change, inputs that are held to their schema."""

from typing import Any

import pytest

from tests.http.conftest import SIGNED, Rest
from tests.http.running import complete, job, refused, take, until
from tests.http.worker import working

NIGHTLY: dict[str, Any] = {
    "dagId": "nightly",
    "description": "fetch, then one scan a shard",
    "inputs": {
        "type": "object",
        "properties": {"day": {"type": "string", "format": "date"}},
        "required": ["day"],
        "additionalProperties": False,
    },
    "jobs": [
        job("fetch", payload={"day": "${inputs.day}"}),
        {
            "key": "scans",
            "kind": "map",
            "jobType": "scan",
            "over": "results.fetch.shards",
            "payload": {"shard": "${item}", "of": "${inputs.day}"},
            "dependsOn": ["fetch"],
        },
        job("report", "scans", payload={"found": "${results.scans[*].found}"}),
    ],
}


READS = "jobs[1].dependsOn"


async def register(rest: Rest, **changes: Any) -> dict[str, Any]:
    answer = await rest.client.post("/dags", json={**NIGHTLY, **changes})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def run(rest: Rest, token: str = "t", **head: Any) -> Any:
    head = {"dagId": "nightly", "inputs": {"day": "2026-11-22"}, **head}
    return await rest.client.post("/runs", json={"runToken": token, **head})


async def test_versions_count_up_and_an_equal_document_is_the_one_that_is_there(rest: Rest) -> None:
    first = await register(rest, version=1)
    again = await rest.client.post("/dags", json={**NIGHTLY, "version": 1})
    assert (again.status_code, again.json()) == (200, first)
    second = await register(rest, description="another")
    assert (first["version"], second["version"]) == (1, 2)
    assert first["digest"] != second["digest"]
    changed = await rest.client.post("/dags", json={**NIGHTLY, "version": 1, "failFast": True})
    assert changed.status_code == 409
    shown = (await rest.client.get("/dags/nightly/1")).json()
    assert shown == first
    assert (shown["jobs"], shown["edges"]) == (NIGHTLY["jobs"], [])
    assert shown["inputs"] == NIGHTLY["inputs"]


async def test_templates_are_listed_by_id_and_version(rest: Rest) -> None:
    for dag_id in ("b", "a", "a"):
        await register(rest, dagId=dag_id, description=f"{dag_id} again")
        await register(rest, dagId=dag_id)
    page = (await rest.client.get("/dags", params={"pageSize": 3})).json()
    rest_of = {"pageSize": 3, "pageToken": page["nextPageToken"]}
    more = (await rest.client.get("/dags", params=rest_of)).json()
    names = [(each["dagId"], each["version"]) for each in page["items"] + more["items"]]
    assert names == [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1), ("b", 2)]
    only = (await rest.client.get("/dags", params={"dagId": "b"})).json()["items"]
    assert [each["dagId"] for each in only] == ["b", "b"]


async def test_a_run_of_a_template_takes_its_inputs_and_results(rest: Rest) -> None:
    await register(rest)
    async with working(rest.engine) as worker:
        begun = (await run(rest)).json()
        assert (begun["dagId"], begun["dagVersion"]) == ("nightly", 1)
        fetch = (await take(worker, "fetch"))["fetch"]
        assert fetch.job.payload == b'{"day":"2026-11-22"}'
        await worker.complete(fetch, b'{"shards":["x","y"]}')
        scans = await take(worker, "scans[0]", "scans[1]")
        assert scans["scans[1]"].job.payload == b'{"of":"2026-11-22","shard":"y"}'
        await worker.complete(scans["scans[1]"], b'{"found":2}')
        await worker.complete(scans["scans[0]"], b'{"found":1}')
        report = (await take(worker, "report"))["report"]
        assert report.job.payload == b'{"found":[1,2]}'
        await worker.complete(report, b"{}")
        assert (await until(rest, begun["runId"], "completed"))["rollUp"]["completed"] == 6


async def test_a_list_without_places_has_nothing_to_map(rest: Rest) -> None:
    await register(rest)
    async with working(rest.engine) as worker:
        run_id = (await run(rest)).json()["runId"]
        await complete(worker, "fetch", result=b'{"shards":[]}')
        report = (await take(worker, "report"))["report"]
        assert report.job.payload == b'{"found":[]}'
        await worker.complete(report, b"{}")
        await until(rest, run_id, "completed")


async def test_a_template_that_cannot_be_filled_in_fails_its_node_alone(rest: Rest) -> None:
    await register(rest)
    async with working(rest.engine) as worker:
        run_id = (await run(rest)).json()["runId"]
        await complete(worker, "fetch", result=b'{"shards":"no list"}')
        ended = await until(rest, run_id, "failed")
    assert [each["key"] for each in ended["rollUp"]["errors"]] == ["scans", "scans[]"]


@pytest.mark.parametrize(
    ("inputs", "path"),
    [({}, "inputs"), ({"day": "soon"}, "inputs.day"), ({"day": "2026-11-22", "x": 1}, "inputs")],
)
async def test_inputs_that_fail_their_schema_begin_nothing(
    rest: Rest, inputs: Any, path: str
) -> None:
    await register(rest)
    refused(await run(rest, inputs=inputs), 422, "INPUTS_INVALID", path)
    assert (await rest.client.get("/runs")).json()["items"] == []


async def test_inputs_that_would_take_too_long_to_check_begin_nothing(rest: Rest) -> None:
    many = {"type": "array", "items": {"anyOf": [{"type": "string"}] * 3_000}}
    schema = {"properties": {"many": many}}
    await register(rest, inputs=schema, jobs=[job("a")])
    why = refused(
        await run(rest, inputs={"many": [0] * 20_000}), 422, "INPUTS_INVALID", "inputs.many[]"
    )
    assert "too much to check" in why
    assert (await run(rest, inputs={"many": ["a"]})).status_code == 201


async def test_a_disabled_version_begins_nothing_until_it_is_enabled(rest: Rest) -> None:
    await register(rest)
    disabled = await rest.client.post("/dags/nightly/1:disable", headers=SIGNED)
    assert (disabled.status_code, disabled.json()["state"]) == (200, "disabled")
    refused(await run(rest), 409, "VERSION_DISABLED", "version")
    enabled = await rest.client.post("/dags/nightly/1:enable", headers=SIGNED)
    assert (enabled.status_code, enabled.json()["state"]) == (200, "enabled")
    assert (await run(rest)).status_code == 201


async def test_what_is_not_there_is_not_found(rest: Rest) -> None:
    await register(rest)
    refused(await run(rest, dagId="weekly"), 404, "NOT_FOUND", "dagId")
    refused(await run(rest, version=2), 404, "NOT_FOUND", "version")
    for version in ("2", "x", "0" * 40):
        refused(await rest.client.get(f"/dags/nightly/{version}"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"jobs": []}, "RUN_INVALID", "jobs"),
        ({"jobs": [job("a", "a")]}, "RUN_INVALID", "jobs[0].dependsOn[0]"),
        ({"jobs": [job("a", payload="${inputs.x")]}, "TEMPLATE_INVALID", "jobs[0].payload"),
        ({"jobs": [job("a", payload="${item}")]}, "TEMPLATE_INVALID", "jobs[0].payload"),
        ({"jobs": [job("a"), job("b", payload="${results.a}")]}, "RUN_INVALID", READS),
        ({"inputs": {"$ref": "https://example.com/x"}}, "INPUTS_INVALID", "inputs"),
        ({"inputs": {"type": "frob"}}, "INPUTS_INVALID", "inputs"),
        ({"inputs": []}, "INPUTS_INVALID", "inputs"),
        ({"inputs": {"pattern": "(a{1,50}){1,50}c"}}, "INPUTS_INVALID", "inputs"),
        ({"inputs": {"unevaluatedItems": False}}, "INPUTS_INVALID", "inputs"),
        ({"jobs": [job("a", payload="${not_null(&run)}")]}, "TEMPLATE_INVALID", "jobs[0].payload"),
    ],
)  # fmt: skip
async def test_a_template_that_could_not_run_is_not_registered(
    shared: Rest, changes: Any, code: str, path: str
) -> None:
    refused(await shared.client.post("/dags", json={**NIGHTLY, **changes}), 422, code, path)
    assert (await shared.client.get("/dags")).json()["items"] == []


async def test_a_schema_of_inputs_also_knows_what_templates_may_name(rest: Rest) -> None:
    jobs = [job("a", payload={"day": "${inputs.dya}"})]
    answer = await rest.client.post("/dags", json={**NIGHTLY, "jobs": jobs})
    message = refused(answer, 422, "TEMPLATE_INVALID", "jobs[0].payload.day")
    assert "dya" in message
