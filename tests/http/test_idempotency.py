from typing import Any

import httpx
import pytest
import trio

from tests.http.conftest import Rest
from tests.http.test_jobs import failed_letter, states
from tests.http.worker import working

KEY = {"Idempotency-Key": "k-1"}


def check_repeat(first: httpx.Response, again: httpx.Response) -> None:
    assert "Idempotent-Replayed" not in first.headers
    assert again.status_code == 200, again.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content


async def test_a_repeated_submit_gets_the_first_answer_though_the_job_has_moved_on(
    rest: Rest,
) -> None:
    body = {"jobType": "scan", "payload": {"n": 1e21, "é": [1.50, None]}, "labels": {"b": "1"}}
    async with working(rest.engine) as worker:
        first = await rest.client.post("/jobs", json=body, headers=KEY)
        assert first.status_code == 201
        await worker.complete(await worker.take())
        await states(rest, first.json()["jobId"], "completed")
    check_repeat(first, await rest.client.post("/jobs", json=body, headers=KEY))
    assert len((await rest.client.get("/jobs")).json()["items"]) == 1


async def test_a_repeated_bulk_gets_the_first_outcomes(rest: Rest) -> None:
    body: list[dict[str, Any]] = [{"jobType": "a"}, {"jobType": "a", "x": 1}, {"jobType": "b"}]
    first = await rest.client.post("/jobs:bulk", json=body, headers=KEY)
    check_repeat(first, await rest.client.post("/jobs:bulk", json=body, headers=KEY))
    assert len((await rest.client.get("/jobs")).json()["items"]) == 2


@pytest.mark.parametrize("verb", ["cancel", "release"])
async def test_a_repeated_operation_gets_the_first_answer(rest: Rest, verb: str) -> None:
    job = await rest.submit(hold=True)
    path = f"/jobs/{job['jobId']}:{verb}"
    first = await rest.operate(path, headers=KEY)
    assert first.status_code == 200
    check_repeat(first, await rest.operate(path, headers=KEY))


async def test_a_repeated_replay_makes_one_job(rest: Rest) -> None:
    job = await rest.submit(hold=True)
    await rest.operate(f"/jobs/{job['jobId']}:cancel")
    path = f"/jobs/{job['jobId']}:replay"
    first = await rest.operate(path, headers=KEY)
    assert first.status_code == 201
    check_repeat(first, await rest.operate(path, headers=KEY))
    assert len((await rest.client.get("/jobs")).json()["items"]) == 2


@pytest.mark.parametrize("verb", ["replay", "retry", "discard"])
async def test_a_repeated_act_on_a_dead_letter_gets_the_first_answer(rest: Rest, verb: str) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
    path = f"/deadletter/{letter['deadLetterId']}:{verb}"
    first = await rest.operate(path, headers=KEY)
    assert first.is_success
    check_repeat(first, await rest.operate(path, headers=KEY))


async def test_the_same_key_with_another_body_or_project_is_422(rest: Rest) -> None:
    await rest.client.post("/jobs", json={"jobType": "a"}, headers=KEY)
    for body, headers in (
        ({"jobType": "b"}, KEY),
        ({"jobType": "a"}, {**KEY, "X-Stella-Project": "alpha"}),
    ):
        answer = await rest.client.post("/jobs", json=body, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "IDEMPOTENCY_MISMATCH"


async def test_a_key_counts_for_its_path_and_tenant_only(rest: Rest) -> None:
    body = {"jobType": "a"}
    await rest.client.post("/jobs", json=body, headers=KEY)
    bulk = await rest.client.post("/jobs:bulk", json=[body], headers=KEY)
    assert bulk.json()["created"] == 1
    other = await rest.client.post(
        "/jobs", json=body, headers={**rest.headers(tenant="other"), **KEY}
    )
    assert other.status_code == 201


async def test_requests_under_one_key_at_once_make_one_job(rest: Rest) -> None:
    answers: list[httpx.Response] = []

    async def post() -> None:
        answers.append(await rest.client.post("/jobs", json={"jobType": "a"}, headers=KEY))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(post)
    assert sorted({answer.status_code for answer in answers} - {200, 409}) == [201]
    assert len((await rest.client.get("/jobs")).json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 257, "a b", "\u00fc".encode("latin-1")])
async def test_a_key_that_is_none_is_refused(rest: Rest, key: Any) -> None:
    answer = await rest.client.post(
        "/jobs", json={"jobType": "a"}, headers={"Idempotency-Key": key}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == [{"path": "Idempotency-Key"}]
