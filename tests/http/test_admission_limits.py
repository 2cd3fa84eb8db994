"""Quotas, rates, weights, breakers, blackouts and pauses over the real door, felt by real jobs."""

from typing import Any

import pytest
import trio

from jobengine.domain.instant import HOUR, to_rfc3339
from tests.http.conftest import Rest
from tests.http.test_admission_sources import asked, created, error, events
from tests.http.worker import working


async def gates_of(rest: Rest, job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The closed gates of a job, by kind."""
    answer = await rest.client.get(f"/jobs/{job['jobId']}/explain")
    assert answer.status_code == 200, answer.text
    return {gate["gate"]: gate for gate in answer.json()["gates"]}


async def uses(rest: Rest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await rest.client.get("/quotas/summary")).json()["items"]
    return found


# ---- quotas


async def test_a_quota_bounds_what_runs_and_opens_with_an_end(rest: Rest) -> None:
    body = {"quotaId": "scans", "scope": "job_type", "key": "scan", "maxActive": 1}
    answer = await asked(rest, "POST", "/quotas", body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith("/quotas/scans")
    async with working(rest.engine) as worker:
        await rest.submit()
        grant = await worker.take()
        second = await rest.submit()
        gate = (await gates_of(rest, second))["quota_active"]
        assert (gate["key"], gate["observed"], gate["limit"]) == ("quota:scans", "1", "1")
        (use,) = await uses(rest)
        assert (use["running"], use["maxActive"], use["paused"]) == (1, 1, False)
        await worker.complete(grant)
        assert (await worker.take()).job.job_id == second["jobId"]


async def test_a_quota_counts_the_starts_of_an_hour(rest: Rest) -> None:
    await asked(rest, "POST", "/quotas", {"quotaId": "h", "scope": "tenant", "maxPerHour": 1})
    async with working(rest.engine) as worker:
        await rest.submit()
        await worker.take()
        second = await rest.submit()
        gate = (await gates_of(rest, second))["quota_hour"]
        assert gate["key"] == "quota:h"
        assert gate["opensAt"]
        (use,) = await uses(rest)
        assert (use["startsThisHour"], use["maxPerHour"]) == (1, 1)
        patched = await asked(rest, "PATCH", "/quotas/h", {"maxPerHour": 5})
        assert patched.json()["revision"] == 2
        assert (await worker.take()).job.job_id == second["jobId"]


async def test_a_quota_below_what_runs_drains_and_kills_nothing(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        for _ in range(2):
            await rest.submit()
            await worker.take()
        body = {"quotaId": "q", "scope": "tenant", "maxActive": 1}
        assert (await asked(rest, "POST", "/quotas", body)).status_code == 201
        third = await rest.submit()
        gate = (await gates_of(rest, third))["quota_active"]
        assert (gate["observed"], gate["limit"]) == ("2", "1")
    jobs = (await rest.client.get("/jobs?state=running")).json()["items"]
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("scope", "key"), [("tenant", None), ("job_type", "scan"), ("project", "alpha")]
)
async def test_a_paused_quota_lets_nothing_start_until_it_is_resumed(
    rest: Rest, scope: str, key: str | None
) -> None:
    body = {"quotaId": "q", "scope": scope, "key": key, "maxActive": 9}
    await asked(rest, "POST", "/quotas", body)
    paused = await asked(rest, "POST", "/quotas/q/pause")
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    job = await rest.submit(projectId="alpha")
    assert (await gates_of(rest, job))["paused"]["key"] == "quota:q"
    async with working(rest.engine) as worker:
        resumed = await asked(rest, "POST", "/quotas/q/resume")
        assert (resumed.json()["paused"], resumed.json()["revision"]) == (False, 3)
        assert (await worker.take()).job.job_id == job["jobId"]
    assert await events(rest) == ["quota.created", "quota.paused", "quota.resumed"]


async def test_quotas_are_listed_changed_and_taken_away(rest: Rest) -> None:
    made = await asked(rest, "POST", "/quotas", {"scope": "tenant", "maxActive": 2})
    quota_id = made.json()["quotaId"]
    assert (await rest.client.get(f"/quotas/{quota_id}")).json() == made.json()
    assert (await rest.client.get("/quotas")).json()["items"] == [made.json()]
    stale = await asked(rest, "DELETE", f"/quotas/{quota_id}", **{"If-Match": '"9"'})
    assert stale.status_code == 412
    await rest.submit()
    await rest.submit()
    gone = await asked(rest, "DELETE", f"/quotas/{quota_id}")
    assert (gone.status_code, gone.json()["name"]) == (200, quota_id)
    assert (await rest.client.get("/quotas")).json()["items"] == []


async def test_a_quota_that_jobs_wait_at_is_taken_away_by_force_only(rest: Rest) -> None:
    await asked(rest, "POST", "/quotas", {"quotaId": "q", "scope": "tenant", "maxActive": 1})
    async with working(rest.engine) as worker:
        await rest.submit()
        await worker.take()
        second = await rest.submit()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.take)
            with trio.fail_after(15):
                while not (await uses(rest))[0]["waiting"]:
                    pass
            answer = await asked(rest, "DELETE", "/quotas/q")
            assert error(answer)[:2] == (409, "IN_USE")
            await asked(rest, "DELETE", "/quotas/q?force=true")
        assert (await rest.client.get(f"/jobs/{second['jobId']}")).json()["state"] == "running"


BAD_QUOTAS: dict[str, tuple[dict[str, Any], str]] = {
    "limits nothing": ({}, "maxActive"),
    "zero": ({"maxActive": 0}, "maxActive"),
    "negative": ({"maxPerHour": -1}, "maxPerHour"),
    "enormous": ({"maxActive": 10**12}, "maxActive"),
    "a fraction": ({"maxActive": 1.5}, "maxActive"),
    "burst alone": ({"maxActive": 1, "burst": 1}, "burst"),
    "a key for the whole tenant": ({"maxActive": 1, "key": "x"}, "key"),
    "a job type without its name": ({"maxActive": 1, "scope": "job_type"}, "key"),
    "a scope of something else": ({"maxActive": 1, "scope": "queue", "key": "x"}, "scope"),
    "the name of a path": ({"maxActive": 1, "quotaId": "summary"}, "quotaId"),
    "unknown": ({"maxActive": 1, "strategy": "reserved"}, "strategy"),
}


@pytest.mark.parametrize("case", BAD_QUOTAS)
async def test_a_quota_that_makes_no_sense_is_refused_by_its_field(shared: Rest, case: str) -> None:
    changes, path = BAD_QUOTAS[case]
    answer = await asked(shared, "POST", "/quotas", {"scope": "tenant", **changes})
    assert error(answer) == (400, "INVALID_FIELD", path)


async def test_a_patch_that_leaves_a_quota_without_a_limit_is_refused(rest: Rest) -> None:
    await asked(rest, "POST", "/quotas", {"quotaId": "q", "scope": "tenant", "maxActive": 1})
    answer = await asked(rest, "PATCH", "/quotas/q", {"maxActive": None})
    assert error(answer) == (400, "INVALID_FIELD", "maxActive")


async def test_a_quota_that_only_pauses_is_resumed_and_then_bounds_nothing(rest: Rest) -> None:
    body = {"quotaId": "stop", "scope": "project", "key": "alpha", "paused": True}
    assert (await asked(rest, "POST", "/quotas", body)).status_code == 201
    job = await rest.submit(projectId="alpha")
    assert (await gates_of(rest, job))["paused"]["key"] == "quota:stop"
    async with working(rest.engine) as worker:
        resumed = await asked(rest, "POST", "/quotas/stop/resume")
        assert (resumed.status_code, resumed.json()["paused"]) == (200, False)
        assert {"maxActive", "maxPerHour"}.isdisjoint(resumed.json())
        assert (await worker.take()).job.job_id == job["jobId"]
        (use,) = await uses(rest)
        assert (use["paused"], use["running"], use["waiting"]) == (False, 1, 0)
        again = await asked(rest, "POST", "/quotas/stop/pause")
        assert (again.status_code, again.json()["paused"]) == (200, True)
        held = await rest.submit(projectId="alpha")
        assert (await gates_of(rest, held))["paused"]["key"] == "quota:stop"
    assert await events(rest) == ["quota.created", "quota.resumed", "quota.paused"]


async def test_a_pause_outlasts_the_limits_it_was_set_beside(rest: Rest) -> None:
    await asked(rest, "POST", "/quotas", {"quotaId": "q", "scope": "tenant", "maxActive": 1})
    await asked(rest, "POST", "/quotas/q/pause")
    bare = await asked(rest, "PATCH", "/quotas/q", {"maxActive": None})
    assert (bare.status_code, bare.json()["paused"]) == (200, True)
    assert (await asked(rest, "POST", "/quotas/q/resume")).json()["paused"] is False
    useless = await asked(rest, "PATCH", "/quotas/q", {"burst": None})
    assert error(useless) == (400, "INVALID_FIELD", "maxActive")
    limited = await asked(rest, "PATCH", "/quotas/q", {"maxPerHour": 7})
    assert (limited.json()["maxPerHour"], limited.json()["paused"]) == (7, False)


async def test_quotas_need_a_reason_and_no_ticket(rest: Rest) -> None:
    body = {"scope": "tenant", "maxActive": 1}
    refused = await rest.client.post("/quotas", json=body)
    assert error(refused) == (400, "AUDIT_REASON_REQUIRED", "X-Stella-Operator-Reason")
    reason = {"X-Stella-Operator-Reason": "too much"}
    assert (await rest.client.post("/quotas", json=body, headers=reason)).status_code == 201


# ---- rates and weights


async def test_a_rate_of_the_tenant_is_put_replaced_and_taken_away(rest: Rest) -> None:
    put = await asked(rest, "PUT", "/throttles", {"scope": "tenant", "rate": {"rpm": 1}})
    assert put.json()["rate"] == {"rpm": 1, "burst": 1, "cooldownSeconds": 0}
    async with working(rest.engine) as worker:
        await rest.submit()
        await worker.take()
        second = await rest.submit()
        assert (await gates_of(rest, second))["rate"]["key"] == "throttle:tenant"
        rate = {"perSecond": 1000, "burst": 100}
        again = await asked(rest, "PUT", "/throttles", {"scope": "tenant", "rate": rate})
        assert again.json()["revision"] == 2
        assert (await rest.client.get("/throttles")).json()["items"] == [again.json()]
        assert (await worker.take()).job.job_id == second["jobId"]
    gone = await asked(rest, "PUT", "/throttles", {"scope": "tenant", "rate": None})
    assert "rate" not in gone.json()
    twice = await asked(rest, "PUT", "/throttles", {"scope": "tenant", "rate": None})
    assert (twice.status_code, twice.json()) == (200, {"scope": "tenant"})
    assert await events(rest) == ["throttle.set", "throttle.set", "throttle.removed"]


async def test_a_rate_that_makes_no_sense_is_refused_by_its_field(rest: Rest) -> None:
    for body, path in (
        ({"scope": "tenant", "rate": {"rpm": 0}}, "rate.rpm"),
        ({"scope": "tenant", "rate": {}}, "rate.rpm"),
        ({"scope": "tenant", "rate": {"perSecond": 2_000_000}}, "rate.perSecond"),
        ({"scope": "job_type", "rate": {"rpm": 1}}, "key"),
        ({"scope": "tenant", "key": "x", "rate": {"rpm": 1}}, "key"),
        ({"scope": "project", "key": "x", "rate": {"rpm": 1}}, "scope"),
        ({"scope": "tenant"}, "rate"),
    ):
        answer = await asked(rest, "PUT", "/throttles", body)
        assert error(answer) == (400, "INVALID_FIELD", path), body


async def test_weights_are_put_listed_and_taken_away(rest: Rest) -> None:
    put = await asked(rest, "PUT", "/weights", {"jobType": "scan", "weight": 5})
    assert (put.json()["jobType"], put.json()["weight"]) == ("scan", 5)
    assert (await rest.client.get("/weights")).json()["items"] == [put.json()]
    gone = await asked(rest, "PUT", "/weights", {"jobType": "scan", "weight": None})
    assert gone.json()["weight"] == 1
    assert (await rest.client.get("/weights")).json()["items"] == []
    for weight in (0, -1, 1_001, 1.5):
        answer = await asked(rest, "PUT", "/weights", {"jobType": "scan", "weight": weight})
        assert error(answer) == (400, "INVALID_FIELD", "weight")


# ---- breakers


async def test_a_breaker_is_forced_open_closed_and_released(rest: Rest) -> None:
    await created(rest)
    (idle,) = (await rest.client.get("/breakers")).json()["items"]
    assert idle == {"sourceId": "osv", "position": "closed", "failures": 0, "outcomes": 0}
    opened = await asked(rest, "POST", "/breakers/osv:open")
    assert (opened.status_code, opened.json()["position"]) == (200, "forced_open")
    job = await rest.submit(sourceId="osv")
    gate = (await gates_of(rest, job))["breaker"]
    assert gate["opensOn"]
    assert (await rest.client.get("/sources/osv")).json()["breaker"] == "forced_open"
    async with working(rest.engine) as worker:
        closed = await asked(rest, "POST", "/breakers/osv:close")
        assert closed.json()["position"] == "forced_closed"
        assert (await worker.take()).job.job_id == job["jobId"]
    released = await asked(rest, "POST", "/breakers/osv:release")
    assert released.json()["position"] == "closed"
    assert (await events(rest))[1:] == ["breaker.opened", "breaker.closed", "breaker.closed"]
    unknown = await asked(rest, "POST", "/breakers/other:open")
    assert error(unknown)[:2] == (404, "NOT_FOUND")


async def test_a_repeated_force_gets_the_first_answer(rest: Rest) -> None:
    await created(rest)
    key = {"Idempotency-Key": "force"}
    first = await asked(rest, "POST", "/breakers/osv:open", **key)
    await asked(rest, "POST", "/breakers/osv:close")
    again = await asked(rest, "POST", "/breakers/osv:open", **key)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


# ---- blackouts

WINDOW = {"kind": "one_off", "startAt": "2020-01-01T00:00:00Z", "endAt": "2020-06-01T00:00:00Z"}
AHEAD = {"kind": "one_off", "startAt": "2998-01-01T00:00:00Z", "endAt": "2998-01-02T00:00:00Z"}
NIGHTLY = {
    "kind": "recurring",
    "cron": "0 22 * * *",
    "durationSeconds": 28_800,
    "zone": "Europe/Berlin",
}


def now_window(rest: Rest) -> dict[str, str]:
    at = rest.engine.clock.moment().at
    return {
        "kind": "one_off",
        "startAt": to_rfc3339(at - HOUR),
        "endAt": to_rfc3339(at + HOUR),
    }


async def test_a_blackout_keeps_jobs_from_starting_until_it_is_taken_away(rest: Rest) -> None:
    window = now_window(rest)
    body = {"blackoutId": "now", "scope": "job_type", "key": "scan", "calendar": [window]}
    made = await asked(rest, "POST", "/blackouts", body)
    assert made.status_code == 201, made.text
    assert (made.json()["reason"], made.json()["drain"]) == ("a test", False)
    job = await rest.submit()
    gate = (await gates_of(rest, job))["blackout"]
    assert (gate["key"], gate["opensAt"]) == ("now", window["endAt"])
    preview = (await rest.client.get("/blackouts/now/preview")).json()
    assert preview["inForce"] is True
    assert preview["windows"] == [{"startAt": window["startAt"], "endAt": window["endAt"]}]
    async with working(rest.engine) as worker:
        await asked(rest, "DELETE", "/blackouts/now?force=true")
        assert (await worker.take()).job.job_id == job["jobId"]


async def test_a_calendar_is_previewed_listed_and_changed(rest: Rest) -> None:
    body = {"scope": "tenant", "calendar": [NIGHTLY, AHEAD], "reason": "nights", "drain": True}
    made = (await asked(rest, "POST", "/blackouts", body)).json()
    assert made["calendar"] == [
        NIGHTLY,
        {
            "kind": "one_off",
            "startAt": "2998-01-01T00:00:00.000Z",
            "endAt": "2998-01-02T00:00:00.000Z",
        },
    ]
    path = f"/blackouts/{made['blackoutId']}"
    assert (await rest.client.get(path)).json() == made
    assert (await rest.client.get("/blackouts")).json()["items"] == [made]
    windows = (await rest.client.get(f"{path}/preview?count=5")).json()["windows"]
    assert len(windows) == 5
    assert windows == sorted(windows, key=lambda window: window["startAt"])
    changed = await asked(rest, "PATCH", path, {"calendar": [AHEAD], "drain": None})
    assert len(changed.json()["calendar"]) == 1
    assert (changed.json()["drain"], changed.json()["reason"]) == (False, "nights")
    for count in (0, 101):
        assert (await rest.client.get(f"{path}/preview?count={count}")).status_code == 400


BAD_CALENDARS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "none": ([], "calendar"),
    "inverted": (
        [{**AHEAD, "startAt": AHEAD["endAt"], "endAt": AHEAD["startAt"]}],
        "calendar[0].endAt",
    ),
    "over": ([WINDOW], "calendar"),
    "overlapping": ([AHEAD, AHEAD], "calendar[1]"),
    "an unknown zone": ([{**NIGHTLY, "zone": "Mars/Olympus"}], "calendar[0].zone"),
    "no cron": ([{**NIGHTLY, "cron": "whenever"}], "calendar[0].cron"),
    "a date that never comes": ([{**NIGHTLY, "cron": "0 0 30 2 *"}], "calendar[0].cron"),
    "longer than its gap": (
        [{**NIGHTLY, "durationSeconds": 90_000}],
        "calendar[0].durationSeconds",
    ),
    "no time": ([{**NIGHTLY, "durationSeconds": 0}], "calendar[0].durationSeconds"),
    "an instant without an offset": (
        [{**AHEAD, "startAt": "2998-01-01T00:00:00"}],
        "calendar[0].startAt",
    ),
    "of no kind": ([{"startAt": "x"}], "calendar[0].kind"),
}


@pytest.mark.parametrize("case", BAD_CALENDARS)
async def test_a_calendar_that_makes_no_sense_is_refused_by_its_field(
    shared: Rest, case: str
) -> None:
    calendar, path = BAD_CALENDARS[case]
    answer = await asked(shared, "POST", "/blackouts", {"scope": "tenant", "calendar": calendar})
    assert error(answer) == (400, "INVALID_FIELD", path), answer.text


async def test_a_blackout_of_a_source_names_it(rest: Rest) -> None:
    answer = await asked(rest, "POST", "/blackouts", {"scope": "source", "calendar": [AHEAD]})
    assert error(answer) == (400, "INVALID_FIELD", "key")


# ---- pauses


@pytest.mark.parametrize(
    ("path", "name", "queue"),
    [("/tenant", "tenant", "q"), ("/queues/slow", "queue:slow", "slow"),
     ("/queues/a:b", "queue:a:b", "a:b")],
)  # fmt: skip
async def test_a_part_is_paused_listed_and_resumed(
    rest: Rest, path: str, name: str, queue: str
) -> None:
    paused = (await asked(rest, "POST", f"{path}:pause")).json()
    assert paused["paused"] is True
    assert (await rest.client.get("/pauses")).json()["items"] == [paused]
    job = await rest.submit(queue=queue)
    gate = (await gates_of(rest, job))["paused"]
    assert (gate["key"], gate["opensOn"]) == (name, "an operator resuming it")
    async with working(rest.engine) as worker:
        resumed = (await asked(rest, "POST", f"{path}:resume")).json()
        assert resumed["paused"] is False
        assert (await worker.take()).job.job_id == job["jobId"]
    assert (await rest.client.get("/pauses")).json()["items"] == []
    assert await events(rest) == ["pause.set", "pause.lifted"]


async def test_a_queue_has_a_name_that_jobs_can_give(rest: Rest) -> None:
    for queue in ("a%20b", "x" * 129):
        answer = await asked(rest, "POST", f"/queues/{queue}:pause")
        assert error(answer) == (400, "INVALID_FIELD", "queue")
