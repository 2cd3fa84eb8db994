"""Governance over the real actors: two tenants of different shards, one capacity, virtual time."""

from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.domain.governance import (
    POLICY_NAME,
    SYSTEM_TENANT,
    UNLIMITED,
    Governance,
)
from jobengine.domain.ids import shard_of
from jobengine.engine import Engine
from jobengine.messages.admission import ChangeControl
from jobengine.messages.governor import Holding
from jobengine.messages.lease_shard import Actor
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import BareWorker, new_job, submit
from tests.core.governed_shards import policy

TENANTS = ("acme", "cyan")
JOBS = 20
AGREED_S = 0.5
"""Until everybody has heard of what has changed."""


async def change(engine: Engine, to: Governance) -> None:
    await engine.gateway.change_control(
        SYSTEM_TENANT,
        lambda ask_id: ChangeControl(
            ask_id=ask_id,
            tenant_id=SYSTEM_TENANT,
            actor=Actor("operator"),
            event="governance.changed",
            kind="governance",
            name=POLICY_NAME,
            control=to,
        ),
    )


def governor_box(engine: Engine) -> Mailbox[Any]:
    [found] = [box for box in engine.mailboxes if box.name == "governor"]
    return found


class Fleet:
    """A worker for each tenant, that takes whatever it gets, and a backlog for each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.workers = {name: BareWorker(engine, f"w-{name}", name) for name in TENANTS}
        self.ended = dict.fromkeys(TENANTS, 0)
        self.most = 0

    async def begin(self, *names: str) -> None:
        for name in names:
            await self.workers[name].attach(capacity=JOBS)
            jobs = [new_job(self.engine) for _ in range(JOBS)]
            await submit(self.engine, *jobs, tenant_id=name)

    def running(self, name: str) -> int:
        return len(self.workers[name].granted()) - self.ended[name]

    async def finish(self, name: str, jobs: int = 1) -> None:
        worker = self.workers[name]
        for grant in worker.granted()[self.ended[name] :][:jobs]:
            await worker.complete(grant)
            self.ended[name] += 1

    async def until(self, ready: Callable[[], bool]) -> None:
        """Within a second of virtual time, which is what is promised of every control."""
        with trio.fail_after(1.0):
            while True:
                self.most = max(self.most, sum(self.running(name) for name in TENANTS))
                if ready():
                    return
                await trio.sleep(0.01)

    async def until_running(self, **wanted: int) -> None:
        await self.until(lambda: all(self.running(name) == n for name, n in wanted.items()))


def test_the_tenants_of_these_tests_are_of_different_shards() -> None:
    assert {shard_of(name, 2) for name in TENANTS} == {0, 1}


async def test_the_strategy_changes_live_and_what_runs_never_exceeds_the_capacity(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory_engine() as engine:
        await change(engine, policy("proportional", 4))
        fleet = Fleet(engine)
        await fleet.begin("acme")
        await fleet.until_running(acme=4)
        await fleet.begin("cyan")
        await trio.sleep(AGREED_S)
        await fleet.finish("acme", 2)
        await fleet.until_running(acme=2, cyan=2)
        await change(engine, policy("proportional", 4, acme={"weight": 3}))
        await trio.sleep(AGREED_S)
        assert (fleet.running("acme"), fleet.running("cyan")) == (2, 2)
        await fleet.finish("cyan")
        await fleet.until_running(acme=3, cyan=1)
        await change(engine, policy("priority", 4, cyan={"priority": 9}))
        for running in (3, 2, 1):
            await fleet.until_running(acme=running, cyan=4 - running)
            await trio.sleep(AGREED_S)
            await fleet.finish("acme")
        await fleet.until_running(acme=0, cyan=4)
        await change(engine, policy("max-limit", 4, cyan={"cap": 1}))
        for running in (4, 3, 2):
            await fleet.until_running(acme=4 - running, cyan=running)
            await trio.sleep(AGREED_S)
            await fleet.finish("cyan")
        await fleet.until_running(acme=3, cyan=1)
        await change(engine, policy("reserved", 4, cyan={"reserved": 2}))
        await trio.sleep(AGREED_S)
        await fleet.finish("acme", 3)
        await trio.sleep(AGREED_S)
        assert fleet.running("acme") + fleet.running("cyan") == 4
        assert fleet.running("cyan") >= 2
        assert fleet.most == 4
        await change(engine, UNLIMITED)
        left = {name: JOBS - fleet.ended[name] for name in TENANTS}
        await fleet.until_running(**left)


async def test_an_engine_that_restarts_obeys_the_policy_it_finds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    async with memory_engine(store=store) as engine:
        await change(engine, policy("proportional", 2))
    async with memory_engine(store=store) as engine:
        fleet = Fleet(engine)
        await fleet.begin(*TENANTS)
        await fleet.until_running(acme=1, cyan=1)
        await trio.sleep(AGREED_S)
        found = await engine.gateway.governance()
        assert (found.policy.capacity, found.revision) == (2, 1)
        assert found.holdings[0] == Holding("acme", 1, 1, 1, 19)


async def test_a_governor_that_fails_loses_no_slot_and_exceeds_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory_engine() as engine:
        await change(engine, policy("proportional", 4))
        fleet = Fleet(engine)
        await fleet.begin("acme")
        await fleet.until_running(acme=4)
        await fleet.begin("cyan")
        await trio.sleep(AGREED_S)
        # A message that it does not understand ends its life.
        governor_box(engine).deliver(object())
        await trio.sleep(5.0)
        await fleet.finish("acme", 2)
        await fleet.until_running(acme=2, cyan=2)


async def test_without_a_strategy_neither_side_says_a_word(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory_engine() as engine:
        fleet = Fleet(engine)
        await fleet.begin(*TENANTS)
        await fleet.until_running(acme=JOBS, cyan=JOBS)
        assert governor_box(engine).taken_total == 0
        assert (await engine.gateway.governance()).holdings == ()
