"""A tenant whose rate bucket was retired, over the real actors: the next word counts, once."""

from typing import Any

import trio
from trio.testing import MockClock

from jobengine.domain.control import Control, ControlKind, Quota, RatePolicy, Source
from jobengine.engine import Engine
from jobengine.messages.admission import ChangeControl, LearnRate, ReadGates
from jobengine.messages.lease_shard import SubmitJobs
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, TENANT, BareWorker, new_job, submit

NOBODY = -1
"""Waits for the answer."""
OSV = Source(
    host="api.osv.example",
    source_type="advisories",
    rate_policy=RatePolicy(burst=100, per_minute_micro=60_000_000),
)


def setting(ask_id: int, kind: ControlKind, name: str, control: Control) -> ChangeControl:
    return ChangeControl(
        ask_id=ask_id,
        tenant_id=TENANT,
        actor=PRODUCER,
        event=f"{kind}.changed",
        kind=kind,
        name=name,
        control=control,
    )


def pinning(ask_id: int) -> LearnRate:
    """Six a minute, whatever the upstream says."""
    return LearnRate(
        ask_id=ask_id,
        tenant_id=TENANT,
        actor=PRODUCER,
        source_id="osv",
        learned_micro=6_000_000,
        pinned=True,
    )


async def control(engine: Engine, kind: ControlKind, name: str, control: Control) -> None:
    await engine.gateway.change_control(TENANT, lambda ask_id: setting(ask_id, kind, name, control))


async def bucket(engine: Engine, key: str) -> dict[str, Any]:
    answer = await engine.gateway.gates(
        TENANT,
        lambda ask_id: ReadGates(ask_id=ask_id, tenant_id=TENANT, kinds=("bucket",), keys=(key,)),
    )
    [facts] = answer.gates
    return dict(facts.state)


async def idle(engine: Engine, worker: BareWorker) -> None:
    """A job has started, and then the tenant's bucket hears nothing for so long that it ends."""
    await submit(engine, new_job(engine, source_id="osv"))
    [grant] = await worker.leases(1)
    await worker.complete(grant)
    await trio.sleep(700)
    assert not any(host.tenants for host in engine.rates)


async def test_a_rate_that_is_pinned_after_idle_minutes_is_in_force(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await control(engine, "source", "osv", OSV)
        await worker.attach()
        await idle(engine, worker)
        await engine.gateway.gates(TENANT, pinning)
        await trio.testing.wait_all_tasks_blocked()
        found = await bucket(engine, f"host:{OSV.host}")
        assert (found["learnedMicro"], found["pinned"]) == (6_000_000, True)


async def test_a_retired_bucket_that_is_told_configured_and_asked_at_once_counts_a_start_once(
    autojump_clock: MockClock,
) -> None:
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await control(engine, "source", "osv", OSV)
        await control(engine, "quota", "q", Quota(max_per_hour=200))
        await worker.attach(capacity=100)
        await idle(engine, worker)
        jobs = [new_job(engine) for _ in range(40)]
        shard = engine.registry.shard(TENANT)
        shard.tell_nowait(pinning(NOBODY))
        shard.tell_nowait(setting(NOBODY, "quota", "q", Quota(max_per_hour=190)))
        shard.tell_nowait(SubmitJobs(ask_id=NOBODY, tenant_id=TENANT, actor=PRODUCER, jobs=jobs))
        await worker.leases(41)
        await submit(engine, new_job(engine))
        await worker.leases(42)
        assert (await bucket(engine, "quota:q"))["startsInHour"] == 42
