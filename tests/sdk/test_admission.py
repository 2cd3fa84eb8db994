"""Everything about admission through both clients, against a real engine."""

import inspect
from typing import Any

import pytest
import trio

from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.sdk import (
    ApiError,
    AsyncClient,
    Client,
    CronRule,
    OneOffRule,
    Pressure,
    RatePolicy,
    ShareRequest,
)
from jobengine.sdk.operations import Operations
from jobengine.settings import Settings
from tests.http.opened import Opened, opened

HOUR = 3600 * SECOND
WHY: Any = {"reason": "a test", "ticket": "T-1"}


def sdk(node: Opened, tenant: str = "demo") -> AsyncClient:
    token = node.headers(tenant)["Authorization"].removeprefix("Bearer ")
    return AsyncClient(node.doors.http_url, token=token, tenant=tenant, retries_max=0)


async def test_a_source_lives_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        made = await client.create_source(
            "osv", source_type="advisories", host="api.osv.example", weight=2, **WHY
        )
        assert (made.source_id, made.weight, made.revision) == ("osv", 2, 1)
        rate = RatePolicy(per_second=1, burst=5)
        changed = await client.update_source("osv", rate_policy=rate, weight=None, **WHY)
        assert changed.rate_policy is not None
        assert (changed.rate_policy.rpm, changed.weight) == (60, 1)
        with pytest.raises(ApiError) as raised:
            await client.update_source("osv", revision=1, weight=3, **WHY)
        assert (raised.value.http_status, raised.value.code) == (412, "REVISION_MISMATCH")
        shown = await client.source("osv")
        assert (shown.paused, shown.breaker, shown.running) == (False, "closed", 0)
        assert [one.source_id for one in (await client.sources_page()).items] == ["osv"]
        assert (await client.pause_source("osv", **WHY)).paused is True
        assert (await client.resume_source("osv", **WHY)).paused is False
        throttle = await client.throttle_source("osv", RatePolicy(rpm=30), **WHY)
        assert throttle.rate is not None
        assert throttle.rate.rpm == 30
        assert (await client.throttle_source("osv", None, **WHY)).rate is None
        bucket = await client.source_bucket("osv")
        assert (bucket.tokens, bucket.rpm) == (5, 60)
        learned = await client.set_source_bucket("osv", 6, pinned=True, **WHY)
        assert (learned.learned_per_minute, learned.pinned) == (6, True)
        await client.submit("scan", source_id="osv")
        with pytest.raises(ApiError, match="IN_USE"):
            await client.delete_source("osv", **WHY)
        assert (await client.delete_source("osv", force=True, **WHY)).name == "osv"


async def test_a_quota_lives_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        made = await client.create_quota(
            reason="too much", quota_id="q", scope="job_type", key="scan", max_active=3
        )
        assert (made.key, made.max_active) == ("scan", 3)
        changed = await client.update_quota("q", reason="less", max_per_hour=9, max_active=None)
        assert (changed.max_active, changed.max_per_hour) == (None, 9)
        assert (await client.quota("q")).revision == 2
        assert (await client.pause_quota("q", reason="stop")).paused is True
        assert (await client.resume_quota("q", reason="go on")).paused is False
        (use,) = (await client.quota_summary_page()).items
        assert (use.running, use.starts_this_hour, use.waiting) == (0, 0, 0)
        assert [one.quota_id for one in (await client.quotas_page()).items] == ["q"]
        assert (await client.delete_quota("q", reason="enough", revision=4)).name == "q"


async def test_pauses_are_set_explained_and_lifted_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        assert (await client.pause_tenant(**WHY)).scope == "tenant"
        assert (await client.pause_queue("a:b", **WHY)).key == "a:b"
        assert len((await client.pauses_page()).items) == 2
        job = await client.submit("scan", queue="a:b")
        found = await client.explain(job.job_id)
        gates = [(gate.gate, gate.key) for gate in found.gates]
        assert gates[:2] == [("paused", "tenant"), ("paused", "queue:a:b")]
        queue = await client.explain_queue("a:b", count=5)
        assert [one.job_id for one in queue.items] == [job.job_id]
        await client.resume_queue("a:b", **WHY)
        await client.resume_tenant(**WHY)
        assert (await client.pauses_page()).items == []


async def test_rates_and_shares_are_set_listed_and_taken_away_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        rate = RatePolicy(rpm=60, burst=2)
        made = await client.set_throttle("job_type", "scan", rate, reason="too fast")
        assert made.rate is not None
        assert (made.key, made.rate.rpm, made.rate.burst) == ("scan", 60, 2)
        await client.set_throttle("tenant", None, RatePolicy(per_second=10), reason="all")
        found = (await client.throttles_page()).items
        assert [(one.scope, one.key) for one in found] == [("job_type", "scan"), ("tenant", None)]
        await client.set_throttle("job_type", "scan", None, reason="enough")
        assert [one.scope for one in (await client.throttles_page()).items] == ["tenant"]
        assert (await client.set_weight("scan", 3, reason="more")).weight == 3
        assert [one.job_type for one in (await client.weights_page()).items] == ["scan"]
        assert (await client.set_weight("scan", None, reason="as others")).weight == 1
        assert (await client.weights_page()).items == []


async def test_a_breaker_is_forced_open_and_closed_and_released_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        rate = RatePolicy(rpm=600)
        await client.create_source("a-b", source_type="t", host="h", rate_policy=rate, **WHY)
        assert (await client.open_breaker("a-b", **WHY)).position == "forced_open"
        job = await client.submit("scan", source_id="a-b")
        gates = {one.gate for one in (await client.explain(job.job_id)).gates}
        assert "breaker" in gates
        assert (await client.close_breaker("a-b", **WHY)).position == "forced_closed"
        gates = {one.gate for one in (await client.explain(job.job_id)).gates}
        assert "breaker" not in gates
        assert (await client.release_breaker("a-b", **WHY)).position == "closed"
        (shown,) = (await client.breakers_page()).items
        assert (shown.source_id, shown.position) == ("a-b", "closed")
        with pytest.raises(ApiError, match="NOT_FOUND"):
            await client.open_breaker("none", **WHY)


async def test_a_blackout_lives_through_the_client() -> None:
    async with opened() as node, sdk(node) as client:
        at = node.engine.clock.moment().at
        once = OneOffRule(to_rfc3339(at - HOUR), to_rfc3339(at + HOUR))
        made = await client.create_blackout(
            "job_type", [once], blackout_id="holidays", key="scan", drain=True, **WHY
        )
        assert (made.blackout_id, made.drain, made.reason) == ("holidays", True, "a test")
        seen = await client.preview_blackout("holidays", count=3)
        assert (seen.in_force, len(seen.windows)) == (True, 1)
        nightly = CronRule(cron="0 22 * * *", duration_seconds=60, zone="Europe/Berlin")
        changed = await client.update_blackout("holidays", calendar=[nightly], revision=1, **WHY)
        assert changed.calendar == [nightly]
        with pytest.raises(ApiError, match="REVISION_MISMATCH"):
            await client.update_blackout("holidays", drain=None, revision=1, **WHY)
        assert len((await client.preview_blackout("holidays", count=3)).windows) == 3
        assert (await client.blackout("holidays")).revision == 2
        assert [one.key for one in (await client.blackouts_page()).items] == ["scan"]
        assert (await client.delete_blackout("holidays", **WHY)).name == "holidays"
        assert (await client.blackouts_page()).items == []


async def test_governance_is_set_and_shown_through_a_client_of_the_platform() -> None:
    async with opened() as node, sdk(node, "_system") as client:
        assert (await client.governance()).strategy == "unlimited"
        share = ShareRequest(tenant_id="demo", weight=3)
        done = await client.set_governance(
            "proportional", 10, [share], reason="demo pays", revision=0
        )
        assert (done.capacity, done.revision) == (10, 1)
        assert [(one.tenant_id, one.weight) for one in done.tenants] == [("demo", 3)]
        with pytest.raises(ApiError, match="REVISION_MISMATCH"):
            await client.set_governance("unlimited", reason="late", revision=7)
        async with sdk(node) as tenant:
            with pytest.raises(ApiError, match="TENANT_FORBIDDEN"):
                await tenant.governance()


async def test_a_client_knows_the_backlog_that_it_was_last_told_of() -> None:
    async with opened(Settings(shards=2, tenant_backlog_jobs_max=2)) as node, sdk(node) as client:
        assert client.pressure == Pressure(None, "normal")
        await client.submit("scan")
        await client.submit("scan", hold=True)
        assert client.pressure == Pressure(2, "normal")
        with pytest.raises(ApiError, match="BACKLOG_FULL"):
            await client.submit("scan")
        assert client.pressure == Pressure(2, "normal")
        found = (await client.jobs_summary()).counts
        assert (found["pending"], found["scheduled"], found["running"]) == (1, 1, 0)


def test_what_headers_say_of_the_load_lasts_until_they_say_otherwise() -> None:
    busy = Pressure().after({"x-jobengine-backlog": "7", "x-jobengine-load": "elevated"})
    assert busy == Pressure(7, "elevated")
    assert busy.after({}) == busy
    assert busy.after({"x-jobengine-load": "shedding"}) == Pressure(7, "shedding")
    assert busy.after({"x-jobengine-backlog": "8"}) == Pressure(8, "normal")


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_both_clients_have_every_operation(client: type) -> None:
    own = {"upload_artifact"}
    operations = {
        name
        for name, _ in inspect.getmembers(Operations, inspect.isfunction)
        if not name.startswith("_") and name not in own and name != "waits"
    }
    assert len(operations) > 60
    assert [name for name in sorted(operations) if not hasattr(client, name)] == []


async def test_the_blocking_client_has_the_same() -> None:
    async with opened() as node:
        token = node.headers()["Authorization"].removeprefix("Bearer ")

        def ask() -> None:
            with Client(node.doors.http_url, token=token, tenant="demo") as client:
                client.create_source("osv", source_type="advisories", host="h", **WHY)
                assert client.source("osv").host == "h"
                client.update_source("osv", host="other", **WHY)
                assert [one.host for one in client.sources_page().items] == ["other"]
                assert client.open_breaker("osv", **WHY).position == "forced_open"
                assert client.set_weight("scan", 2, reason="more").weight == 2
                client.delete_source("osv", **WHY)

        await trio.to_thread.run_sync(ask)
