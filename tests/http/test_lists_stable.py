"""Lists while rows are added and changed: what was there is seen once, in order, with no gap."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.node import running_node
from tests.postgres_server import database, postgres_server

__all__ = ["database", "postgres_server"]

JOB = {"jobType": "scan", "hold": True}


async def submit(client: httpx.AsyncClient, count: int) -> list[str]:
    """Ids of new jobs, the newest first."""
    answer = await client.post("/jobs:bulk", json=[JOB] * count)
    return [item["jobId"] for item in answer.json()["items"]][::-1]


async def page(client: httpx.AsyncClient, path: str, **params: Any) -> tuple[list[Any], str | None]:
    given = {name: value for name, value in params.items() if value is not None}
    answer = await client.get(path, params=given)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert len(body["items"]) <= params["pageSize"]
    return body["items"], body["nextPageToken"]


steps = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=8
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(count=st.integers(1, 12), steps=steps)
def test_pages_of_jobs_neither_repeat_nor_skip_while_jobs_come_and_change(
    tmp_path: Path, count: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Between two pages, `added` jobs come and, if `cancels`, the next unseen one is cancelled."""

    async def scenario() -> None:
        async with running_node(tmp_path / "key.pem") as client:
            there = await submit(client, count)
            seen: list[str] = []
            token, turn = None, 0
            while turn == 0 or token is not None:
                size, added, cancels = steps[turn % len(steps)]
                items, token = await page(client, "/jobs", pageSize=size, pageToken=token)
                seen += [job["jobId"] for job in items]
                if added:
                    await submit(client, added)
                if cancels and len(seen) < len(there):
                    await client.post(f"/jobs/{there[len(seen)]}:cancel")
                turn += 1
            assert seen == there

    trio.run(scenario)


async def test_a_list_read_against_a_crowd_of_writers_is_whole(
    tmp_path: Path, database: str
) -> None:
    async with running_node(tmp_path / "key.pem", database) as client:
        there = await submit(client, 300)
        done = trio.Event()

        async def write() -> None:
            while not done.is_set():
                await submit(client, 7)

        async with trio.open_nursery() as writers:
            for _ in range(3):
                writers.start_soon(write)
            seen: list[str] = []
            token: str | None = None
            while not seen or token is not None:
                items, token = await page(client, "/jobs", pageSize=17, pageToken=token)
                seen += [job["jobId"] for job in items]
            done.set()
        assert seen == sorted(set(seen), reverse=True)
        assert [job_id for job_id in seen if job_id in set(there)] == there


async def test_a_history_that_grows_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    async with running_node(tmp_path / "key.pem") as client:
        [job_id] = await submit(client, 1)
        path = f"/jobs/{job_id}/history"
        await client.post(f"/jobs/{job_id}:release")
        first, token = await page(client, path, pageSize=1)
        await client.post(f"/jobs/{job_id}:cancel")
        rest, end = await page(client, path, pageSize=50, pageToken=token)
        assert [item["to"] for item in [*first, *rest]] == ["pending", "scheduled", "cancelled"]
        assert end is None


INJECTIONS = (
    "'",
    "' OR '1'='1",
    "'; DROP TABLE job; --",
    "') UNION SELECT * FROM job --",
    "%' OR 1=1 --",
    "%s",
    "%(tenant)s",
    "$1",
    "\\",
    "\\x27 or 1=1",
    "{}",
    '{"a": "b"}',
    "a' || pg_sleep(5) || '",
    "%",
    "_",
    "*",
)
PATHS = {
    "/jobs": ("jobType", "queue", "runId", "sourceId", "project", "label"),
    "/deadletter": ("jobType", "queue", "class", "signature"),
}


async def test_sql_in_a_filter_is_text_that_matches_nothing(tmp_path: Path, database: str) -> None:
    async with running_node(tmp_path / "key.pem", database) as client:
        there = await submit(client, 2)
        for path, names in PATHS.items():
            for name in names:
                for text in INJECTIONS:
                    value = f"{text}:{text}" if name == "label" else text
                    with trio.fail_after(15):
                        items, _ = await page(client, path, pageSize=5, **{name: value})
                    assert items == [], (path, name, text)
        items, _ = await page(client, "/jobs", pageSize=5)
        assert [job["jobId"] for job in items] == there


@pytest.mark.parametrize("text", INJECTIONS)
async def test_sql_in_any_other_place_is_refused_or_plain_text(tmp_path: Path, text: str) -> None:
    async with running_node(tmp_path / "key.pem") as client:
        for params in ({"state": text}, {"pageToken": text}, {"createdFrom": text}):
            assert (await client.get("/jobs", params=params)).status_code == 400
        answer = await client.get("/jobs", headers={"X-Stella-Project": text})
        assert answer.json() == {"items": [], "nextPageToken": None}
        job = {"jobType": "scan", "labels": {"a": text}, "payload": {text: text}, "uniqueKey": text}
        made = await client.post("/jobs", json=job)
        assert made.status_code == 201
        assert made.json()["labels"] == {"a": text}
        found = await client.get("/jobs", params={"label": f"a:{text}"})
        assert [one["jobId"] for one in found.json()["items"]] == [made.json()["jobId"]]
