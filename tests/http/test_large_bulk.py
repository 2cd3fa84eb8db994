"""A bulk that is created in many slices, as a producer over HTTP sees it."""

import httpx
import trio

from tests.http.conftest import Rest

KEY = {"Idempotency-Key": "large"}
MANY = 2_000
BODY = [{"jobType": "scan", "payload": {"n": number}} for number in range(MANY)]


async def test_a_large_bulk_and_its_repeats_at_the_same_time_create_its_jobs_once(
    rest: Rest,
) -> None:
    answers: list[httpx.Response] = []

    async def post() -> None:
        answers.append(await rest.client.post("/jobs:bulk", json=BODY, headers=KEY))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(post)
    [first] = [
        each
        for each in answers
        if each.status_code == 200 and each.headers.get("Idempotent-Replayed") != "true"
    ]
    assert first.json()["created"] == MANY
    assert {each.status_code for each in answers} <= {200, 409}
    repeat = await rest.client.post("/jobs:bulk", json=BODY, headers=KEY)
    assert repeat.json()["items"] == first.json()["items"]
    summary = await rest.client.get("/jobs/summary")
    assert sum(summary.json()["counts"].values()) == MANY


async def test_jobs_of_another_tenant_are_created_while_a_large_bulk_is(rest: Rest) -> None:
    """On however many shards: single submits that come behind a bulk are answered before it."""
    ended: list[str] = []

    async def bulk() -> None:
        answer = await rest.client.post("/jobs:bulk", json=BODY * 4)
        assert answer.json()["created"] == 4 * MANY
        ended.append("bulk")

    async def single() -> None:
        quiet = rest.headers(tenant="quiet")
        answer = await rest.client.post("/jobs", json={"jobType": "a"}, headers=quiet)
        assert answer.status_code == 201
        ended.append("single")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulk)
        with trio.fail_after(30):
            for _ in range(3):
                await single()
    assert ended == ["single"] * 3 + ["bulk"]


async def test_a_producer_that_goes_in_the_middle_leaves_all_of_its_bulk_or_nothing(
    rest: Rest,
) -> None:
    with trio.move_on_after(0.2):
        await rest.client.post("/jobs:bulk", json=BODY, headers=KEY)
    with trio.fail_after(30):
        while True:
            answer = await rest.client.post("/jobs:bulk", json=BODY, headers=KEY)
            if answer.status_code == 200:
                break
            await trio.sleep(0.05)
    assert answer.json()["created"] == MANY
    summary = await rest.client.get("/jobs/summary")
    assert sum(summary.json()["counts"].values()) == MANY
