"""Sources, quotas, pauses and explanations through both clients, against a real engine."""

from typing import Any

import pytest
import trio

from jobengine.sdk import ApiError, AsyncClient, Client, RatePolicy
from tests.http.opened import Opened, opened

WHY: Any = {"reason": "a test", "ticket": "T-1"}


def sdk(node: Opened) -> AsyncClient:
    token = node.headers()["Authorization"].removeprefix("Bearer ")
    return AsyncClient(node.doors.http_url, token=token, tenant="demo")


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


async def test_the_blocking_client_has_the_same() -> None:
    async with opened() as node:
        token = node.headers()["Authorization"].removeprefix("Bearer ")

        def ask() -> None:
            with Client(node.doors.http_url, token=token, tenant="demo") as client:
                client.create_source("osv", source_type="advisories", host="h", **WHY)
                assert client.source("osv").host == "h"
                client.update_source("osv", host="other", **WHY)
                assert [one.host for one in client.sources_page().items] == ["other"]
                client.delete_source("osv", **WHY)

        await trio.to_thread.run_sync(ask)
