"""Strategies across tenants, over PostgreSQL: who has what, and that a restart changes nothing."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from jobengine.engine import open_database
from jobengine.settings import Settings
from tests.gates.gate_node import Tenant, Worker
from tests.http.opened import Opened, opened

SETTINGS = Settings(shards=2, ask_timeout_s=20.0)
NAMES = ("acme", "cyan")
CAPACITY = 4
BACKLOG = 12


@attrs.frozen
class Strategy:
    """What is set of each tenant, and what of the capacity each then has."""

    shares: Mapping[str, Mapping[str, int]]
    slots: Mapping[str, int]


STRATEGIES = {
    "proportional": Strategy({"acme": {"weight": 3}}, {"acme": 3, "cyan": 1}),
    "priority": Strategy({"cyan": {"priority": 9}}, {"acme": 0, "cyan": 4}),
    "reserved": Strategy(
        {"acme": {"reserved": 1}, "cyan": {"reserved": 3}}, {"acme": 1, "cyan": 3}
    ),
    "max-limit": Strategy({"acme": {"cap": 1}}, {"acme": 1, "cyan": 3}),
}


@asynccontextmanager
async def node_over(conninfo: str) -> AsyncIterator[Opened]:
    async with (
        open_database(SETTINGS, conninfo=conninfo) as store,
        opened(SETTINGS, store=store) as node,
    ):
        yield node


@asynccontextmanager
async def both(
    node: Opened, resumed: Mapping[str, Worker] | None = None
) -> AsyncIterator[dict[str, Worker]]:
    """A worker of each tenant, with more slots than there are jobs."""
    resumed = resumed or {}
    acme, cyan = (Tenant(node, name) for name in NAMES)
    async with (
        acme.worker(resumed=resumed.get("acme")) as first,
        cyan.worker(resumed=resumed.get("cyan")) as second,
    ):
        yield {"acme": first, "cyan": second}


async def governance(node: Opened) -> dict[str, Any]:
    found: dict[str, Any] = await Tenant(node).asked("GET", "/governance")
    return found


async def settled(node: Opened, workers: Mapping[str, Worker], slots: Mapping[str, int]) -> None:
    """Whoever runs more than its share ends a job, until both have theirs."""
    with trio.fail_after(15):
        while True:
            held = {name: len(worker.leases) for name, worker in workers.items()}
            assert sum(held.values()) <= CAPACITY
            tenants = (await governance(node))["tenants"]
            allotted = {one["tenantId"]: one["allotment"] for one in tenants}
            if held == slots and all(allotted.get(name, 0) == slots[name] for name in slots):
                return
            for name, worker in workers.items():
                if len(worker.leases) > slots[name]:
                    await worker.complete(next(iter(worker.leases)))
                else:
                    await worker.say({"op": "heartbeat"})


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_strategy_and_what_runs_under_it_survive_a_restart(
    migrated_database: str, name: str
) -> None:
    strategy = STRATEGIES[name]
    tenants = [{"tenantId": tenant, **share} for tenant, share in strategy.shares.items()]
    policy = {"strategy": name, "capacity": CAPACITY, "tenants": tenants}
    async with node_over(migrated_database) as node:
        await Tenant(node).asked("PUT", "/governance", policy)
        async with both(node) as workers:
            for tenant in NAMES:
                for _ in range(BACKLOG):
                    await Tenant(node, tenant).submit()
            await settled(node, workers, strategy.slots)
            before = await governance(node)
    async with node_over(migrated_database) as node:
        for tenant in NAMES:
            # Nobody is there to run anything; what ran still counts.
            waiting = await Tenant(node, tenant).submit()
            assert "quota_active" in await Tenant(node, tenant).gates(waiting)
        async with both(node, workers) as workers:
            await settled(node, workers, strategy.slots)
            after = await governance(node)
            for key in ("strategy", "capacity", "revision", "changedAt"):
                assert after[key] == before[key], key
            assert listed(after) == listed(before)
            await one_goes_when_one_ends(node, workers, strategy.slots)


def listed(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tenants that the policy names, without their demand, which moves."""
    return [
        {key: value for key, value in one.items() if key not in ("running", "waiting")}
        for one in policy["tenants"]
        if one["listed"]
    ]


async def one_goes_when_one_ends(
    node: Opened, workers: Mapping[str, Worker], slots: Mapping[str, int]
) -> None:
    """The gate of each tenant tells its share, and a slot that becomes free is used again."""
    for name, worker in workers.items():
        tenant, share = Tenant(node, name), str(slots[name])
        job_id = await tenant.submit(priority=9)
        seen = {"key": "governance", "observed": share, "limit": share}
        await tenant.closed(worker, job_id, "quota_active", **seen)
        if worker.leases:
            await worker.complete(next(iter(worker.leases)))
            await tenant.opened(worker, job_id)


async def test_without_a_strategy_everything_runs_before_and_after_a_restart(
    migrated_database: str,
) -> None:
    async with node_over(migrated_database) as node:
        await Tenant(node).asked("PUT", "/governance", {"strategy": "reserved", "capacity": 1})
        await Tenant(node).asked("PUT", "/governance", {"strategy": "unlimited"})
    async with node_over(migrated_database) as node, both(node) as workers:
        shown = await governance(node)
        assert (shown["strategy"], shown["revision"], shown["tenants"]) == ("unlimited", 2, [])
        for name, worker in workers.items():
            for _ in range(CAPACITY):
                job_id = await Tenant(node, name).submit()
                await Tenant(node, name).opened(worker, job_id)
