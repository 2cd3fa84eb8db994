"""The users of one tenant in a simulated run: they come with it, and clear up when it heals.

Not here: what each of them does (`producer`, `operator`, `limiter`, `composer`, `redriver`).
"""

from collections.abc import Sequence

import trio

from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.composer import Composer
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.habits import habits_of
from jobengine.testing.sim.limiter import Limiter
from jobengine.testing.sim.operator import Operator
from jobengine.testing.sim.producer import Numbers, Producer
from jobengine.testing.sim.redriver import Redriver
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.world import World

__all__ = ["Users"]


class Users:
    """`workers` are the ids of the tenant's workers."""

    def __init__(
        self,
        tenant_id: str,
        scenario: Scenario,
        workers: Sequence[str],
        *,
        world: World,
        desk: Desk,
        chance: Chance,
        numbers: Numbers,
    ) -> None:
        dice = chance.fork
        habits = habits_of(chance, tenant_id, scenario.habits, scenario.habit_share)
        self._operates = scenario.operators
        self._producer = Producer(
            tenant_id,
            scenario.jobs // scenario.tenants,
            world=world,
            desk=desk,
            dice=dice("producer", tenant_id),
            numbers=numbers,
            sourced=scenario.sources and scenario.operators,
            habits=habits,
            lull_s=scenario.lull_s,
        )
        self._composer = Composer(
            tenant_id,
            -(-scenario.runs // scenario.tenants),
            desk,
            dice("composer", tenant_id),
            numbers,
            habits,
        )
        self._operator = Operator(
            tenant_id,
            lambda: self._producer.job_ids,
            workers,
            desk,
            dice("operator", tenant_id),
        )
        self._limiter = Limiter(tenant_id, world, desk, dice("limiter", tenant_id))
        redrives = self._operates and "redrives" in habits
        self._redriver = (
            Redriver(tenant_id, desk, dice("redriver", tenant_id)) if redrives else None
        )

    async def prepare(self) -> None:
        """What has to be there before anything is submitted."""
        await self._composer.prepare()
        if self._operates:
            await self._limiter.prepare()

    async def run(self) -> None:
        """Use the engine; to be cancelled where operators act, who never have enough."""
        async with trio.open_nursery() as users:
            users.start_soon(self._producer.run)
            users.start_soon(self._composer.run)
            if self._operates:
                users.start_soon(self._operator.run)
                users.start_soon(self._limiter.run)
            if self._redriver is not None:
                users.start_soon(self._redriver.run)

    async def finish(self) -> None:
        """Let go of whatever would keep a job from ending."""
        async with trio.open_nursery() as users:
            users.start_soon(self._composer.finish)
            users.start_soon(self._operator.finish)
            if self._operates:
                users.start_soon(self._limiter.finish)
            if self._redriver is not None:
                users.start_soon(self._redriver.finish)

    async def look_after(self) -> None:
        """Go on clearing up until the run is over."""
        async with trio.open_nursery() as users:
            users.start_soon(self._operator.look_after)
            if self._operates:
                users.start_soon(self._limiter.look_after)
