"""GET /activity: what happened to a tenant's jobs, by second, over real HTTP."""

from typing import Any

import msgspec
import pytest

from jobengine.actors.activity import Activity
from jobengine.wire.activity import ActivitySecond
from tests.http.conftest import Rest
from tests.http.opened import hear, opened, say

COLUMNS = {field.encode_name for field in msgspec.structs.fields(ActivitySecond)} - {"at"}


def totals(answer: dict[str, Any]) -> dict[str, int]:
    return {name: sum(second[name] for second in answer["seconds"]) for name in COLUMNS}


async def test_every_fate_of_a_job_is_counted_and_the_stream_goes_on_behind_it() -> None:
    async with opened() as node, node.worker() as socket:
        client = node.client
        await say(socket, {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 9})
        await hear(socket, "welcome")
        named = []
        for _ in range(2):
            await say(socket, {"op": "credit", "slots": 1})
            job = {"jobType": "scan", "queue": "q", "maxRetries": 0}
            assert (await client.post("/jobs", json=job)).status_code == 201
            lease = await hear(socket, "lease")
            named.append({"leaseId": lease["leaseId"], "token": lease["token"]})
        error = {"class": "permanent", "message": "m"}
        await say(socket, {"op": "complete", "ref": 1, "result": None, **named[0]})
        await hear(socket, "ack")
        await say(socket, {"op": "fail", "ref": 2, "error": error, **named[1]})
        await hear(socket, "ack")
        waits = await client.post("/jobs", json={"jobType": "scan", "queue": "elsewhere"})
        cancelled = await client.post(
            f"/jobs/{waits.json()['jobId']}:cancel",
            headers={"X-Stella-Operator-Reason": "r", "X-Stella-Operator-Ticket": "T-1"},
        )
        assert cancelled.status_code == 200
        answer = (await client.get("/activity?seconds=600")).json()
        assert totals(answer) == {
            "created": 3,
            "scheduled": 3,
            "started": 2,
            "completed": 1,
            "failed": 1,
            "retried": 0,
            "cancelled": 1,
            "deadLettered": 1,
        }
        heads = await node.engine.store.heads(["demo"])
        assert answer["newestSeq"] == heads["demo"].next_seq - 1
        assert answer["tenantId"] == "demo"
        assert answer["since"] <= answer["seconds"][0]["at"][:19] + ".999Z"
        assert all(one["at"].endswith(".000Z") for one in answer["seconds"])
        other = await client.get("/activity", headers=node.headers("mallory"))
        assert (other.json()["newestSeq"], other.json()["seconds"]) == (0, [])


async def test_a_node_that_has_counted_nothing_names_the_newest_entry_all_the_same(
    rest: Rest,
) -> None:
    await rest.submit()
    rest.front.gateway.ledger.activity = Activity(since_at=1)
    answer = (await rest.client.get("/activity")).json()
    assert (answer["newestSeq"] > 0, answer["seconds"]) == (True, [])


@pytest.mark.parametrize(
    "query", ["seconds=0", "seconds=601", "seconds=x", "seconds=-1", "second=5", "seconds="]
)
async def test_a_span_that_is_not_held_is_refused(rest: Rest, query: str) -> None:
    answer = await rest.client.get(f"/activity?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["path"] == query.partition("=")[0]
