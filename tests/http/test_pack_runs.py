"""Runs of packs over REST: begun and refused, run by workers, with what comes out of them."""

import json
from typing import Any

import pytest
import trio

from tests.http.conftest import Rest
from tests.http.packing import ask_run, begin, conditional, parallel, register, run
from tests.http.running import begin as begin_run
from tests.http.running import complete, nodes, refused, take, until, until_open
from tests.http.running import job as node
from tests.http.test_streams import Reader, following
from tests.http.worker import Worker, working

INPUTS = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


# ---- begun


async def test_a_run_says_of_which_pack_it_is(rest: Rest) -> None:
    pack = await register(rest, run("build"), inputs=INPUTS)
    answer = await ask_run(rest, inputs={"n": 1}, failFast=True)
    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["Location"].endswith(f"/pack-runs/{shown['runId']}")
    told = {name: shown[name] for name in ("packId", "version", "digest", "planHash")}
    assert told == {name: pack[name] for name in told}
    assert (shown["state"], shown["projectId"], shown["inputs"]) == ("pending", "apollo", {"n": 1})
    assert shown["failFast"] is True
    assert list(shown["jobIds"]) == ["build"]
    read = (await rest.client.get(f"/pack-runs/{shown['runId']}")).json()
    assert {name: read[name] for name in told} == told
    assert "jobIds" not in read


async def test_a_digest_names_a_pack_as_well_as_its_id_does(rest: Rest) -> None:
    first = await register(rest, run("build"))
    second = await register(rest, run("scan"))
    by_digest = await ask_run(rest, "a", packId=None, digest=first["digest"])
    assert (by_digest.status_code, by_digest.json()["version"]) == (201, 1)
    newest = await ask_run(rest, "b")
    assert newest.json()["version"] == 2
    pinned = await ask_run(rest, "c", version=2, digest=second["digest"])
    assert pinned.status_code == 201
    wrong = await ask_run(rest, "d", version=2, digest=first["digest"])
    assert second["digest"] in refused(wrong, 422, "DIGEST_MISMATCH", "digest")
    nowhere = await ask_run(rest, "e", packId=None, digest="sha256:" + "0" * 64)
    refused(nowhere, 404, "NOT_FOUND", "digest")


async def test_a_run_token_finds_the_run_though_there_is_a_newer_version(rest: Rest) -> None:
    await register(rest, run("build"))
    first = await ask_run(rest)
    await register(rest, run("scan"))
    again = await ask_run(rest)
    assert (again.status_code, again.json()["runId"]) == (200, first.json()["runId"])
    refused(await ask_run(rest, version=2), 422, "IDEMPOTENCY_MISMATCH", "runToken")


async def test_a_run_of_the_same_nodes_that_is_of_no_pack_is_another(rest: Rest) -> None:
    await register(rest, run("a"))
    await begin_run(rest, node("a"), projectId="apollo")
    refused(await ask_run(rest), 422, "IDEMPOTENCY_MISMATCH", "runToken")


async def test_without_a_tenant_or_a_project_there_is_no_pack_run(rest: Rest) -> None:
    await register(rest, run("build"))
    body = {"packId": "p", "runToken": "t"}
    headers = rest.headers()
    refused(
        await rest.client.post("/pack-runs", json=body, headers=headers),
        422,
        "PACK_RUN_INCOMPLETE",
        "projectId",
    )
    blank = {"X-Stella-Tenant": ""}
    answer = await rest.client.post("/pack-runs", json=body | {"projectId": "x"}, headers=blank)
    refused(answer, 422, "PACK_RUN_INCOMPLETE", "X-Stella-Tenant")
    refused(await rest.client.get("/pack-runs", headers=blank), 403, "TENANT_REQUIRED")
    foreign = {"X-Stella-Tenant": "acme"}
    answer = await rest.client.post("/pack-runs", json=body, headers=foreign)
    refused(answer, 403, "TENANT_FORBIDDEN")
    named = {"X-Stella-Project": "apollo"}
    answer = await rest.client.post("/pack-runs", json=body, headers=named)
    assert (answer.status_code, answer.json()["projectId"]) == (201, "apollo")


@pytest.mark.parametrize(
    ("fields", "status", "code", "path"),
    [
        ({"inputs": {}}, 422, "INPUTS_INVALID", "inputs"),
        ({"inputs": {"n": 1, "m": 2}}, 422, "INPUTS_INVALID", "inputs"),
        ({"inputs": {"n": "one"}}, 422, "INPUTS_INVALID", "inputs.n"),
        ({"inputs": [1]}, 400, "INVALID_FIELD", "inputs"),
        ({"packId": "q"}, 404, "NOT_FOUND", "packId"),
        ({"version": 9}, 404, "NOT_FOUND", "version"),
        ({"packId": None}, 400, "INVALID_FIELD", "$"),
        ({"digest": "beef"}, 400, "INVALID_FIELD", "digest"),
        ({"runToken": None}, 400, "INVALID_FIELD", "runToken"),
        ({"surprise": 1}, 400, "INVALID_FIELD", "surprise"),
    ],
)
async def test_what_no_run_can_be_made_of_is_refused(
    rest: Rest, fields: dict[str, Any], status: int, code: str, path: str
) -> None:
    await register(rest, run("build"), inputs=INPUTS)
    body = {"token": "t", **fields}
    if "runToken" in body:
        body["runToken"] = None
    refused(await ask_run(rest, **body), status, code, path)


async def test_pack_runs_are_listed_apart_from_other_runs(rest: Rest) -> None:
    other = await begin_run(rest, node("a"), token="other")
    await register(rest, run("build"))
    await register(rest, run("build"), pack="q")
    made = [
        (await ask_run(rest, token, packId=pack)).json()["runId"]
        for token, pack in (("1", "p"), ("2", "q"), ("3", "p"))
    ]
    page = (await rest.client.get("/pack-runs", params={"pageSize": 2})).json()
    more = {"pageSize": 2, "pageToken": page["nextPageToken"]}
    last = (await rest.client.get("/pack-runs", params=more)).json()
    assert [each["runId"] for each in page["items"] + last["items"]] == made[::-1]
    of_q = (await rest.client.get("/pack-runs", params={"packId": "q"})).json()["items"]
    assert [each["runId"] for each in of_q] == [made[1]]
    for path in ("", "/logs", "/artifacts"):
        refused(await rest.client.get(f"/pack-runs/{other}{path}"), 404, "NOT_FOUND", "runId")
    refused(await rest.operate(f"/pack-runs/{other}:cancel"), 404, "NOT_FOUND", "runId")


# ---- run


def _paid(grant: Any) -> Any:
    return json.loads(grant.job.payload)


async def test_steps_run_one_after_another_and_read_what_came_before(rest: Rest) -> None:
    report = {"of": '${results."scan.left".n}', "for": "${inputs.who}"}
    async with working(rest.engine) as worker:
        run_id = await begin(
            rest,
            run("build"),
            parallel("scan", [run("left")], [run("right")]),
            run("report", report),
            who="me",
        )
        await complete(worker, "build")
        sides = await take(worker, "scan.left", "scan.right")
        for key, grant in sides.items():
            await worker.complete(grant, b'{"n":"%s"}' % key.encode())
        last = (await take(worker, "report"))["report"]
        assert _paid(last) == {"of": "scan.left", "for": "me"}
        await worker.complete(last)
        done = await until(rest, run_id, "completed")
    assert done["rollUp"]["completed"] == 5


@pytest.mark.parametrize(
    ("yes", "taken", "left"), [(True, "then", "else"), (False, "else", "then")]
)
async def test_a_conditional_takes_one_branch_and_the_run_goes_on(
    rest: Rest, yes: bool, taken: str, left: str
) -> None:
    ship = conditional("ship", "inputs.yes", [run("it")], [run("it"), run("why")])
    async with working(rest.engine) as worker:
        run_id = await begin(rest, ship, run("report"), yes=yes)
        for key in ["it"] if yes else ["it", "why"]:
            await complete(worker, f"ship.{taken}.{key}")
        await complete(worker, "report")
        await until(rest, run_id, "completed")
        found = await nodes(rest, run_id)
    assert found[f"ship.{left}"]["reason"] == "skipped"
    assert found[f"ship.{left}.it"]["state"] == "cancelled"
    assert found["ship"]["state"] == "completed"


async def test_a_conditional_without_else_may_be_nothing(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(
            rest, conditional("ship", "inputs.yes", [run("it")], []), run("report"), yes=False
        )
        await complete(worker, "report")
        await until(rest, run_id, "completed")


async def test_a_condition_without_a_truth_fails_the_run(rest: Rest) -> None:
    ship = conditional("ship", "inputs.nope", [run("it")], [run("other")])
    run_id = await begin(rest, ship, run("report"))
    await until(rest, run_id, "failed")
    found = await nodes(rest, run_id)
    assert (found["ship.then"]["state"], found["ship.then"]["error"]) == (
        "failed",
        "template_error",
    )
    for key in ("ship.else.other", "ship", "report"):
        assert found[key]["state"] == "cancelled"


async def test_a_failure_in_the_branch_that_is_taken_ends_the_run(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        ship = conditional("ship", "inputs.yes", [run("it", maxRetries=0)], [run("other")])
        run_id = await begin(rest, ship, run("report"), yes=True)
        await worker.fail((await take(worker, "ship.then.it"))["ship.then.it"])
        await until(rest, run_id, "failed")
        found = await nodes(rest, run_id)
    assert found["report"]["state"] == "cancelled"


async def test_a_map_runs_a_job_for_each_place_and_gives_their_results(rest: Rest) -> None:
    fetch = {
        "key": "fetch", "kind": "map", "over": "inputs.urls", "jobType": "scan",
        "payload": {"url": "${item}", "place": "${index}"},
    }  # fmt: skip
    async with working(rest.engine) as worker:
        run_id = await begin(
            rest, fetch, run("report", {"all": "${results.fetch}"}), urls=["u0", "u1"]
        )
        for key, grant in (await take(worker, "fetch[0]", "fetch[1]")).items():
            place = int(key[-2])
            assert _paid(grant) == {"url": f"u{place}", "place": place}
            await worker.complete(grant, b"%d" % place)
        last = (await take(worker, "report"))["report"]
        assert _paid(last) == {"all": [0, 1]}
        await worker.complete(last)
        await until(rest, run_id, "completed")


async def test_an_approval_tells_its_message_and_waits_for_an_operator(rest: Rest) -> None:
    gate = {"key": "ok", "kind": "gate.approval", "message": "Ship ${inputs.version}?"}
    async with working(rest.engine) as worker:
        run_id = await begin(rest, gate, run("ship"), version="1.2")
        await until_open(rest, run_id, "ok")
        job_id = (await nodes(rest, run_id))["ok"]["jobId"]
        waiting = (await rest.client.get(f"/jobs/{job_id}")).json()
        assert waiting["payload"] == {"message": "Ship 1.2?"}
        approved = await rest.operate(f"/runs/{run_id}:approve", json={"key": "ok"})
        assert approved.status_code == 200, approved.text
        await complete(worker, "ship")
        await until(rest, run_id, "completed")


@pytest.mark.parametrize(("score", "state"), [(3, "completed"), (9, "failed")])
async def test_a_policy_lets_the_run_go_on_or_fails_it(rest: Rest, score: int, state: str) -> None:
    gate = {"key": "low", "kind": "gate.policy", "require": "results.rate.score < `5`"}
    async with working(rest.engine) as worker:
        run_id = await begin(rest, run("rate"), gate, run("ship"))
        await complete(worker, "rate", result=b'{"score":%d}' % score)
        if state == "completed":
            await complete(worker, "ship")
        await until(rest, run_id, state)
        found = await nodes(rest, run_id)
    if state == "failed":
        assert found["low"]["error"] == "policy_denied"
        assert found["ship"]["state"] == "cancelled"


async def test_a_run_that_is_given_up_is_cancelled_with_what_has_not_ended(rest: Rest) -> None:
    run_id = await begin(rest, run("build"), run("scan"))
    answer = await rest.operate(f"/pack-runs/{run_id}:cancel")
    assert answer.status_code == 200
    assert "cancelRequestedAt" in answer.json()
    await until(rest, run_id, "cancelled")
    refused(await rest.operate(f"/pack-runs/{run_id}:cancel"), 409, "RUN_ENDED")


# ---- what comes out


async def _pages(rest: Rest, path: str, size: int) -> list[dict[str, Any]]:
    """All items of a list, fetched in pages of this size."""
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"pageSize": size}
    while True:
        answer = await rest.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= size
        items += page["items"]
        if page["nextPageToken"] is None:
            return items
        query["pageToken"] = page["nextPageToken"]


def _lines(*texts: str) -> bytes:
    lines = [{"at": "2026-01-01T00:00:00Z", "level": "info", "text": text} for text in texts]
    return json.dumps(lines).encode()


async def _left_and_right(rest: Rest, worker: Worker) -> str:
    """A run whose two jobs have logged by turns and named artifacts."""
    run_id = await begin(rest, parallel("scan", [run("left")], [run("right")]))
    found = await take(worker, "scan.left", "scan.right")
    left, right = found["scan.left"], found["scan.right"]
    await worker.log(left, _lines("l1", "l2"))
    await worker.log(right, _lines("r1"))
    await worker.log(left, _lines("l3"))
    for grant, name in ((right, "a"), (left, "b"), (left, "a")):
        await worker.name_artifact(grant, name)
    for grant in found.values():
        await worker.complete(grant)
    await until(rest, run_id, "completed")
    return run_id


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_lines_of_all_jobs_come_in_the_order_they_were_stored(rest: Rest, size: int) -> None:
    async with working(rest.engine) as worker:
        run_id = await _left_and_right(rest, worker)
    lines = await _pages(rest, f"/pack-runs/{run_id}/logs", size)
    assert [(line["key"], line["attempt"], line["text"]) for line in lines] == [
        ("scan.left", 1, "l1"),
        ("scan.left", 1, "l2"),
        ("scan.right", 1, "r1"),
        ("scan.left", 1, "l3"),
    ]


@pytest.mark.parametrize("size", [7, 41, 500])
async def test_many_rows_and_large_ones_are_all_listed(rest: Rest, size: int) -> None:
    texts = [str(number) for number in range(40)] + ["x" * 16_000] * 80 + ["last"]
    async with working(rest.engine) as worker:
        run_id = await begin(rest, run("only"))
        grant = (await take(worker, "only"))["only"]
        for text in texts[:40]:
            await worker.log(grant, _lines(text))
        for start in range(40, len(texts), 27):
            await worker.log(grant, _lines(*texts[start : start + 27]))
        await worker.complete(grant)
        await until(rest, run_id, "completed")
    lines = await _pages(rest, f"/pack-runs/{run_id}/logs", size)
    assert [line["text"] for line in lines] == texts


@pytest.mark.parametrize("size", [1, 50])
async def test_artifacts_of_all_jobs_come_by_key_attempt_and_name(rest: Rest, size: int) -> None:
    async with working(rest.engine) as worker:
        run_id = await _left_and_right(rest, worker)
    found = await _pages(rest, f"/pack-runs/{run_id}/artifacts", size)
    assert [(each["key"], each["attempt"], each["name"]) for each in found] == [
        ("scan.left", 1, "a"),
        ("scan.left", 1, "b"),
        ("scan.right", 1, "a"),
    ]


async def test_a_stream_tells_what_becomes_of_one_run(rest: Rest) -> None:
    await rest.submit()
    async with working(rest.engine) as worker:
        await worker.complete(await worker.take())
        run_id = await _left_and_right(rest, worker)
    kinds, of_jobs = list[str](), set[str]()
    async with following(rest, "?after=0", f"/stream/pack-runs/{run_id}") as reader:
        with trio.fail_after(15):
            while "run.completed" not in kinds:
                block = await reader.block()
                assert block is not None, "the stream ended"
                if block:
                    kinds.append(block["event"])
                    of_jobs.add(json.loads(block["data"]).get("job", {}).get("runId", run_id))
    assert [kind for kind in kinds if kind.startswith("run.")][:2] == ["run.created", "run.started"]
    assert kinds.count("pack_run.artifact") == 3
    assert of_jobs == {run_id}


async def test_a_stream_sends_the_lines_there_are_and_those_that_come(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, run("scan"))
        grant = (await take(worker, "scan"))["scan"]
        await worker.log(grant, _lines("before"))
        async with following(rest, "", f"/stream/pack-runs/{run_id}") as reader:
            first = await _line(reader)
            await worker.log(grant, _lines("l1", "l2"))
            more = [await _line(reader), await _line(reader)]
    assert [line["text"] for line in (first, *more)] == ["before", "l1", "l2"]
    assert (first["key"], first["attempt"]) == ("scan", 1)
    path = f"/stream/pack-runs/{run_id}"
    async with following(rest, f"?logsAfter={first['position']}", path) as reader:
        assert [await _line(reader), await _line(reader)] == more


async def _line(reader: Reader) -> dict[str, Any]:
    """The next log line that is sent."""
    with trio.fail_after(15):
        while True:
            block = await reader.block()
            assert block is not None, "the stream ended"
            if block and block["event"] == "pack_run.log":
                line: dict[str, Any] = json.loads(block["data"])
                return line
