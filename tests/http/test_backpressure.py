"""What producers, workers and operators meet at a busy engine, over the real doors."""

from typing import Any

import pytest
import structlog
import trio
from prometheus_client.parser import text_string_to_metric_families

from jobengine.actors.memory import memory_bytes_of_process
from jobengine.settings import Settings
from tests.http.opened import Opened, hear, opened, say

SIGNED = {"X-Stella-Operator-Reason": "a test", "X-Stella-Operator-Ticket": "T-1"}
SHEDDING = Settings(shards=2, memory_bytes_max=1)
JOB = {"jobType": "scan", "queue": "scan"}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with structlog.testing.capture_logs():
        yield


async def reach(node: Opened, level: str) -> None:
    with trio.fail_after(30):
        while node.engine.gateway.load.level != level:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def metrics(node: Opened) -> dict[tuple[str, str], float]:
    """Samples with at most one label, by name and its value."""
    text = (await node.client.get(node.doors.http_url + "/metrics")).text
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) < 2
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {"json": JOB}),
        ("/jobs:bulk", {"json": [JOB]}),
        ("/artifacts", {"content": b"bytes"}),
    ],
)
async def test_a_shedding_engine_refuses_new_work_and_says_when_to_come_again(
    path: str, body: dict[str, Any]
) -> None:
    async with opened(SHEDDING) as node:
        await reach(node, "shedding")
        answer = await node.client.post(path, **body)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "OVERLOADED"
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["X-JobEngine-Load"] == "shedding"
        stranger = await node.client.post(path, headers={"Authorization": "Bearer no"}, **body)
        assert stranger.status_code == 401
        assert "X-JobEngine-Load" not in stranger.headers


async def test_a_shedding_engine_takes_reports_heartbeats_reads_cancels_and_operators() -> None:
    resident = memory_bytes_of_process()
    async with opened(Settings(shards=2, memory_bytes_max=resident * 2)) as node:
        node.client.headers.update(SIGNED)
        made = [(await node.client.post("/jobs", json=JOB)).json()["jobId"] for _ in range(3)]
        held = await node.client.post("/jobs", json={**JOB, "hold": True})
        async with node.worker() as worker:
            await say(worker, {"op": "hello", "workerId": "w", "queues": ["scan"], "capacity": 2})
            await say(worker, {"op": "credit", "slots": 1})
            lease = await hear(worker, "lease")
            named = {"leaseId": lease["leaseId"], "token": lease["token"]}
            ballast = b"x" * resident
            with trio.fail_after(30):
                while node.engine.gateway.load.level != "shedding":
                    await say(worker, {"op": "heartbeat", "ref": 1})
                    assert (await hear(worker, "ack"))["ref"] == 1
                    await trio.sleep(0.05)
            await say(worker, {"op": "submit", "ref": "s", "jobs": [JOB]})
            assert (await hear(worker, "nack"))["code"] == "OVERLOADED"
            await say(worker, {"op": "complete", "ref": "c", **named})
            assert (await hear(worker, "ack"))["ref"] == "c"
            left = [one for one in made if one != lease["jobId"]]
            for path in (f"/jobs/{left[0]}:cancel", f"/jobs/{held.json()['jobId']}:release"):
                assert (await node.client.post(path)).status_code == 200, path
            done = (await node.client.get(f"/jobs/{lease['jobId']}")).json()
            assert done["state"] == "completed"
            assert (await node.client.post("/jobs", json=JOB)).status_code == 503
            samples = await metrics(node)
            ready = await node.client.get(node.doors.http_url + "/readyz")
            del ballast
    assert samples["jobengine_load_level", ""] == 2
    assert samples["jobengine_load_cause", "memory"] == 2
    assert samples["jobengine_load_cause", "mailbox"] == 0
    assert samples["jobengine_sheds_total", "load"] == 2
    assert samples["jobengine_load_level_changes_total", ""] >= 1
    [load] = [check for check in ready.json()["checks"] if check["name"] == "load"]
    assert (ready.status_code, load["ready"]) == (200, True)
    assert load["detail"].startswith("shedding: memory ")


async def test_headers_tell_the_backlog_and_an_elevated_load() -> None:
    busy = Settings(shards=2, memory_bytes_max=round(memory_bytes_of_process() / 0.80))
    async with opened(busy) as node:
        await reach(node, "elevated")
        one = await node.client.post("/jobs", json=JOB)
        assert (one.status_code, one.headers["X-JobEngine-Load"]) == (201, "elevated")
        assert one.headers["X-JobEngine-Backlog"] == "1"
        read = await node.client.get("/jobs")
        assert "X-JobEngine-Load" not in read.headers


async def test_more_lanes_than_a_tenant_may_have_are_429_and_say_how_many_there_are() -> None:
    async with opened(Settings(shards=2, tenant_lanes_max=2)) as node:
        queues = [{**JOB, "queue": name} for name in "abc"]
        assert (await node.client.post("/jobs:bulk", json=queues[:2])).status_code == 200
        for path, body in (("/jobs", queues[2]), ("/jobs:bulk", queues)):
            full = await node.client.post(path, json=body)
            assert (full.status_code, full.headers["Retry-After"]) == (429, "5")
            error = full.json()["error"]
            assert error["code"] == "CAPACITY_EXCEEDED"
            assert (error["details"][0]["lanes"], error["details"][0]["lanesMax"]) == (2, 2)
        assert (await node.client.post("/jobs", json=queues[0])).status_code == 201


async def test_a_backlog_at_its_cap_is_429_and_says_what_waits_and_how_many_may() -> None:
    async with opened(Settings(shards=2, tenant_backlog_jobs_max=3)) as node:
        bulk = await node.client.post("/jobs:bulk", json=[JOB, JOB])
        assert (bulk.status_code, bulk.headers["X-JobEngine-Backlog"]) == (200, "2")
        for path, body in (("/jobs:bulk", [JOB, JOB]), ("/jobs:bulk", [JOB] * 10)):
            full = await node.client.post(path, json=body)
            assert full.status_code == 429
            assert full.headers["Retry-After"] == "5"
            assert full.headers["X-JobEngine-Backlog"] == "2"
            error = full.json()["error"]
            assert error["code"] == "BACKLOG_FULL"
            assert (error["details"][0]["backlog"], error["details"][0]["backlogMax"]) == (2, 3)
            assert "none of these" in error["message"]
        assert (await node.client.post("/jobs", json=JOB)).headers["X-JobEngine-Backlog"] == "3"
        assert (await node.client.post("/jobs", json=JOB)).status_code == 429
        other = node.headers(tenant="other")
        assert (await node.client.post("/jobs", json=JOB, headers=other)).status_code == 201
        async with node.worker() as worker:
            await say(worker, {"op": "hello", "workerId": "w", "queues": ["scan"], "capacity": 2})
            await say(worker, {"op": "submit", "ref": "s", "jobs": [JOB]})
            assert (await hear(worker, "nack"))["code"] == "BACKLOG_FULL"
            await say(worker, {"op": "credit", "slots": 2})
            await hear(worker, "lease")
            await say(worker, {"op": "submit", "ref": "t", "jobs": [{**JOB, "hold": True}]})
            assert (await hear(worker, "ack"))["backlog"] == 2
        samples = await metrics(node)
    assert samples["jobengine_sheds_total", "backlog"] == 4
    waiting = [count for (name, _), count in samples.items() if name == "jobengine_backlog_jobs"]
    assert sum(waiting) == 3


async def test_a_repeat_is_answered_at_a_full_backlog() -> None:
    async with opened(Settings(shards=2, tenant_backlog_jobs_max=1)) as node:
        key = {"Idempotency-Key": "k"}
        first = await node.client.post("/jobs", json=JOB, headers=key)
        again = await node.client.post("/jobs", json=JOB, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-JobEngine-Backlog"] == "1"
    assert again.content == first.content
