"""The host of a shard's rate buckets: beginning, loss, retirement, restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio
from trio.testing import MockClock

from jobengine.actors.rate_bucket import RateBucketActor
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.actors.runtime.dice import SystemDice
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.supervisor import ActorSpec, GroupSpec, Supervised, Supervisor
from jobengine.messages.rate_bucket import (
    Adapted,
    BucketLost,
    Configure,
    Learn,
    Limit,
    Peek,
    PushedBack,
    RateRequest,
    Refund,
    Reserve,
    Reserved,
)

LIMIT = Limit(key="host", gate="rate", per_minute_micro=60_000_000, burst=3, adaptive=True)


class Hosted:
    """A supervised host and the mailbox of the shard that it answers."""

    def __init__(self) -> None:
        asks = Asks()
        self.box: Mailbox[Any] = Mailbox("lease-shard-0", 100)
        self.actor = RateBucketActor(
            shard=0, owner=Address(self.box, asks), clock=SimulatedClock(0), asks=asks
        )
        self.changes: list[Supervised] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Hosted"]:
        root = GroupSpec("engine", (ActorSpec("rate-bucket-0", self.actor.run),))
        supervisor = Supervisor(
            root, dice=SystemDice(), incarnations=count(1), observe=self.changes.append
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            yield self
            nursery.cancel_scope.cancel()

    def configure(self, tenant_id: str, **more: Any) -> None:
        self.actor.deliver(Configure(tenant_id=tenant_id, limits=[LIMIT], states={}, **more))

    def reserve(self, tenant_id: str, stamp: int = 1, jobs: int = 1) -> None:
        wanted = [RateRequest("job", ("host",))] * jobs
        self.actor.deliver(Reserve(tenant_id=tenant_id, stamp=stamp, requests=wanted))

    async def answers(self) -> list[Any]:
        with trio.fail_after(60):
            return await self.box.take()

    async def silence(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert self.box.statistics().depth == 0


def crash(hosted: Hosted, tenant_id: str) -> None:
    """A message that no bucket understands."""
    hosted.actor.deliver(BucketLost(tenant_id=tenant_id, configured=0))


async def test_each_tenant_has_a_bucket_of_its_own(autojump_clock: MockClock) -> None:
    async with Hosted().running() as hosted:
        for tenant_id in ("acme", "zenith"):
            hosted.configure(tenant_id)
            hosted.reserve(tenant_id, jobs=4)
            (answer,) = await hosted.answers()
            assert isinstance(answer, Reserved)
            assert answer.tenant_id == tenant_id
            assert [denial is None for denial in answer.denials] == [True] * 3 + [False]
        assert hosted.actor.tenants == 2


async def test_a_bucket_that_was_never_configured_is_told_lost_once(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.reserve("acme", stamp=1)
        hosted.actor.deliver(Peek(tenant_id="acme", stamp=2, requests=[]))
        hosted.actor.deliver(Refund(tenant_id="acme", requests=[]))
        assert await hosted.answers() == [BucketLost(tenant_id="acme", configured=0)]
        await hosted.silence()
        hosted.configure("acme")
        hosted.reserve("acme", stamp=1)
        (answer,) = await hosted.answers()
        assert isinstance(answer, Reserved)


async def test_an_idle_bucket_is_retired_and_the_next_word_is_answered_lost(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("idle")
        hosted.configure("busy")
        for _ in range(8):
            await trio.sleep(100)
            hosted.reserve("busy")
            await hosted.answers()
        assert hosted.actor.tenants == 1
        hosted.reserve("idle", stamp=5)
        assert await hosted.answers() == [BucketLost(tenant_id="idle", configured=0)]
        hosted.configure("idle")
        hosted.reserve("idle", stamp=5)
        (answer,) = await hosted.answers()
        assert answer.stamp == 5


async def test_a_word_at_the_moment_of_retirement_is_answered_one_way_or_the_other(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        for number in range(20):
            tenant_id = f"tenant-{number}"
            hosted.configure(tenant_id)
            retired_at = trio.current_time() + 600
            await trio.sleep_until(retired_at + 6 * number)
            hosted.reserve(tenant_id, stamp=number)
            (answer,) = await hosted.answers()
            assert isinstance(answer, BucketLost | Reserved)
            assert answer.tenant_id == tenant_id


async def test_after_a_crash_every_tenant_of_the_former_life_is_told_lost(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        for tenant_id in ("acme", "zenith"):
            hosted.configure(tenant_id)
        crash(hosted, "acme")
        hosted.reserve("zenith")
        told: list[Any] = []
        while BucketLost(tenant_id="zenith", configured=0) not in told:
            told += await hosted.answers()
        lost = [answer for answer in told if isinstance(answer, BucketLost)]
        assert lost == [
            BucketLost(tenant_id="acme", configured=0),
            BucketLost(tenant_id="zenith", configured=0),
        ]
        assert [change.change for change in hosted.changes].count("restarting") == 1
        hosted.reserve("acme")
        await hosted.silence()
        hosted.configure("acme")
        hosted.reserve("acme")
        (answer,) = await hosted.answers()
        assert isinstance(answer, Reserved)


async def test_what_is_said_between_two_lives_is_told_lost_when_the_next_begins(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("acme")
        crash(hosted, "acme")
        await trio.testing.wait_all_tasks_blocked()
        assert hosted.box.statistics().depth == 0
        hosted.configure("zenith")
        hosted.reserve("zenith")
        told: list[Any] = []
        while len(told) < 2:
            told += await hosted.answers()
        assert {answer.tenant_id for answer in told} == {"acme", "zenith"}
        assert all(isinstance(answer, BucketLost) for answer in told)
        await hosted.silence()


def learn(hosted: Hosted, per_minute: int) -> None:
    hosted.actor.deliver(
        Learn(tenant_id="acme", key="host", learned_micro=per_minute * 1_000_000, pinned=True)
    )


async def adapted(hosted: Hosted, count: int) -> list[Adapted]:
    """What so many changes of a refill came to; a bucket that was lost is configured."""
    found: list[Adapted] = []
    while len(found) < count:
        for answer in await hosted.answers():
            if isinstance(answer, BucketLost):
                hosted.configure(answer.tenant_id)
            else:
                found.append(answer)
    return found


async def test_what_a_retired_bucket_is_told_is_heard_by_the_next_in_order(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("acme")
        await trio.sleep(700)
        assert hosted.actor.tenants == 0
        learn(hosted, 6)
        learn(hosted, 7)
        heard = await adapted(hosted, 2)
        assert [each.to_micro for each in heard] == [6_000_000, 7_000_000]
        await hosted.silence()


async def test_what_is_told_between_two_lives_is_heard_in_the_next(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("acme")
        await trio.testing.wait_all_tasks_blocked()
        crash(hosted, "acme")
        await trio.testing.wait_all_tasks_blocked()
        hosted.actor.deliver(PushedBack(tenant_id="acme", key="host", http_status=429))
        [heard] = await adapted(hosted, 1)
        assert heard.to_micro == 30_000_000


async def test_what_lies_in_the_mailbox_of_a_life_that_fails_is_heard_in_the_next(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("zenith")
        await trio.testing.wait_all_tasks_blocked()
        crash(hosted, "zenith")
        hosted.configure("acme")
        learn(hosted, 6)
        [heard] = await adapted(hosted, 1)
        assert heard.to_micro == 6_000_000


async def test_a_lost_bucket_names_the_last_configure_that_was_heard(
    autojump_clock: MockClock,
) -> None:
    async with Hosted().running() as hosted:
        hosted.configure("zenith", stamp=7)
        hosted.reserve("acme")
        assert await hosted.answers() == [BucketLost(tenant_id="acme", configured=7)]
