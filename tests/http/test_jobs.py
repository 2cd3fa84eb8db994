from typing import Any

import pytest
import trio

from tests.http.conftest import Rest
from tests.http.worker import Worker, working


async def states(rest: Rest, job_id: str, wanted: str) -> dict[str, Any]:
    """The job, once it is in this state."""
    with trio.fail_after(15):
        while True:
            job: dict[str, Any] = (await rest.client.get(f"/jobs/{job_id}")).json()
            if job["state"] == wanted:
                return job
            await trio.lowlevel.checkpoint()


async def failed_letter(rest: Rest, worker: Worker, **job: Any) -> dict[str, Any]:
    """The dead letter of a new job that has failed for good."""
    created = await rest.submit(**job)
    await worker.fail(await worker.take())
    await states(rest, created["jobId"], "failed")
    letters = (await rest.client.get("/deadletter")).json()["items"]
    letter: dict[str, Any] = next(one for one in letters if one["jobId"] == created["jobId"])
    return letter


async def test_a_created_job_is_answered_with_201_and_can_be_read_back(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs",
        json={"jobType": "scan", "payload": {"n": 1.5, "a": "ü"}, "labels": {"team": "red"}},
    )
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"].endswith(f"/jobs/{job['jobId']}")
    assert job["state"] == "scheduled"
    assert job["payload"] == {"n": 1.5, "a": "ü"}
    assert (await rest.client.get(f"/jobs/{job['jobId']}")).json() == job


async def test_headers_of_the_request_stamp_the_job(rest: Rest) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await rest.client.post(
        "/jobs",
        json={"jobType": "scan"},
        headers={
            "X-Stella-Project": "alpha",
            "X-Correlation-Id": "order-7",
            "traceparent": traceparent,
        },
    )
    job = answer.json()
    assert job["projectId"] == "alpha"
    assert job["correlationId"] == "order-7"
    assert job["traceparent"] == traceparent


async def test_a_malformed_traceparent_starts_no_trace(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs", json={"jobType": "scan"}, headers={"traceparent": "00-zz-00"}
    )
    assert answer.status_code == 201
    assert "traceparent" not in answer.json()


async def test_a_unique_key_answers_200_with_the_job_that_holds_it(rest: Rest) -> None:
    first = await rest.submit(uniqueKey="only")
    again = await rest.client.post("/jobs", json={"jobType": "scan", "uniqueKey": "only"})
    assert again.status_code == 200
    assert again.json()["jobId"] == first["jobId"]


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "BAD_JSON", "$"),
        (b'{"jobType": "scan"', "BAD_JSON", "$"),
        (b'{"jobType": "\xff"}', "BAD_JSON", "$"),
        (b'{"jobType": "scan", "payload": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "BAD_JSON", "$"),
        (b"[]", "INVALID_FIELD", "$"),
        (b"{}", "INVALID_FIELD", "jobType"),
        (b'{"jobType": 7}', "INVALID_FIELD", "jobType"),
        (b'{"jobType": "a b"}', "INVALID_FIELD", "jobType"),
        (b'{"jobType": "scan", "prio": 1}', "INVALID_FIELD", "prio"),
        (b'{"jobType": "scan", "priority": 10}', "INVALID_FIELD", "priority"),
        (b'{"jobType": "scan", "labels": {"a": 1}}', "INVALID_FIELD", "labels[...]"),
        (b'{"jobType": "scan", "payload": "\\u0000"}', "INVALID_FIELD", "payload"),
        (b'{"jobType": "scan", "notBefore": "tomorrow"}', "INVALID_FIELD", "notBefore"),
    ],
)
async def test_a_body_that_is_no_job_is_refused_naming_the_field(
    rest: Rest, body: bytes, code: str, path: str
) -> None:
    answer = await rest.client.post(
        "/jobs", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["details"] == [{"path": path}]
    assert len(error["traceId"]) == 32


async def test_a_payload_over_its_limit_is_refused_with_413(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs", json={"jobType": "scan", "payload": "x" * (256 * 1024)}
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["details"][0]["path"] == "payload"


async def test_a_bulk_has_one_outcome_a_job_in_request_order(rest: Rest) -> None:
    await rest.submit(uniqueKey="taken")
    answer = await rest.client.post(
        "/jobs:bulk",
        json=[
            {"jobType": "scan"},
            {"jobType": "scan", "what": 1},
            {"jobType": "scan", "uniqueKey": "taken"},
            {"jobType": "scan", "payload": "x" * (256 * 1024)},
            {"jobType": "scan"},
        ],
    )
    assert answer.status_code == 200
    result = answer.json()
    outcomes = [item["outcome"] for item in result["items"]]
    assert outcomes == ["created", "rejected", "existing", "rejected", "created"]
    assert [item["index"] for item in result["items"]] == [0, 1, 2, 3, 4]
    assert (result["created"], result["existing"], result["rejected"]) == (2, 1, 2)
    assert result["items"][1]["error"]["details"] == [{"path": "what"}]
    assert result["items"][3]["error"]["code"] == "PAYLOAD_TOO_LARGE"
    created = await rest.client.get(f"/jobs/{result['items'][4]['jobId']}")
    assert created.status_code == 200


async def test_a_bulk_may_come_as_lines(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs:bulk",
        content=b'{"jobType":"a"}\n\n{"jobType":"b"}\n{"jobType":\n',
        headers={"Content-Type": "application/x-ndjson"},
    )
    result = answer.json()
    assert [item["outcome"] for item in result["items"]] == ["created", "created", "rejected"]


async def test_values_of_a_bulk_in_lines_may_share_a_line_or_take_several(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs:bulk",
        content=b'{"jobType":"a","payload":1} {"jobType":"a","payload":2}\n{"jobType":\n"a"}',
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.json()["created"] == 3


async def test_values_that_share_a_line_are_read_only_where_they_cannot_be_too_many(
    rest: Rest,
) -> None:
    answer = await rest.client.post(
        "/jobs:bulk",
        content=b'{"jobType":"a"}' * 10_001,
        headers={"Content-Type": "application/x-ndjson"},
    )
    result = answer.json()
    assert (answer.status_code, result["created"], result["rejected"]) == (200, 0, 1)


async def test_more_than_ten_thousand_lines_are_refused_whole(rest: Rest) -> None:
    answer = await rest.client.post(
        "/jobs:bulk",
        content=b'{"jobType":"a"}\n' * 10_001,
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "BULK_TOO_LARGE"


@pytest.mark.parametrize("ndjson", [False, True])
async def test_a_bad_item_between_alike_ones_is_refused_as_it_is_by_itself(
    rest: Rest, ndjson: bool
) -> None:
    alike = [b'{"jobType":"a","payload":{"n":%d}}' % n for n in range(4)]
    bad = [
        b'{"jobType":"a","payload":{"n":1e999}}',
        b'{"jobType":"a b","payload":{"n":3}}',
        b'{"jobType":"a","payload":{"n":3},"priority":99}',
        b'{"payload":{"n":3}}',
    ]
    items = [*alike, *bad, *alike]
    answer = await rest.client.post(
        "/jobs:bulk",
        content=b"\n".join(items) if ndjson else b"[%b]" % b",".join(items),
        headers={"Content-Type": "application/x-ndjson" if ndjson else "application/json"},
    )
    shown = answer.json()["items"]
    assert [item["outcome"] for item in shown] == [
        *["created"] * 4,
        *["rejected"] * 4,
        *["created"] * 4,
    ]
    for item, text in zip(shown[4:8], bad, strict=True):
        single = await rest.client.post("/jobs", content=text)
        error = single.json()["error"]
        assert item["error"] == {key: error[key] for key in ("code", "message", "details")}
    payloads = [
        (await rest.client.get(f"/jobs/{item['jobId']}")).json()["payload"] for item in shown[8:]
    ]
    assert payloads == [{"n": n} for n in range(4)]


async def test_a_bulk_over_ten_thousand_jobs_is_refused_whole(rest: Rest) -> None:
    answer = await rest.client.post("/jobs:bulk", json=[{"jobType": "a"}] * 10_001)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "BULK_TOO_LARGE"
    assert (await rest.client.get("/jobs")).json()["items"] == []


async def test_a_bulk_of_ten_thousand_jobs_is_one_commit(rest: Rest) -> None:
    before = rest.engine.gateway.ledger.commits_total
    answer = await rest.client.post("/jobs:bulk", json=[{"jobType": "a"}] * 10_000)
    assert answer.json()["created"] == 10_000
    assert rest.engine.gateway.ledger.commits_total == before + 1


async def test_a_bulk_body_without_items_is_refused_whole(rest: Rest) -> None:
    answer = await rest.client.post("/jobs:bulk", json={"jobType": "a"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_FIELD"


async def test_a_list_goes_newest_first_over_pages_without_gap_or_repeat(rest: Rest) -> None:
    created = [(await rest.submit())["jobId"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"pageSize": 2}
    while True:
        page = (await rest.client.get("/jobs", params=query)).json()
        assert len(page["items"]) <= 2
        seen += [job["jobId"] for job in page["items"]]
        if page["nextPageToken"] is None:
            break
        # A job that comes in between is newer than the page and does not shift it.
        await rest.submit()
        query["pageToken"] = page["nextPageToken"]
    assert seen == created[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "jobType=scan&queue=fast",
        "state=pending",
        "state=completed,pending",
        "project=alpha",
        "label=team:red",
        "sourceId=nvd",
        "createdFrom=2026-01-01T00:00:00Z&createdBefore=2999-01-01T00:00:00Z&queue=fast",
    ],
)
async def test_a_filter_finds_the_job_that_meets_it_and_no_other(rest: Rest, query: str) -> None:
    wanted = await rest.submit(
        queue="fast", hold=True, projectId="alpha", labels={"team": "red"}, sourceId="nvd"
    )
    await rest.submit(labels={"team": "blue"}, projectId="beta")
    page = (await rest.client.get(f"/jobs?{query}")).json()
    assert [job["jobId"] for job in page["items"]] == [wanted["jobId"]]


async def test_the_project_header_narrows_a_list(rest: Rest) -> None:
    wanted = await rest.submit(projectId="alpha")
    await rest.submit(projectId="beta")
    narrow = {"X-Stella-Project": "alpha"}
    page = (await rest.client.get("/jobs", headers=narrow)).json()
    assert [job["jobId"] for job in page["items"]] == [wanted["jobId"]]
    clash = await rest.client.get("/jobs?project=beta", headers=narrow)
    assert clash.status_code == 400


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("color=red", "color"),
        ("pageSize=0", "pageSize"),
        ("pageSize=501", "pageSize"),
        ("pageSize=ten", "pageSize"),
        ("pageSize=1&pageSize=2", "pageSize"),
        ("state=done", "state[0]"),
        ("label=red", "label"),
        ("createdFrom=yesterday", "createdFrom"),
        ("jobType=%00", "jobType"),
        ("jobType=%ff", "query"),
        ("pageToken=abc", "pageToken"),
        ("pageToken=%C3%BC", "pageToken"),
    ],
)
async def test_a_wrong_query_parameter_is_refused_naming_it(
    rest: Rest, query: str, path: str
) -> None:
    answer = await rest.client.get(f"/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == [{"path": path}]


async def test_a_page_token_is_good_for_its_tenant_list_and_filter_only(rest: Rest) -> None:
    for _ in range(2):
        await rest.submit()
    page = (await rest.client.get("/jobs?pageSize=1")).json()
    token = page["nextPageToken"]
    assert (await rest.client.get(f"/jobs?pageToken={token}")).status_code == 200
    other_filter = await rest.client.get(f"/jobs?pageToken={token}&jobType=scan")
    assert other_filter.status_code == 400
    other_tenant = await rest.client.get(
        f"/jobs?pageToken={token}", headers=rest.headers(tenant="other")
    )
    assert other_tenant.status_code == 400
    other_list = await rest.client.get(f"/deadletter?pageToken={token}")
    assert other_list.status_code == 400


async def test_the_summary_counts_unfinished_jobs_by_state(rest: Rest) -> None:
    await rest.submit(hold=True)
    oldest = await rest.submit()
    await rest.submit()
    answer = (await rest.client.get("/jobs/summary")).json()
    assert answer == {
        "tenantId": "demo",
        "counts": {"pending": 1, "scheduled": 2, "running": 0},
        "oldestDueAt": oldest["scheduledAt"],
    }


@pytest.mark.parametrize("job_id", ["nope", "01a2006c-db40-721c-81a1-17ce0c696aff", "%00"])
@pytest.mark.parametrize("tail", ["", "/history", "/artifacts", "/logs"])
async def test_an_unknown_job_is_answered_with_404(rest: Rest, job_id: str, tail: str) -> None:
    answer = await rest.client.get(f"/jobs/{job_id}{tail}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"


async def test_a_job_of_another_tenant_is_unknown(rest: Rest) -> None:
    job = await rest.submit()
    answer = await rest.client.get(f"/jobs/{job['jobId']}", headers=rest.headers(tenant="other"))
    assert answer.status_code == 404


async def test_history_tells_every_transition_in_order(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        job = await rest.submit()
        await worker.complete(await worker.take())
        done = await states(rest, job["jobId"], "completed")
    assert done["result"] == {"ok": True}
    items = (await rest.client.get(f"/jobs/{job['jobId']}/history")).json()["items"]
    assert [(item["from"], item["to"]) for item in items] == [
        (None, "pending"),
        ("pending", "scheduled"),
        ("scheduled", "running"),
        ("running", "completed"),
    ]
    assert [item["seq"] for item in items] == [1, 2, 3, 4]
    assert items[0]["actor"] == "tester"
    assert items[0]["leaseId"] is None
    assert items[3]["leaseId"] == f"{job['jobId']}.1"
    assert items[2]["workerId"] == "w-1"
    assert done["finishedAt"] == items[3]["at"]
    first = (await rest.client.get(f"/jobs/{job['jobId']}/history?pageSize=3")).json()
    rest_of = await rest.client.get(
        f"/jobs/{job['jobId']}/history?pageSize=3&pageToken={first['nextPageToken']}"
    )
    assert first["items"] + rest_of.json()["items"] == items


async def test_logs_and_artifacts_of_a_job_can_be_paged(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        job = await rest.submit()
        grant = await worker.take()
        at = "2026-01-01T00:00:00.000Z"
        for lines in (("a", "b", "c"), ("d",), ("e", "f")):
            texts = ",".join(f'{{"at":"{at}","level":"info","text":"{x}"}}' for x in lines)
            await worker.log(grant, f"[{texts}]".encode())
        for name in ("x", "y", "z"):
            await worker.name_artifact(grant, name)
        await worker.complete(grant)
        await states(rest, job["jobId"], "completed")
    for what, field, expected in (("logs", "text", "abcdef"), ("artifacts", "name", "xyz")):
        for size in (1, 2, 3, 4, 10):
            seen = []
            query: dict[str, Any] = {"pageSize": size}
            while True:
                page = (await rest.client.get(f"/jobs/{job['jobId']}/{what}", params=query)).json()
                assert len(page["items"]) <= size
                seen += [item[field] for item in page["items"]]
                if page["nextPageToken"] is None:
                    break
                query["pageToken"] = page["nextPageToken"]
            assert "".join(seen) == expected, (what, size)


async def test_a_list_goes_on_behind_the_longest_name(rest: Rest) -> None:
    names = [first + "x" * 1_023 for first in "ab"]
    async with working(rest.engine) as worker:
        job = await rest.submit()
        grant = await worker.take()
        for name in names:
            await worker.name_artifact(grant, name)
        await worker.complete(grant)
        await states(rest, job["jobId"], "completed")
    path = f"/jobs/{job['jobId']}/artifacts"
    first = (await rest.client.get(path, params={"pageSize": 1})).json()
    query = {"pageSize": 1, "pageToken": first["nextPageToken"]}
    second = (await rest.client.get(path, params=query)).json()
    assert [item["name"] for item in first["items"] + second["items"]] == names
