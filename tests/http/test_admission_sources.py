"""Sources over the real door: their life, their revisions, how they stop and slow their jobs."""

from typing import Any

import httpx
import pytest
import trio

from tests.http.conftest import SIGNED, Rest
from tests.http.worker import working

OSV: dict[str, Any] = {
    "sourceId": "osv",
    "sourceType": "advisories",
    "host": "api.osv.example",
    "ratePolicy": {"rpm": 60_000, "burst": 100},
}


async def asked(
    rest: Rest, method: str, path: str, body: Any = None, **headers: str
) -> httpx.Response:
    content = {} if body is None else {"json": body}
    return await rest.client.request(method, path, headers={**SIGNED, **headers}, **content)


async def created(rest: Rest, **changes: Any) -> dict[str, Any]:
    answer = await asked(rest, "POST", "/sources", {**OSV, **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def error(answer: httpx.Response) -> tuple[int, str, Any]:
    said = answer.json()["error"]
    return answer.status_code, said["code"], said.get("details", [{}])[0].get("path")


async def events(rest: Rest) -> list[str]:
    heads = await rest.engine.store.heads(["demo"])
    entries = await rest.engine.store.entries("demo", range(1, 100)) if heads else []
    return [entry.kind for entry in entries if not entry.job]


async def test_a_source_is_created_read_changed_and_taken_away(rest: Rest) -> None:
    answer = await asked(
        rest,
        "POST",
        "/sources",
        {
            **OSV,
            "connectorId": "http.v2",
            "capabilities": ["query", "batch"],
            "authRef": "env:OSV_TOKEN",
            "lockKey": "osv",
            "maxActive": 5,
            "weight": 3,
        },
    )
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/api/v1/jobengine/sources/osv"
    assert answer.headers["ETag"] == '"1"'
    made = answer.json()
    assert made["ratePolicy"] == {"rpm": 60_000, "burst": 100, "cooldownSeconds": 0}
    assert (made["authRef"], made["capabilities"]) == ("env:OSV_TOKEN", ["query", "batch"])
    assert (made["lockKey"], made["maxActive"], made["weight"]) == ("osv", 5, 3)

    shown = (await rest.client.get("/sources/osv")).json()
    live = {"paused": False, "breaker": "closed", "running": 0}
    assert shown == {**made, **live}
    assert (await rest.client.get("/sources")).json()["items"] == [shown]

    changed = await asked(rest, "PATCH", "/sources/osv", {"weight": 1, "lockKey": None})
    assert changed.status_code == 200
    assert (changed.json()["revision"], changed.headers["ETag"]) == (2, '"2"')
    assert "lockKey" not in changed.json()
    assert changed.json()["maxActive"] == 5

    gone = await asked(rest, "DELETE", "/sources/osv")
    assert (gone.status_code, gone.json()["name"]) == (200, "osv")
    assert error(await rest.client.get("/sources/osv")) == (404, "NOT_FOUND", "sourceId")
    assert await events(rest) == ["source.created", "source.updated", "source.deleted"]


async def test_every_change_stands_in_the_ledger_with_who_why_and_what(rest: Rest) -> None:
    await created(rest)
    (entry,) = await rest.engine.store.entries("demo", [1])
    assert (entry.kind, entry.actor) == ("source.created", "tester")
    assert (entry.reason_given, entry.ticket) == ("a test", "T-1")
    assert b'"host":"api.osv.example"' in bytes(entry.data)


async def test_a_source_that_is_there_is_not_created_again(rest: Rest) -> None:
    await created(rest)
    answer = await asked(rest, "POST", "/sources", OSV)
    assert error(answer)[:2] == (409, "ALREADY_EXISTS")


async def test_a_repeated_creation_gets_the_first_answer(rest: Rest) -> None:
    key = {"Idempotency-Key": "once"}
    first = await asked(rest, "POST", "/sources", OSV, **key)
    await asked(rest, "PATCH", "/sources/osv", {"weight": 7})
    again = await asked(rest, "POST", "/sources", OSV, **key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.content == first.content
    other = await asked(rest, "POST", "/sources", {**OSV, "weight": 2}, **key)
    assert error(other)[:2] == (422, "IDEMPOTENCY_MISMATCH")


async def test_a_repeated_pause_is_answered_after_the_source_has_gone(rest: Rest) -> None:
    await created(rest)
    key = {"Idempotency-Key": "pause-1"}
    first = await asked(rest, "POST", "/sources/osv:pause", **key)
    await asked(rest, "DELETE", "/sources/osv")
    again = await asked(rest, "POST", "/sources/osv:pause", **key)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await asked(rest, "POST", "/sources/osv:pause")).status_code == 404


async def test_a_change_of_another_revision_is_refused(rest: Rest) -> None:
    await created(rest)
    await asked(rest, "PATCH", "/sources/osv", {"weight": 2}, **{"If-Match": '"1"'})
    for method, body in (("PATCH", {"weight": 3}), ("DELETE", None)):
        answer = await asked(rest, method, "/sources/osv", body, **{"If-Match": '"1"'})
        assert error(answer) == (412, "REVISION_MISMATCH", "If-Match")
        assert "revision 2" in answer.json()["error"]["message"]
    fits = await asked(rest, "PATCH", "/sources/osv", {"weight": 4}, **{"If-Match": '"1", "2"'})
    assert fits.json()["revision"] == 3
    any_ = await asked(rest, "DELETE", "/sources/osv", **{"If-Match": "*"})
    assert any_.status_code == 200


async def test_changes_at_the_same_time_all_take_effect(rest: Rest) -> None:
    await created(rest)
    patches = ({"weight": 9}, {"lockKey": "one"}, {"maxActive": 4}, {"connectorId": "c"})
    async with trio.open_nursery() as nursery:
        for patch in patches:
            nursery.start_soon(asked, rest, "PATCH", "/sources/osv", patch)
    found = (await rest.client.get("/sources/osv")).json()
    assert found["revision"] == 5
    for patch in patches:
        assert patch.items() <= found.items()


async def test_a_merge_patch_reaches_into_the_rate_policy(rest: Rest) -> None:
    await created(rest, ratePolicy={"rpm": 90, "burst": 5, "cooldownSeconds": 30})

    async def patched(policy: Any) -> Any:
        answer = await asked(
            rest,
            "PATCH",
            "/sources/osv",
            {"ratePolicy": policy},
            **{"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json().get("ratePolicy")

    assert await patched({"burst": 9}) == {"rpm": 90, "burst": 9, "cooldownSeconds": 30}
    assert await patched({"perSecond": 2}) == {"rpm": 120, "burst": 9, "cooldownSeconds": 30}
    assert await patched({"cooldownSeconds": None}) == {
        "rpm": 120,
        "burst": 9,
        "cooldownSeconds": 0,
    }
    assert await patched(None) is None
    assert await patched({"rpm": 600}) == {"rpm": 600, "burst": 10, "cooldownSeconds": 0}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "zero rate": ({"ratePolicy": {"rpm": 0}}, "ratePolicy.rpm"),
    "negative rate": ({"ratePolicy": {"rpm": -1}}, "ratePolicy.rpm"),
    "enormous rate": ({"ratePolicy": {"perSecond": 1e300}}, "ratePolicy.perSecond"),
    "rate of a text": ({"ratePolicy": {"rpm": "NaN"}}, "ratePolicy.rpm"),
    "two rates": ({"ratePolicy": {"rpm": 1, "perSecond": 1}}, "ratePolicy.rpm"),
    "no rate": ({"ratePolicy": {"burst": 1}}, "ratePolicy.rpm"),
    "zero burst": ({"ratePolicy": {"rpm": 1, "burst": 0}}, "ratePolicy.burst"),
    "enormous burst": ({"ratePolicy": {"rpm": 1, "burst": 2_000_000_000}}, "ratePolicy.burst"),
    "long cooldown": ({"ratePolicy": {"rpm": 1, "cooldownSeconds": 90_000}}, "ratePolicy."),
    "a URL for a host": ({"host": "https://osv.example"}, "host"),
    "a host with a space": ({"host": "osv example"}, "host"),
    "a host with a dash first": ({"host": "-osv.example"}, "host"),
    "a host with a port that is none": ({"host": "osv.example:99999"}, "host"),
    "an empty host": ({"host": ""}, "host"),
    "a secret for its name": ({"authRef": "ghp_0123456789abcdefghijABCDEFGHIJ012345"}, "authRef"),
    "a secret as a name": ({"authRef": "env:ghp_0123456789abcdefghijABCDEFGHIJ012345"}, "authRef"),
    "a reference to nowhere": ({"authRef": "basic:user"}, "authRef"),
    "an id with a slash": ({"sourceId": "a/b"}, "sourceId"),
    "an id with a colon": ({"sourceId": "a:b"}, "sourceId"),
    "no weight": ({"weight": 0}, "weight"),
    "too much weight": ({"weight": 1_001}, "weight"),
    "nothing may run": ({"maxActive": 0}, "maxActive"),
    "a field of another time": ({"schedule": "0 0 * * *"}, "schedule"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_source_that_makes_no_sense_is_refused_by_its_field(
    shared: Rest, case: str
) -> None:
    changes, path = BAD[case]
    answer = await asked(shared, "POST", "/sources", {**OSV, **changes})
    status, code, found = error(answer)
    assert (status, code) == (400, "INVALID_FIELD"), answer.text
    assert found.startswith(path)
    assert await events(shared) == []
    for value in changes.values():
        if case.startswith("a secret"):
            assert value not in answer.text


async def test_numbers_that_json_does_not_know_are_no_rate(rest: Rest) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        text = f'{{"sourceId":"a","sourceType":"b","host":"c","ratePolicy":{{"rpm":{number}}}}}'
        answer = await rest.client.post(
            "/sources", content=text, headers={**SIGNED, "Content-Type": "application/json"}
        )
        assert answer.status_code == 400, number
        assert answer.json()["error"]["code"] in ("BAD_JSON", "INVALID_FIELD")


async def test_a_patch_that_makes_no_sense_changes_nothing(rest: Rest) -> None:
    await created(rest)
    for patch, path in (
        ({"host": None}, "host"),
        ({"host": "not a host"}, "host"),
        ({"ratePolicy": {"rpm": None, "perSecond": None}}, "ratePolicy.rpm"),
        ({"sourceId": "other"}, "sourceId"),
    ):
        assert error(await asked(rest, "PATCH", "/sources/osv", patch)) == (
            400,
            "INVALID_FIELD",
            path,
        )
    assert (await rest.client.get("/sources/osv")).json()["revision"] == 1


async def test_sources_are_listed_by_id_a_page_at_a_time(rest: Rest) -> None:
    for name in ("b", "a", "c"):
        await created(rest, sourceId=name)
    first = (await rest.client.get("/sources?pageSize=2")).json()
    assert [one["sourceId"] for one in first["items"]] == ["a", "b"]
    query = f"/sources?pageSize=2&pageToken={first['nextPageToken']}"
    rest_of = (await rest.client.get(query)).json()
    assert [one["sourceId"] for one in rest_of["items"]] == ["c"]
    assert rest_of["nextPageToken"] is None


async def test_a_source_in_use_is_taken_away_by_force_only(rest: Rest) -> None:
    await created(rest)
    await rest.submit(sourceId="osv")
    answer = await asked(rest, "DELETE", "/sources/osv")
    assert error(answer)[:2] == (409, "IN_USE")
    assert "scan" in answer.json()["error"]["message"]
    assert (await asked(rest, "DELETE", "/sources/osv?force=true")).status_code == 200


async def test_a_paused_source_starts_nothing_until_it_is_resumed(rest: Rest) -> None:
    await created(rest)
    answer = await asked(rest, "POST", "/sources/osv:pause")
    assert answer.status_code == 200
    paused = answer.json()
    assert (paused["scope"], paused["key"], paused["paused"]) == ("source", "osv", True)
    assert (await rest.client.get("/sources/osv")).json()["paused"] is True
    job = await rest.submit(sourceId="osv")
    async with working(rest.engine) as worker:
        gates = (await rest.client.get(f"/jobs/{job['jobId']}/explain")).json()["gates"]
        assert ("paused", "source:osv") in [(gate["gate"], gate["key"]) for gate in gates]
        resumed = (await asked(rest, "POST", "/sources/osv:resume")).json()
        assert resumed["paused"] is False
        assert (await worker.take()).job.job_id == job["jobId"]
    assert (await rest.client.get("/sources/osv")).json()["running"] == 1
    # Once more: it runs already, so nothing happens.
    again = await asked(rest, "POST", "/sources/osv:resume")
    assert (again.status_code, again.json()["paused"]) == (200, False)
    assert await events(rest) == ["source.created", "source.paused", "source.resumed"]


async def test_a_repeated_resume_gets_the_first_answer_and_resumes_nothing_anew(
    rest: Rest,
) -> None:
    await created(rest)
    await asked(rest, "POST", "/sources/osv:pause")
    key = {"Idempotency-Key": "go-on"}
    first = await asked(rest, "POST", "/sources/osv:resume", **key)
    await asked(rest, "POST", "/sources/osv:pause")
    again = await asked(rest, "POST", "/sources/osv:resume", **key)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await rest.client.get("/sources/osv")).json()["paused"] is True


async def test_a_throttle_of_a_source_is_set_and_lifted(rest: Rest) -> None:
    await created(rest)
    answer = await asked(rest, "POST", "/sources/osv:throttle", {"rpm": 1, "burst": 1})
    assert answer.json()["rate"] == {"rpm": 1, "burst": 1, "cooldownSeconds": 0}
    shown = [
        (await rest.client.get("/sources/osv")).json(),
        *(await rest.client.get("/sources")).json()["items"],
        await until(rest, bool),
    ]
    assert [each["throttle"]["rpm"] for each in shown] == [1, 1, 1]
    assert (shown[-1]["rpm"], shown[-1]["configured"]["rpm"]) == (1, 60_000)
    async with working(rest.engine) as worker:
        await rest.submit(sourceId="osv")
        await worker.take()
        second = await rest.submit(sourceId="osv")
        explained = (await rest.client.get(f"/jobs/{second['jobId']}/explain")).json()
        (rate,) = [gate for gate in explained["gates"] if gate["gate"] == "rate"]
        assert rate["key"] == "throttle:source:osv"
        assert rate["opensAt"]
        lifted = await asked(rest, "POST", "/sources/osv:throttle", {"rate": None})
        assert "rate" not in lifted.json()
        assert (await worker.take()).job.job_id == second["jobId"]
    assert "throttle" not in (await rest.client.get("/sources/osv")).json()
    assert (await until(rest, bool))["rpm"] == 60_000
    both = await asked(rest, "POST", "/sources/osv:throttle", {"rate": None, "rpm": 1})
    assert error(both) == (400, "INVALID_FIELD", "rate")
    none = await asked(rest, "POST", "/sources/osv:throttle", {})
    assert error(none) == (400, "INVALID_FIELD", "rpm")
    assert await events(rest) == ["source.created", "source.throttled", "source.unthrottled"]


async def test_a_source_without_a_rate_policy_lets_nothing_start_and_says_so(rest: Rest) -> None:
    await created(rest, ratePolicy=None)
    job = await rest.submit(sourceId="osv")
    (rate,) = [
        gate
        for gate in (await rest.client.get(f"/jobs/{job['jobId']}/explain")).json()["gates"]
        if gate["gate"] == "rate"
    ]
    assert "ratePolicy" in rate["message"]
    bucket = (await rest.client.get("/sources/osv/bucket")).json()
    assert (bucket["key"], bucket["tokens"], bucket["rpm"]) == ("source:osv", 0, 0)
    assert "configured" not in bucket
    answer = await asked(rest, "PUT", "/sources/osv/bucket", {"learnedPerMinute": 1})
    assert error(answer) == (400, "INVALID_FIELD", "ratePolicy")


async def test_a_job_that_costs_more_than_a_burst_is_refused_for_it_could_never_start(
    rest: Rest,
) -> None:
    await created(rest, ratePolicy={"rpm": 60, "burst": 3})
    job = {"jobType": "scan", "sourceId": "osv", "cost": 4}
    answer = await rest.client.post("/jobs", json=job)
    assert error(answer) == (400, "INVALID_FIELD", "cost")
    assert "burst 3" in answer.json()["error"]["message"]
    assert (await rest.client.post("/jobs", json={**job, "cost": 3})).status_code == 201


async def test_a_bucket_shows_its_tokens_and_takes_a_rate_from_an_operator(rest: Rest) -> None:
    await created(rest, ratePolicy={"rpm": 60, "burst": 10})
    bucket = (await rest.client.get("/sources/osv/bucket")).json()
    assert bucket["key"] == "host:api.osv.example"
    assert bucket["configured"] == {"rpm": 60, "burst": 10, "cooldownSeconds": 0}
    assert (bucket["tokens"], bucket["rpm"]) == (10, 60)
    assert "learnedRpm" not in bucket
    assert bucket["retryBudget"]["tokens"] == bucket["retryBudget"]["burst"]
    body = {"learnedPerMinute": 30, "pinned": True}
    answer = await asked(rest, "PUT", "/sources/osv/bucket", body)
    assert answer.json() == {"sourceId": "osv", "key": "host:api.osv.example", **body}
    found = await until(rest, lambda bucket: "learnedRpm" in bucket)
    assert (found["learnedRpm"], found["rpm"], found["pinned"]) == (30, 30, True)
    await asked(rest, "PUT", "/sources/osv/bucket", {"learnedPerMinute": None})
    assert (await until(rest, lambda bucket: "learnedRpm" not in bucket))["rpm"] == 60
    for asking, path in (
        ({"learnedPerMinute": 61}, "learnedPerMinute"),
        ({"learnedPerMinute": 0}, "learnedPerMinute"),
        ({"learnedPerMinute": None, "pinned": True}, "pinned"),
        ({}, "learnedPerMinute"),
    ):
        answer = await asked(rest, "PUT", "/sources/osv/bucket", asking)
        assert error(answer) == (400, "INVALID_FIELD", path)


async def until(rest: Rest, holds: Any) -> Any:
    """The bucket, once it is as wanted: what an operator says passes through its actor."""
    with trio.fail_after(15):
        while True:
            found = (await rest.client.get("/sources/osv/bucket")).json()
            if holds(found):
                return found


async def test_sources_need_a_reason_and_a_ticket(rest: Rest) -> None:
    answer = await rest.client.post("/sources", json=OSV)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "AUDIT_REASON_REQUIRED")
