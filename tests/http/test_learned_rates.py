"""What an upstream taught, over both doors: shown, overridden, and there after a restart."""

from typing import Any

import trio

from jobengine.store.memory import MemoryStore
from tests.http.conftest import SIGNED
from tests.http.opened import Opened, hear, opened, say

SOURCE = {
    "sourceId": "osv",
    "sourceType": "advisories",
    "host": "api.osv.example",
    "ratePolicy": {"rpm": 600, "burst": 10},
}


async def bucket(node: Opened) -> dict[str, Any]:
    answer = await node.client.get("/sources/osv/bucket")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def override(node: Opened, rpm: float | None, *, pinned: bool = False) -> None:
    answer = await node.client.put(
        "/sources/osv/bucket", json={"learnedPerMinute": rpm, "pinned": pinned}, headers=SIGNED
    )
    assert answer.status_code == 200, answer.text


async def push_back(node: Opened) -> None:
    """A worker says that the upstream answered 429, and to stay away for a minute."""
    async with node.worker() as worker:
        await say(worker, {"op": "hello", "workerId": "w", "queues": ["scan"], "capacity": 1})
        told = {"op": "throttled", "httpStatus": 429, "retryAfter": 60, "sourceId": "osv"}
        await say(worker, told, {"op": "heartbeat", "ref": 1})
        await hear(worker, "ack")
    with trio.fail_after(15):
        while "learnedRpm" not in await bucket(node):
            pass


async def test_a_learned_rate_is_shown_outlives_the_engine_and_can_be_overridden() -> None:
    store = MemoryStore()
    async with opened(store=store) as node:
        created = await node.client.post("/sources", json=SOURCE, headers=SIGNED)
        assert created.status_code == 201, created.text
        assert (await bucket(node))["rpm"] == 600
        await push_back(node)
        learned = await bucket(node)
        assert (learned["learnedRpm"], learned["rpm"]) == (300, 300)
    async with opened(store=store) as node:
        again = await bucket(node)
        assert (again["learnedRpm"], again["rpm"]) == (300, 300)
        assert again["openAt"] == learned["openAt"]
        await override(node, 60, pinned=True)
        assert (await bucket(node))["pinned"] is True
    async with opened(store=store) as node:
        pinned = await bucket(node)
        assert (pinned["rpm"], pinned["pinned"]) == (60, True)
        await override(node, None)
        forgotten = await bucket(node)
        assert forgotten["rpm"] == 600
        assert "learnedRpm" not in forgotten
        assert "openAt" not in forgotten
