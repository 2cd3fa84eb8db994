"""Lists of dead letters, artifacts and logs that grow while they are read, over HTTP: nothing that
was there at the start is missed, nothing comes twice, and the order is that of one list."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio_websocket import WebSocketConnection

from tests.http.opened import Opened, hear, opened, say

PAGES_MAX = 60
"""What is added between pages is read too, so a list must outrun what is added."""

steps = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=6)
Grow = Callable[[int], Awaitable[None]]


async def fail_jobs(node: Opened, worker: WebSocketConnection, count: int) -> None:
    """Add `count` dead letters."""
    for _ in range(count):
        await node.client.post("/jobs", json={"jobType": "scan", "maxRetries": 0})
        await say(worker, {"op": "credit", "slots": 1})
        lease = await hear(worker, "lease")
        error = {"class": "E", "message": "m", "retryable": False}
        named = {"leaseId": lease["leaseId"], "token": lease["token"]}
        await say(worker, {"op": "fail", "ref": "f", "error": error, **named})
        while (await hear(worker, "ack")).get("ref") != "f":
            pass


class Attempt:
    """A job at work, whose artifacts and log lines the test adds."""

    def __init__(self, worker: WebSocketConnection, lease: dict[str, Any]) -> None:
        self.job_id = lease["jobId"]
        self._worker = worker
        self._lease = {"leaseId": lease["leaseId"], "token": lease["token"]}
        self._added = 0

    async def artifacts(self, count: int) -> None:
        for _ in range(count):
            self._added += 1
            # Names that sort otherwise than they came.
            name = f"{(self._added * 7) % 10}-{self._added}"
            await self._tell({"op": "artifact", "uri": "file:///a", "name": name})

    async def logs(self, count: int) -> None:
        for _ in range(count):
            self._added += 1
            line = {"at": "2026-01-01T00:00:00Z", "level": "info", "text": str(self._added)}
            await self._tell({"op": "log", "lines": [line]})

    async def _tell(self, said: dict[str, Any]) -> None:
        await say(self._worker, {**said, "ref": self._added, **self._lease})
        while (await hear(self._worker, "ack")).get("ref") != self._added:
            pass


async def subject(
    node: Opened, stack: AsyncExitStack, kind: str
) -> tuple[str, Grow, Callable[[dict[str, Any]], str]]:
    """The path of a list, what makes it grow, and what names an item of it."""
    worker = await stack.enter_async_context(node.worker())
    await say(worker, {"op": "hello", "workerId": "w", "jobTypes": ["scan"], "capacity": 1})
    if kind == "deadletter":

        async def grow(count: int) -> None:
            await fail_jobs(node, worker, count)

        return "/deadletter", grow, lambda item: str(item["deadLetterId"])
    await node.client.post("/jobs", json={"jobType": "scan"})
    await say(worker, {"op": "credit", "slots": 1})
    attempt = Attempt(worker, await hear(worker, "lease"))
    if kind == "artifacts":
        return f"/jobs/{attempt.job_id}/artifacts", attempt.artifacts, lambda item: item["name"]
    return f"/jobs/{attempt.job_id}/logs", attempt.logs, lambda item: item["text"]


async def read(
    node: Opened, path: str, size: int, token: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    query = {"pageSize": str(size), **({} if token is None else {"pageToken": token})}
    answer = await node.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert len(page["items"]) <= size
    return page["items"], page["nextPageToken"]


async def whole(node: Opened, path: str) -> list[dict[str, Any]]:
    items, token = await read(node, path, 500, None)
    assert token is None
    return items


@pytest.mark.parametrize("kind", ["deadletter", "artifacts", "logs"])
@settings(max_examples=8, deadline=None)
@given(count=st.integers(1, 9), steps=steps)
def test_a_list_that_grows_between_its_pages_is_read_without_gap_or_repeat(
    kind: str, count: int, steps: list[tuple[int, int]]
) -> None:
    """Before each next page, `added` items come."""

    async def scenario() -> None:
        async with opened() as node, AsyncExitStack() as stack:
            path, grow, name_of = await subject(node, stack, kind)
            await grow(count)
            there = [name_of(item) for item in await whole(node, path)]
            assert len(there) == count
            seen: list[str] = []
            token: str | None = None
            for turn in range(PAGES_MAX):
                size, added = steps[turn % len(steps)]
                items, token = await read(node, path, size, token)
                seen += map(name_of, items)
                if token is None:
                    break
                # Less than the page took, so that the end is reached.
                await grow(min(added, size - 1))
            assert token is None
            assert len(seen) == len(set(seen))
            assert [name for name in seen if name in there] == there
            final = [name_of(item) for item in await whole(node, path)]
            assert [name for name in final if name in seen] == seen

    trio.run(scenario)
