"""Gates that open by what happens: time, ends of jobs, workers, a source that heals."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.messages.admission import SetLoad
from tests.gates.gate_node import Tenant, Worker
from tests.http.opened import opened

EPOCH_AT = 1_767_225_600 * SECOND
SOON_US = 1_000_000
OSV: dict[str, Any] = {
    "sourceId": "osv",
    "sourceType": "advisories",
    "host": "api.osv.example",
    "ratePolicy": {"rpm": 600_000, "burst": 10_000},
}
OF_OSV = {"sourceId": "osv"}


@pytest.fixture
def clock() -> SimulatedClock:
    """The node's; its `skew` is how far an operator's wall clock is ahead of the worker's waits."""
    return SimulatedClock(EPOCH_AT)


@pytest.fixture
async def tenant(clock: SimulatedClock) -> AsyncIterator[Tenant]:
    async with opened(clock=clock) as node:
        yield Tenant(node)


async def given(tenant: Tenant, worker: Worker, jobs: int, **job: Any) -> list[str]:
    """So many new jobs, which the worker has."""
    job_ids = [await tenant.submit(**job) for _ in range(jobs)]
    for job_id in job_ids:
        await worker.given(job_id)
    return job_ids


# ---- time


async def test_a_job_that_is_not_due_starts_when_it_is(
    tenant: Tenant, clock: SimulatedClock
) -> None:
    async with tenant.worker() as worker:
        due_at = to_rfc3339(clock.moment().at + SOON_US)
        job_id = await tenant.submit(notBefore=due_at)
        gate = await tenant.closed(worker, job_id, "not_before", key=job_id)
        assert (gate["limit"], gate["opensAt"]) == (due_at, due_at)
        await tenant.opened(worker, job_id)


async def test_a_retry_waits_for_its_backoff(tenant: Tenant) -> None:
    async with tenant.worker() as worker:
        backoff = {"kind": "fixed", "baseSeconds": 1, "jitter": "none"}
        (job_id,) = await given(tenant, worker, 1, backoff=backoff)
        await worker.fail(job_id)
        gate = await tenant.closed(worker, job_id, "not_before")
        assert "backoff" in gate["message"]
        await tenant.opened(worker, job_id)


async def test_a_blackout_ends_by_itself(tenant: Tenant, clock: SimulatedClock) -> None:
    at = clock.moment().at
    window = {"startAt": to_rfc3339(at - SECOND), "endAt": to_rfc3339(at + SOON_US)}
    body = {"blackoutId": "b", "scope": "tenant", "calendar": [{"kind": "one_off", **window}]}
    await tenant.asked("POST", "/blackouts", body)
    async with tenant.worker() as worker:
        job_id = await tenant.submit()
        gate = await tenant.closed(worker, job_id, "blackout", key="b")
        assert gate["opensAt"] == window["endAt"]
        await tenant.opened(worker, job_id)


async def test_tokens_come_by_themselves(tenant: Tenant) -> None:
    policy = {"rpm": 40, "burst": 1}
    await tenant.asked("POST", "/sources", {**OSV, "ratePolicy": policy})
    async with tenant.worker() as worker:
        await given(tenant, worker, 1, **OF_OSV)
        job_id = await tenant.submit(**OF_OSV)
        gate = await tenant.closed(worker, job_id, "rate", key="host:api.osv.example")
        assert gate["opensAt"]
        await tenant.opened(worker, job_id)


# ---- ends of jobs


async def test_a_concurrency_key_is_free_when_its_job_has_ended(tenant: Tenant) -> None:
    keyed = {"concurrencyKey": "repo", "concurrencyLimit": 2}
    async with tenant.worker() as worker:
        first, _ = await given(tenant, worker, 2, **keyed)
        job_id = await tenant.submit(**keyed)
        other_id = await tenant.submit(concurrencyKey="other", concurrencyLimit=1)
        await tenant.closed(worker, job_id, "concurrency_key", key="repo", observed="2", limit="2")
        await worker.given(other_id)
        await worker.complete(first)
        await tenant.opened(worker, job_id)


async def test_a_lock_is_free_when_the_other_sources_job_has_ended(tenant: Tenant) -> None:
    for name in ("osv", "nvd"):
        await tenant.asked("POST", "/sources", {**OSV, "sourceId": name, "lockKey": "one"})
    async with tenant.worker() as worker:
        (first,) = await given(tenant, worker, 1, sourceId="nvd")
        job_id = await tenant.submit(**OF_OSV)
        await tenant.closed(worker, job_id, "concurrency_key", key="one", observed="1", limit="1")
        await worker.complete(first)
        await tenant.opened(worker, job_id)


async def test_a_quota_is_free_when_a_job_has_ended(tenant: Tenant) -> None:
    await tenant.asked("POST", "/quotas", {"quotaId": "q", "scope": "tenant", "maxActive": 1})
    async with tenant.worker() as worker:
        (first,) = await given(tenant, worker, 1)
        job_id = await tenant.submit()
        await tenant.closed(worker, job_id, "quota_active", key="quota:q")
        await worker.fail(first, retryable=False)
        await tenant.opened(worker, job_id)


# ---- workers


async def test_a_job_without_a_worker_starts_when_one_comes(tenant: Tenant) -> None:
    job_id = await tenant.submit()
    (gate,) = (await tenant.explained(job_id))["gates"]
    assert (gate["gate"], gate["key"]) == ("no_worker", "scan")
    assert gate["opensOn"] == "a worker that takes it"
    async with tenant.worker() as worker:
        await tenant.opened(worker, job_id)


async def test_without_a_free_slot_jobs_wait_behind_each_other(tenant: Tenant) -> None:
    async with tenant.worker(slots=0) as worker:
        first, second = await tenant.submit(), await tenant.submit()
        await tenant.closed(worker, first, "no_slot", key="scan", observed="0", limit="1")
        assert await tenant.gates(first) == ["no_slot"]
        await tenant.closed(worker, second, "behind", key="scan", observed="1", limit="0")
        assert (await tenant.explained(second))["position"] == 2
        await tenant.asked("POST", f"/jobs/{second}:prioritize", {"priority": 9})
        assert await tenant.gates(second) == ["no_slot"]
        await worker.credit(1)
        await tenant.opened(worker, second)
        await tenant.closed(worker, first, "no_slot")
        await worker.complete(second)
        await worker.credit(1)
        await tenant.opened(worker, first)


async def test_low_priorities_wait_behind_while_the_load_is_elevated(tenant: Tenant) -> None:
    shard = tenant.node.engine.registry.shard(tenant.name)
    shard.deliver(SetLoad(level="elevated"))
    async with tenant.worker() as worker:
        low = await tenant.submit(priority=1)
        seen = {"key": "load", "observed": "elevated", "limit": "normal"}
        await tenant.closed(worker, low, "behind", **seen)
        await given(tenant, worker, 1, priority=2)
        shard.deliver(SetLoad(level="normal"))
        await tenant.opened(worker, low)


# ---- a source that fails


async def positions(tenant: Tenant) -> list[str]:
    return [one["position"] for one in (await tenant.asked("GET", "/breakers"))["items"]]


async def test_a_breaker_opens_by_failures_lets_probes_through_and_closes(
    tenant: Tenant, clock: SimulatedClock
) -> None:
    await tenant.asked("POST", "/sources", OSV)
    async with tenant.worker() as worker:
        failing = await given(tenant, worker, 5, maxRetries=0, **OF_OSV)
        await worker.fail(*failing, class_="httpx.ConnectError")
        assert await positions(tenant) == ["open"]
        waiting = [await tenant.submit(**OF_OSV) for _ in range(4)]
        for job_id in waiting:
            gate = await tenant.closed(worker, job_id, "breaker", key="osv", limit="5")
            assert gate["observed"] == "open: 5"
            assert gate["opensAt"]
        clock.skew += 31 * SECOND
        # The wall clock has jumped; whatever is asked next lets the shard see it.
        await worker.say({"op": "heartbeat"})
        for job_id in waiting[:3]:
            await worker.given(job_id)
        assert await positions(tenant) == ["half_open"]
        gate = await tenant.closed(worker, waiting[3], "breaker", key="osv", limit="3")
        assert (gate["observed"], gate["opensOn"]) == (
            "half_open: 3",
            "the end of a probe, or an operator",
        )
        for job_id in waiting[:3]:
            await worker.complete(job_id)
        await tenant.opened(worker, waiting[3])
        assert await positions(tenant) == ["closed"]


async def test_a_probe_that_fails_opens_the_breaker_again_for_longer(
    tenant: Tenant, clock: SimulatedClock
) -> None:
    await tenant.asked("POST", "/sources", OSV)
    async with tenant.worker() as worker:
        failing = await given(tenant, worker, 5, maxRetries=0, **OF_OSV)
        await worker.fail(*failing, class_="httpx.ConnectError")
        clock.skew += 31 * SECOND
        (probe,) = await given(tenant, worker, 1, maxRetries=0, **OF_OSV)
        await worker.fail(probe, httpStatus=503)
        job_id = await tenant.submit(**OF_OSV)
        await tenant.closed(worker, job_id, "breaker", observed="open: 1")
        clock.skew += 31 * SECOND
        await tenant.closed(worker, job_id, "breaker", observed="open: 1")
        clock.skew += 30 * SECOND
        await worker.say({"op": "heartbeat"})
        await tenant.opened(worker, job_id)


async def test_an_operator_who_releases_a_forced_breaker_lets_probes_decide(
    tenant: Tenant,
) -> None:
    await tenant.asked("POST", "/sources", OSV)
    await tenant.asked("POST", "/breakers/osv:open")
    async with tenant.worker() as worker:
        waiting = [await tenant.submit(**OF_OSV) for _ in range(4)]
        await tenant.closed(worker, waiting[0], "breaker", observed="forced_open: 0")
        await tenant.asked("POST", "/breakers/osv:release")
        for job_id in waiting[:3]:
            await worker.given(job_id)
        await tenant.closed(worker, waiting[3], "breaker", observed="half_open: 3", limit="3")
        await worker.complete(waiting[0])
        await worker.complete(waiting[1])
        await worker.complete(waiting[2])
        await tenant.opened(worker, waiting[3])


async def test_a_source_that_fails_is_given_half_as_many_jobs_at_once(
    tenant: Tenant, clock: SimulatedClock
) -> None:
    await tenant.asked("POST", "/sources", OSV)
    await tenant.asked("POST", "/breakers/osv:close")
    async with tenant.worker() as worker:
        running = await given(tenant, worker, 50, maxRetries=0, **OF_OSV)
        await worker.fail(*running[:20], httpStatus=503)
        clock.skew += 11 * SECOND
        await worker.fail(running[20], httpStatus=503)
        job_id = await tenant.submit(**OF_OSV)
        seen = {"key": "source:osv", "observed": "29", "limit": "25"}
        await tenant.closed(worker, job_id, "no_slot", **seen)
        for done in running[21:25]:
            await worker.complete(done)
        await tenant.closed(worker, job_id, "no_slot", observed="25", limit="25")
        await worker.complete(running[25])
        await tenant.opened(worker, job_id)


async def test_a_retry_budget_that_is_used_up_fills_again_and_keeps_no_first_start(
    tenant: Tenant,
) -> None:
    await tenant.asked("POST", "/sources", OSV)
    backoff = {"kind": "fixed", "baseSeconds": 0, "jitter": "none"}
    async with tenant.worker(capacity=1_000, slots=1_000) as worker:
        jobs = await given(tenant, worker, 160, backoff=backoff, **OF_OSV)
        await worker.fail(*jobs)
        with trio.fail_after(30):
            while len(worker.leases) < 100:
                await worker.say({"op": "heartbeat"})
        left = next(job_id for job_id in reversed(jobs) if job_id not in worker.leases)
        gate = await tenant.closed(worker, left, "retry_budget", key="retry:osv")
        assert gate["opensAt"]
        await given(tenant, worker, 1, **OF_OSV)
        await tenant.asked("DELETE", "/sources/osv?force=true")
        await tenant.opened(worker, left)
