"""Explain over the real door: of one job and of a queue, live."""

from tests.http.conftest import Rest
from tests.http.test_admission_sources import asked, created
from tests.http.test_operations import UNKNOWN
from tests.http.worker import working


async def test_a_held_a_delayed_and_a_lonely_job_say_what_they_wait_for(rest: Rest) -> None:
    held = await rest.submit(hold=True)
    later = await rest.submit(notBefore="2999-01-01T00:00:00Z")
    lonely = await rest.submit()

    async def explained(job: dict[str, str]) -> dict[str, object]:
        answer = await rest.client.get(f"/jobs/{job['jobId']}/explain")
        found: dict[str, object] = answer.json()
        return found

    first = await explained(held)
    assert (first["jobId"], first["state"]) == (held["jobId"], "pending")
    assert [gate["gate"] for gate in first["gates"]] == ["held"]  # type: ignore[attr-defined]
    second = await explained(later)
    gate = second["gates"][0]  # type: ignore[index]
    assert (gate["gate"], gate["opensAt"]) == ("not_before", "2999-01-01T00:00:00.000Z")
    assert gate["limit"] == "2999-01-01T00:00:00.000Z"
    third = await explained(lonely)
    assert [gate["gate"] for gate in third["gates"]] == ["no_worker"]  # type: ignore[attr-defined]
    assert third["position"] == 1


async def test_a_job_that_runs_or_has_ended_has_no_closed_gate(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        job = await rest.submit()
        grant = await worker.take()
        running = (await rest.client.get(f"/jobs/{job['jobId']}/explain")).json()
        assert (running["state"], running["gates"]) == ("running", [])
        await worker.complete(grant)
    ended = (await rest.client.get(f"/jobs/{job['jobId']}/explain")).json()
    assert ended["gates"] == []


async def test_every_closed_gate_is_named_with_what_was_seen(rest: Rest) -> None:
    await created(rest, ratePolicy={"rpm": 1, "burst": 2}, maxActive=1)
    await asked(rest, "POST", "/tenant:pause")
    await asked(rest, "POST", "/sources/osv:pause")
    await asked(rest, "POST", "/breakers/osv:open")
    job = await rest.submit(sourceId="osv", cost=2)
    found = (await rest.client.get(f"/jobs/{job['jobId']}/explain")).json()
    closed = {(gate["gate"], gate["key"]) for gate in found["gates"]}
    assert {
        ("paused", "tenant"),
        ("paused", "source:osv"),
        ("breaker", "osv"),
        ("no_worker", "scan"),
    } <= closed
    for gate in found["gates"]:
        assert gate["message"]
        assert gate["observed"] != ""
        assert gate["limit"] != ""
        assert ("opensAt" in gate) or ("opensOn" in gate)
    assert "estimatedStartAt" not in found


async def test_a_job_that_nobody_knows_is_404(rest: Rest) -> None:
    for job_id in (UNKNOWN, "nope"):
        assert (await rest.client.get(f"/jobs/{job_id}/explain")).status_code == 404


async def test_a_queue_explains_its_first_jobs_and_counts_what_keeps_them(rest: Rest) -> None:
    await asked(rest, "POST", "/queues/scan:pause")
    low = await rest.submit(priority=1)
    high = await rest.submit(priority=9)
    later = await rest.submit(notBefore="2999-01-01T00:00:00Z")
    await rest.submit(queue="other")
    found = (await rest.client.get("/queues/scan/explain")).json()
    ids = [item["jobId"] for item in found["items"]]
    assert set(ids) == {low["jobId"], high["jobId"], later["jobId"]}
    assert ids.index(high["jobId"]) < ids.index(low["jobId"])
    assert found["closed"][:2] == [
        {"gate": "no_worker", "key": "scan", "jobs": 3},
        {"gate": "paused", "key": "queue:scan", "jobs": 3},
    ]
    assert {"gate": "not_before", "key": later["jobId"], "jobs": 1} in found["closed"]
    (first,) = (await rest.client.get("/queues/scan/explain?count=1")).json()["items"]
    assert first["jobId"] == high["jobId"]
    empty = (await rest.client.get("/queues/nothing/explain")).json()
    assert empty == {"queue": "nothing", "items": [], "closed": []}
    assert (await rest.client.get("/queues/scan/explain?count=101")).status_code == 400


async def test_a_queue_whose_jobs_all_wait_for_one_key_explains_the_first_of_them(
    rest: Rest,
) -> None:
    async with working(rest.engine) as worker:
        jobs = [await rest.submit(concurrencyKey="repo", concurrencyLimit=1) for _ in range(5)]
        await rest.submit()
        for _ in range(2):
            await worker.take()
        items = (await rest.client.get("/queues/scan/explain?count=2")).json()["items"]
        assert [item["jobId"] for item in items] == [job["jobId"] for job in jobs[1:3]]
        assert [item["gates"][0]["gate"] for item in items] == ["concurrency_key"] * 2


async def test_what_runs_is_no_part_of_a_queues_explanation(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        await rest.submit()
        await worker.take()
        assert (await rest.client.get("/queues/scan/explain")).json()["items"] == []
