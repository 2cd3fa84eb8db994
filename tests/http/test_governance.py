"""Governance over the doors: who may set it, what is refused, and real workers under it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio_websocket import WebSocketConnection

from jobengine.auth.scopes import Scope
from tests.http.conftest import Rest
from tests.http.opened import Opened, hear, opened, say

REASON = {"X-Stella-Operator-Reason": "a test"}
FOUR = {"strategy": "proportional", "capacity": 4}


async def put(rest: Rest, body: Any, **headers: str) -> httpx.Response:
    given = {**rest.headers("_system"), **REASON, **headers}
    return await rest.client.put("/governance", json=body, headers=given)


async def test_nothing_is_limited_until_somebody_says_so(rest: Rest) -> None:
    answer = await rest.client.get("/governance", headers=rest.headers("_system"))
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"0"'
    assert answer.json() == {
        "strategy": "unlimited",
        "capacity": None,
        "revision": 0,
        "changedAt": None,
        "complete": True,
        "tenants": [],
    }


async def test_a_policy_is_shown_as_it_was_set_with_what_each_tenant_has(rest: Rest) -> None:
    share = {"tenantId": "acme", "reserved": 2, "weight": 3}
    body = {"strategy": "reserved", "capacity": 10, "tenants": [share]}
    first = await put(rest, body)
    assert first.status_code == 200, first.text
    with trio.fail_after(15):
        while True:
            shown = await rest.client.get("/governance", headers=rest.headers("_system"))
            if shown.json()["tenants"][0]["allotment"] == 2:
                break
            await trio.lowlevel.checkpoint()
    found = shown.json()
    assert found.pop("changedAt").endswith("Z")
    assert found == {
        "strategy": "reserved",
        "capacity": 10,
        "revision": 1,
        "complete": True,
        "tenants": [
            {
                "tenantId": "acme",
                "listed": True,
                "weight": 3,
                "priority": 0,
                "reserved": 2,
                "cap": None,
                "allotment": 2,
                "running": 0,
                "waiting": 0,
            }
        ],
    }


async def test_only_the_revision_that_was_read_is_changed_when_it_is_named(rest: Rest) -> None:
    assert (await put(rest, FOUR, **{"If-Match": '"0"'})).headers["ETag"] == '"1"'
    for stale in ('"0"', '"7"', '"nonsense"'):
        refused = await put(rest, FOUR, **{"If-Match": stale})
        assert refused.json()["error"]["code"] == "REVISION_MISMATCH"
    assert (await put(rest, FOUR, **{"If-Match": '"1"'})).headers["ETag"] == '"2"'


async def test_a_tenant_can_neither_see_nor_set_what_is_the_platforms(rest: Rest) -> None:
    for tenant in ("demo", "acme"):
        headers = {**rest.headers(tenant), **REASON}
        for answer in (
            await rest.client.get("/governance", headers=headers),
            await rest.client.put("/governance", json=FOUR, headers=headers),
        ):
            assert answer.status_code == 403
            error = answer.json()["error"]
            assert error["code"] == "TENANT_FORBIDDEN"
            assert "_system" in error["message"]
    headers = {**rest.headers("demo"), "X-Stella-Tenant": "_system", **REASON}
    assert (await rest.client.put("/governance", json=FOUR, headers=headers)).status_code == 403


async def test_it_needs_the_scope_for_quotas_and_a_reason(rest: Rest) -> None:
    lacking = {**rest.headers("_system", scopes=[Scope.READ, Scope.OPERATE]), **REASON}
    refused = await rest.client.put("/governance", json=FOUR, headers=lacking)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "SCOPE_REQUIRED")
    headers = rest.headers("_system")
    refused = await rest.client.put("/governance", json=FOUR, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "AUDIT_REASON_REQUIRED")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"strategy": "fairest", "capacity": 4}, ["strategy"]),
        ({"strategy": "proportional"}, ["capacity"]),
        ({"strategy": "proportional", "capacity": 0}, ["capacity"]),
        ({"strategy": "proportional", "capacity": -4}, ["capacity"]),
        ({"strategy": "proportional", "capacity": 10**30}, ["capacity"]),
        ({"strategy": "proportional", "capacity": 1.5}, ["capacity"]),
        ({**FOUR, "tenants": [{"tenantId": "acme", "weight": 0}]}, ["weight", "acme"]),
        ({**FOUR, "tenants": [{"tenantId": "acme", "cap": 1, "reserved": 2}]}, ["acme", "1", "2"]),
        (
            {
                **FOUR,
                "tenants": [
                    {"tenantId": "acme", "reserved": 3},
                    {"tenantId": "blue", "reserved": 2},
                ],
            },
            ["5 slots", "acme 3", "blue 2", "capacity is 4"],
        ),
        ({**FOUR, "tenants": [{"tenantId": f"t{n}"} for n in range(1_001)]}, ["1,001", "1,000"]),
    ],
)
async def test_a_policy_that_contradicts_itself_is_refused_and_changes_nothing(
    shared: Rest, body: dict[str, Any], words: Sequence[str]
) -> None:
    refused = await put(shared, body)
    assert refused.status_code in (400, 422), refused.text
    text = str(refused.json()["error"])
    for word in words:
        assert word in text
    shown = await shared.client.get("/governance", headers=shared.headers("_system"))
    assert shown.json()["revision"] == 0


async def test_a_change_is_in_the_ledger_of_the_system_tenant_with_its_reason(rest: Rest) -> None:
    await put(rest, FOUR, **{"X-Stella-Operator-Ticket": "OPS-17"})
    blocks = await rest.engine.store.blocks("_system", 0, 10, 1 << 20)
    [line] = [line for block in blocks for line in bytes(block.body).splitlines()]
    entry = msgspec.json.decode(line)
    assert (entry["kind"], entry["actor"]) == ("governance.changed", "tester")
    assert "a test" in entry.values()
    assert "OPS-17" in entry.values()
    assert entry["data"]["control"] == FOUR


async def test_the_system_tenant_has_no_jobs(rest: Rest) -> None:
    headers = rest.headers("_system")
    refused = await rest.client.post("/jobs", json={"jobType": "scan"}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "TENANT_FORBIDDEN")


class Worker:
    """Takes every lease it is sent, and completes one when it is told to."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.leases: list[dict[str, Any]] = []

    async def begin(self) -> None:
        hello = {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 10}
        await say(self.socket, hello)
        await hear(self.socket, "welcome")
        jobs = [{"jobType": "scan", "queue": "q"}] * 10
        await say(self.socket, {"op": "submit", "jobs": jobs}, {"op": "credit", "slots": 10})

    async def until(self, running: int) -> None:
        with trio.fail_after(15):
            while len(self.leases) < running:
                frame = msgspec.json.decode(await self.socket.get_message())
                said = frame if isinstance(frame, list) else [frame]
                self.leases += [one for one in said if one["op"] == "lease"]

    async def complete(self) -> None:
        lease = self.leases.pop(0)
        named = {"leaseId": lease["leaseId"], "token": lease["token"]}
        await say(self.socket, {"op": "complete", "ref": "c", "result": None, **named})


@pytest.fixture
async def node() -> AsyncIterator[Opened]:
    async with opened() as node:
        yield node


async def test_real_workers_of_two_tenants_share_four_slots_and_the_strategy_changes_live(
    node: Opened,
) -> None:
    headers = {**node.headers("_system"), **REASON}

    async def govern(**body: Any) -> None:
        answer = await node.client.put("/governance", json=body, headers=headers)
        assert answer.status_code == 200, answer.text

    async def until_seen(**wanted: tuple[int, int]) -> None:
        """Allotted and running, by tenant."""
        with trio.fail_after(15):
            seen: dict[str, tuple[int, int]] = {}
            while any(seen.get(name, (0, 0)) != pair for name, pair in wanted.items()):
                answer = await node.client.get("/governance", headers=headers)
                tenants = answer.json()["tenants"]
                seen = {one["tenantId"]: (one["allotment"], one["running"]) for one in tenants}
                assert sum(running for _, running in seen.values()) <= 4

    await govern(**FOUR)
    async with AsyncExitStack() as stack:
        acme, cyan = [
            Worker(await stack.enter_async_context(node.worker(node.headers(name))))
            for name in ("acme", "cyan")
        ]
        await acme.begin()
        await acme.until(4)
        await cyan.begin()
        await until_seen(acme=(2, 4))
        await acme.complete()
        await acme.complete()
        await cyan.until(2)
        await until_seen(acme=(2, 2), cyan=(2, 2))
        cap = {"tenantId": "acme", "cap": 1, "priority": 0}
        await govern(strategy="max-limit", capacity=4, tenants=[cap])
        await until_seen(acme=(1, 2))
        await acme.complete()
        await cyan.until(3)
        await until_seen(acme=(1, 1), cyan=(3, 3))
        waiting = await node.client.get("/jobs?state=scheduled", headers=node.headers("acme"))
        job_id = waiting.json()["items"][0]["jobId"]
        why = await node.client.get(f"/jobs/{job_id}/explain", headers=node.headers("acme"))
        assert "governance lets 1 jobs" in why.text
        await govern(strategy="unlimited")
        await acme.until(7)
        await cyan.until(10)
