"""Metrics of admission: each gate as it stands, and a bound on how many are shown."""

from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from jobengine.core.lease_shard import gauges
from jobengine.core.lease_shard.control_set import Revision
from jobengine.core.lease_shard.gauges import Shortlist
from jobengine.domain.control import RatePolicy, Source
from jobengine.domain.instant import SECOND
from jobengine.engine import Engine
from jobengine.http.metrics import metrics_of
from jobengine.http.worker_door import DoorStatistics
from jobengine.messages.rate_bucket import BucketState
from jobengine.settings import Settings
from jobengine.testing import memory_engine
from tests.gates.gate_node import Tenant
from tests.http.opened import Opened, opened

OSV: dict[str, Any] = {
    "sourceId": "osv",
    "sourceType": "advisories",
    "host": "api.osv.example",
    "ratePolicy": {"rpm": 600, "burst": 5},
}
OF_OSV = {"sourceId": "osv"}

Shown = dict[tuple[str, str], float]


def samples_of(text: str) -> Shown:
    """By name without its prefix, and `key`, `kind` or `tenant`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            label = labels.get("key") or labels.get("kind") or labels.get("tenant") or ""
            found[sample.name.removeprefix("jobengine_"), label] = sample.value
    return found


async def scraped(node: Opened) -> Shown:
    answer = await node.client.get(f"{node.doors.http_url}/metrics")
    assert answer.status_code == 200
    return samples_of(answer.text)


async def test_breakers_show_their_position() -> None:
    async with opened() as node:
        tenant = Tenant(node)
        for name in ("osv", "nvd", "npm"):
            await tenant.asked("POST", "/sources", {**OSV, "sourceId": name})
        await tenant.asked("POST", "/breakers/nvd:open")
        await tenant.asked("POST", "/breakers/npm:close")
        shown = await scraped(node)
        assert shown["breaker_position", "osv"] == 0
        assert shown["breaker_position", "nvd"] == 4
        assert shown["breaker_position", "npm"] == 3
        await tenant.asked("POST", "/breakers/nvd:release")
        assert (await scraped(node))["breaker_position", "nvd"] == 1
        await tenant.asked("DELETE", "/sources/nvd")
        assert ("breaker_position", "nvd") not in await scraped(node)


async def test_a_bucket_shows_its_tokens_and_what_its_upstream_has_taught() -> None:
    async with opened() as node:
        tenant, key = Tenant(node), "host:api.osv.example"
        await tenant.asked("POST", "/sources", {**OSV, "ratePolicy": {"rpm": 600, "burst": 5}})
        async with tenant.worker() as worker:
            job_id = await tenant.submit(**OF_OSV)
            await worker.given(job_id)
            before = await scraped(node)
            assert 4 <= before["bucket_tokens", key] <= 5
            assert before["bucket_burst", key] == 5
            assert before["bucket_refill_per_second", key] == 10
            await worker.fail(job_id, httpStatus=429, retryable=False)
            with trio.fail_after(15):
                while (after := await scraped(node))["bucket_refill_per_second", key] == 10:
                    pass
        assert after["bucket_refill_per_second", key] == pytest.approx(5, rel=0.2)
        assert after["bucket_refill_configured_per_second", key] == 10
        assert after["bucket_opens_in_seconds", key] == 0


async def test_a_pause_that_an_upstream_asked_for_counts_down() -> None:
    async with opened() as node:
        tenant = Tenant(node)
        await tenant.asked("POST", "/sources", OSV)
        async with tenant.worker() as worker:
            job_id = await tenant.submit(**OF_OSV)
            await worker.given(job_id)
            await worker.say(
                {"op": "throttled", "httpStatus": 503, "retryAfter": 60, "sourceId": "osv"}
            )
            opens_in = 0.0
            with trio.fail_after(15):
                while not opens_in:
                    shown = await scraped(node)
                    opens_in = shown["bucket_opens_in_seconds", "host:api.osv.example"]
        assert 50 < opens_in <= 60


async def test_quotas_show_what_runs_and_what_has_started() -> None:
    async with opened() as node:
        tenant = Tenant(node)
        body = {"quotaId": "q", "scope": "job_type", "key": "scan"}
        await tenant.asked("POST", "/quotas", {**body, "maxActive": 7, "maxPerHour": 50})
        await tenant.asked("POST", "/sources", {**OSV, "maxActive": 3})
        async with tenant.worker() as worker:
            for job in ({}, {}, OF_OSV):
                await worker.given(await tenant.submit(**job))
            await worker.complete(next(iter(worker.leases)))
            shown = await scraped(node)
        assert (shown["quota_running", "quota:q"], shown["quota_running_max", "quota:q"]) == (2, 7)
        assert shown["quota_running", "source:osv"] == 1
        assert shown["quota_running_max", "source:osv"] == 3
        assert shown["quota_hour_starts", "quota:q"] == 3
        assert shown["quota_hour_starts_max", "quota:q"] == 50


async def test_pauses_blackouts_and_throttles_are_shown_while_they_are_in_force() -> None:
    async with opened() as node:
        tenant = Tenant(node)
        rule = {
            "kind": "one_off",
            "startAt": "2025-12-31T00:00:00Z",
            "endAt": "2026-12-31T00:00:00Z",
        }
        later = {
            "kind": "one_off",
            "startAt": "2998-01-01T00:00:00Z",
            "endAt": "2998-01-02T00:00:00Z",
        }
        for name, calendar in (("now", [rule]), ("later", [later])):
            body = {"blackoutId": name, "scope": "tenant", "calendar": calendar}
            await tenant.asked("POST", "/blackouts", body)
        await tenant.asked("POST", "/queues/slow:pause")
        await tenant.asked("POST", "/quotas", {"quotaId": "q", "scope": "tenant", "paused": True})
        await tenant.asked("PUT", "/throttles", {"scope": "tenant", "rate": {"rpm": 30}})
        shown = await scraped(node)
        assert (shown["blackout_active", "now"], shown["blackout_active", "later"]) == (1, 0)
        assert shown["pause_active", "queue:slow"] == 1
        assert shown["pause_active", "quota:q"] == 1
        assert shown["bucket_refill_configured_per_second", "throttle:tenant"] == 0.5
        await tenant.asked("POST", "/queues/slow:resume")
        await tenant.asked("PUT", "/throttles", {"scope": "tenant", "rate": None})
        shown = await scraped(node)
        assert ("pause_active", "queue:slow") not in shown
        assert ("bucket_tokens", "throttle:tenant") not in shown


def demand_of(shown: Shown) -> tuple[float | None, float | None]:
    """What the tenant runs, and what only its allotment keeps."""
    return shown.get(("allotment_running", "demo")), shown.get(("allotment_waiting", "demo"))


async def test_a_strategy_shows_what_each_tenant_is_allotted() -> None:
    async with opened() as node:
        assert (await scraped(node))["governance_capacity", ""] == 0
        tenant = Tenant(node)
        await tenant.asked("PUT", "/governance", {"strategy": "proportional", "capacity": 2})
        async with tenant.worker() as worker:
            jobs = [await tenant.submit() for _ in range(5)]
            await worker.given(jobs[0])
            await worker.given(jobs[1])
            with trio.fail_after(15):
                while demand_of(shown := await scraped(node)) != (2, 3):
                    pass
        assert shown["governance_capacity", ""] == 2
        assert shown["allotment_slots", "demo"] == 2
        assert shown["allotment_held_slots", "demo"] == 2


# ---- the bound


def test_what_is_urgent_goes_first_and_the_rest_is_counted() -> None:
    chosen = Shortlist[int](3)
    chosen.offer(range(10), 10, urgent=False)
    chosen.offer([90], 1, urgent=True)
    assert (chosen.chosen(), chosen.left_out) == ([90, 0, 1], 8)
    none = Shortlist[int](0)
    none.offer([1], 1, urgent=True)
    assert (none.chosen(), none.left_out) == ([], 1)


async def test_only_so_many_are_shown_those_in_trouble_first() -> None:
    async with opened(Settings(shards=2, metric_keys_max=3)) as node:
        for name in ("demo", "other"):
            for number in range(5):
                body = {**OSV, "sourceId": f"{name}-{number}", "maxActive": 1}
                await Tenant(node, name).asked("POST", "/sources", body)
        await Tenant(node).asked("POST", "/breakers/demo-4:open")
        await Tenant(node, "other").asked("POST", "/breakers/other-3:open")
        shown = await scraped(node)
    breakers = {key: value for (name, key), value in shown.items() if name == "breaker_position"}
    assert len(breakers) == 3
    assert (breakers["demo-4"], breakers["other-3"]) == (4, 4)
    assert shown["gates_left_out", "breaker"] == 7
    assert shown["gates_left_out", "quota_active"] == 7
    assert shown["gates_left_out", "any"] == 0


def crowd(engine: Engine, sources: int) -> None:
    """A tenant with so many sources, all of whose upstreams have pushed back."""
    core = engine.shards[0].core
    assert core is not None
    state, at = core._state, engine.clock.moment().at
    controls = state.gates.controls("demo")
    policy = RatePolicy(burst=10, per_minute_micro=60_000_000)
    learned = BucketState(
        at=at, learned_at=at - SECOND, learned_micro=20_000_000, ceiling_micro=40_000_000
    )
    for number in range(sources):
        host = f"h{number}.example"
        source = Source(source_type="t", host=host, max_active=5, rate_policy=policy)
        controls.put("source", f"s{number}", source, Revision(1, at))
        state.proposals.restore("demo", f"host:{host}", learned)
        state.gates.sources.breaker("demo", f"s{number}")
    controls.limits()


async def test_ten_thousand_sources_make_no_larger_scrape_and_hold_nobody_up() -> None:
    async with memory_engine() as engine:
        crowd(engine, 10_000)
        keys_max = engine.settings.metric_keys_max
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            text = (await metrics_of(engine, DoorStatistics())()).decode()
            nursery.cancel_scope.cancel()
    shown = samples_of(text)
    for name in ("breaker_position", "bucket_tokens", "quota_running"):
        assert sum(found == name for found, _ in shown) == keys_max
    assert shown["gates_left_out", "bucket"] == 10_000 - keys_max
    # In the first turn the other task may be the second to run.
    assert turns >= text.count("# TYPE") - 1
    assert len(text) < 200_000


async def test_controls_that_nobody_looked_at_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "_PASSED_MAX", 25)
    monkeypatch.setattr(gauges, "_LOOKED_AT_MAX", 2)
    async with opened() as node:
        tenant = Tenant(node)
        for number in range(3):
            body = {"quotaId": f"q{number}", "scope": "tenant", "maxActive": 1}
            await tenant.asked("POST", "/quotas", body)
        shown = await scraped(node)
        assert (shown["gates_left_out", "any"], ("quota_running", "quota:q2") in shown) == (
            1,
            False,
        )
    async with memory_engine() as engine:
        crowd(engine, 30)
        shown = samples_of((await metrics_of(engine, DoorStatistics())()).decode())
    assert shown["gates_left_out", "any"] == 30 - 25 + 30
