"""Random work over the real actors, with faults and restarts, audited from the ledger alone."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jobengine.actors.gateway import UnavailableError
from jobengine.domain.errors import RefusedError
from jobengine.domain.failure import Failure
from jobengine.domain.records import NewJob
from jobengine.engine import Engine
from jobengine.messages.lease_shard import (
    Actor,
    CancelJob,
    DiscardDeadLetter,
    IdempotencyClaim,
    ReleaseJob,
    ReplayJob,
    RetryJob,
)
from jobengine.messages.session import Beaten, Granted, Settled, ShardRestarted
from jobengine.messages.worker_reports import (
    Attach,
    Beat,
    Completed,
    Detach,
    Failed,
    GivenBack,
    LeaseClaim,
    Progressed,
    Report,
    Reports,
    SetCredit,
)
from jobengine.settings import Settings
from jobengine.testing import memory_engine
from tests.actors.auditor import FINAL, Auditor
from tests.actors.bare_worker import new_job
from tests.actors.faulty_store import FaultyStore, chance_of_faults

TENANTS = ("acme", "globex")
TYPES = ("scan", "fetch")
SMALL = Settings(shards=2, lane_jobs_max=64, window_jobs_max=64, due_jobs_max=16, ask_timeout_s=5.0)
LIVES = 3
LIFE_S = 60.0
HEAL_WITHIN_S = 4 * 3600.0


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Actors fail by the dozen here; rendering each failure takes longer than the rest."""
    with structlog.testing.capture_logs():
        yield


class Seen:
    """What the outside was told: it must all be true of the ledger."""

    def __init__(self) -> None:
        self.created: dict[str, list[str]] = {tenant: [] for tenant in TENANTS}
        self.granted: dict[str, int] = {}
        self.acked: dict[str, str] = {}


class SimulatedWorker:
    """A session that does with each lease what its dice say; ``honest`` ones complete them all."""

    def __init__(
        self, engine: Engine, seen: Seen, dice: random.Random, tenant: str, *, honest: bool
    ) -> None:
        self.engine, self.seen, self.dice, self.tenant = engine, seen, dice, tenant
        self.honest = honest
        self.worker_id = f"w{dice.randrange(4)}"
        self.capacity = 50 if honest else dice.randrange(1, 12)
        self.auto_credit = dice.random() < 0.5
        self.types = frozenset(TYPES if honest else dice.sample(TYPES, dice.randrange(0, 3)))
        self.held: dict[str, int] = {}
        self.unsettled: dict[str, Report] = {}
        self.shard = engine.registry.shard(tenant)
        self.session_id = engine.registry.enlist(tenant, self)
        self.send, self.todo = trio.open_memory_channel[Any](10_000)

    def hear(self, message: Any) -> None:
        if isinstance(message, Granted):
            for grant in message.leases:
                before = self.seen.granted.setdefault(grant.lease_id, self.session_id)
                assert before == self.session_id, f"{grant.lease_id} was granted twice"
                self.held[grant.lease_id] = grant.token
            assert len(self.held) <= self.capacity + len(self.unsettled)
        self.send.send_nowait(message)

    def tick(self, mono: float) -> None:
        pass

    async def run(self) -> None:
        try:
            await self.attach()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.beat)
                async for message in self.todo:
                    await self.answer(nursery, message)
        finally:
            self.engine.registry.dismiss(self.session_id)
            self.shard.deliver(Detach(session_id=self.session_id))

    async def attach(self) -> None:
        resume = [LeaseClaim(lease_id, token) for lease_id, token in self.held.items()]
        await self.shard.tell(
            Attach(
                session_id=self.session_id,
                tenant_id=self.tenant,
                worker_id=self.worker_id,
                task_runner_id="runner",
                queues=frozenset(),
                job_types=self.types,
                capacity=self.capacity,
                auto_credit=self.auto_credit,
                resume=resume,
            )
        )
        await self.credit()
        if self.unsettled:
            again = tuple(self.unsettled.values())
            await self.shard.tell(Reports(session_id=self.session_id, reports=again))

    async def credit(self) -> None:
        slots = max(0, self.capacity - len(self.held))
        await self.shard.tell(SetCredit(session_id=self.session_id, slots=slots))

    async def beat(self) -> None:
        while True:
            await trio.sleep(self.dice.uniform(1.0, 4.0))
            if self.honest or self.dice.random() < 0.9:
                await self.shard.tell(Beat(session_id=self.session_id, ref="beat"))
                await self.credit()

    async def answer(self, nursery: trio.Nursery, message: Any) -> None:
        match message:
            case Granted():
                for grant in message.leases:
                    nursery.start_soon(self.work, grant.lease_id, grant.token)
            case Settled():
                for ref in message.acks:
                    self.ended(str(ref), acked=True)
                for nack in message.nacks:
                    self.ended(str(nack.ref), acked=False)
            case Beaten():
                for lease_id in message.lost:
                    self.held.pop(lease_id, None)
                for lease_id in message.stop:
                    if lease_id in self.held:
                        await self.report(GivenBack, lease_id, self.held[lease_id])
            case ShardRestarted():
                await self.attach()

    def ended(self, ref: str, *, acked: bool) -> None:
        report = self.unsettled.pop(ref, None)
        if report is None:
            return
        self.held.pop(report.lease_id, None)
        if acked and isinstance(report, Completed):
            self.seen.acked[report.lease_id] = "completed"

    async def work(self, lease_id: str, token: int) -> None:
        dice = self.dice
        if self.honest:
            await self.report(Completed, lease_id, token, result=b"1")
            return
        await trio.sleep(dice.choice((0.0, 0.0, 0.5, 3.0, 9.0)))
        if dice.random() < 0.3:
            await self.report(Progressed, lease_id, token, note=b'{"percent":1}')
        fate = dice.random()
        if fate < 0.5:
            follow_ups = self.follow_ups() if dice.random() < 0.2 else ()
            await self.report(Completed, lease_id, token, result=b"1", follow_ups=follow_ups)
        elif fate < 0.7:
            error = Failure(class_="Boom", message="no", retryable=dice.random() < 0.8)
            await self.report(Failed, lease_id, token, error=error)
        elif fate < 0.85:
            await self.report(GivenBack, lease_id, token, delay_us=dice.choice((0, 5_000_000)))
        if dice.random() < 0.1:
            await self.report(Completed, lease_id, token, result=b"2")

    def follow_ups(self) -> tuple[NewJob, ...]:
        key = self.dice.choice((None, "f1", "f2"))
        return (new_job(self.engine, self.dice.choice(TYPES), unique_key=key),)

    async def report(
        self, kind: Callable[..., Report], lease_id: str, token: int, **also: Any
    ) -> None:
        ref = f"{kind.__name__}-{lease_id}-{self.dice.random()}"
        report = kind(ref=ref, lease_id=lease_id, token=token, **also)
        if kind is not Progressed:
            self.unsettled[ref] = report
        await self.shard.tell(Reports(session_id=self.session_id, reports=(report,)))


async def produce(engine: Engine, seen: Seen, dice: random.Random) -> None:
    while True:
        await trio.sleep(dice.uniform(0.0, 2.0))
        tenant = dice.choice(TENANTS)
        count = dice.choice((1, 1, 3, 40))
        jobs = [random_job(engine, dice) for _ in range(count)]
        claim = None
        if dice.random() < 0.2:
            claim = IdempotencyClaim(f"key{dice.randrange(5)}", "POST /jobs", "same")
        try:
            answer = await engine.gateway.submit(tenant, Actor("producer"), jobs, claim)
        except (UnavailableError, RefusedError):
            continue
        seen.created[tenant].extend(
            outcome.job_id for outcome in answer.outcomes if outcome.job_id is not None
        )


def random_job(engine: Engine, dice: random.Random) -> NewJob:
    now_at = engine.clock.moment().at
    fields: dict[str, Any] = {
        "hold": dice.random() < 0.1,
        "lease_us": dice.choice((5_000_000, 15_000_000)),
        "max_retries": dice.randrange(3),
        "priority": dice.randrange(10),
    }
    if dice.random() < 0.2:
        fields["not_before"] = now_at + dice.randrange(20_000_000)
    if dice.random() < 0.2:
        fields["expires_at"] = now_at + dice.randrange(60_000_000)
    if dice.random() < 0.1:
        fields["timeout_us"] = 4_000_000
    if dice.random() < 0.2:
        fields["unique_key"] = f"u{dice.randrange(6)}"
    return new_job(engine, dice.choice(TYPES), **fields)


async def operate(engine: Engine, seen: Seen, dice: random.Random) -> None:
    while True:
        await trio.sleep(dice.uniform(0.0, 1.0))
        tenant = dice.choice(TENANTS)
        known = seen.created[dice.choice((tenant, tenant, tenant, *TENANTS))]
        if known:
            await try_operation(engine, tenant, dice.choice(known[-60:]), dice)


async def try_operation(
    engine: Engine, tenant: str, job_id: str, dice: random.Random, kind: Any = None
) -> None:
    kind = kind or dice.choice((CancelJob, RetryJob, RetryJob, ReleaseJob, ReplayJob, "discard"))
    also: dict[str, Any] = {}
    if kind is ReplayJob:
        also["new_job_id"] = engine.gateway.new_job_ids(1)[0]
    if kind == "discard":
        kind, also = DiscardDeadLetter, {"dead_letter_id": f"{job_id}.{dice.randrange(1, 4)}"}
    with suppress(UnavailableError, RefusedError):
        await engine.gateway.operate(
            tenant,
            lambda ask_id: kind(
                ask_id=ask_id, tenant_id=tenant, job_id=job_id, actor=Actor("op"), **also
            ),
        )


async def come_and_go(engine: Engine, seen: Seen, dice: random.Random) -> None:
    """One worker after the other; each stays for a while, and some come back to their leases."""
    while True:
        worker = SimulatedWorker(engine, seen, dice, dice.choice(TENANTS), honest=False)
        with trio.move_on_after(dice.uniform(1.0, 30.0)):
            await worker.run()


async def crash_actors(engine: Engine, dice: random.Random) -> None:
    """Now and then a shard or the ledger meets a message that ends it."""
    boxes = [box for box in engine.mailboxes if box.name != "broadcaster"]
    while True:
        await trio.sleep(dice.uniform(10.0, 40.0))
        dice.choice(boxes).deliver(object())


async def live(store: FaultyStore, seen: Seen, dice: random.Random) -> None:
    with trio.move_on_after(LIFE_S):
        async with (
            memory_engine(store=store, settings=SMALL) as engine,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(produce, engine, seen, dice)
            nursery.start_soon(operate, engine, seen, dice)
            nursery.start_soon(crash_actors, engine, dice)
            for _ in range(5):
                nursery.start_soon(come_and_go, engine, seen, dice)


async def audit(store: FaultyStore, tenant: str) -> Auditor:
    auditor = Auditor()
    auditor.read(await store.inner.blocks(tenant, 0, 1_000_000, 1 << 40))
    return auditor


async def unfinished(store: FaultyStore, tenant: str) -> dict[str, str]:
    jobs = (await audit(store, tenant)).jobs
    return {job_id: job.state for job_id, job in jobs.items() if job.state not in FINAL}


async def heal(store: FaultyStore, seen: Seen, dice: random.Random) -> None:
    """Without faults and with honest workers, everything comes to its end."""
    store.plan = None
    async with (
        memory_engine(store=store, settings=SMALL) as engine,
        trio.open_nursery() as nursery,
    ):
        for tenant in TENANTS:
            worker = SimulatedWorker(engine, seen, dice, tenant, honest=True)
            nursery.start_soon(worker.run)
        deadline = trio.current_time() + HEAL_WITHIN_S
        for tenant in TENANTS:
            while left := await unfinished(store, tenant):
                assert trio.current_time() < deadline, f"stuck: {left}"
                for job_id, state in left.items():
                    if state == "pending":
                        await try_operation(engine, tenant, job_id, dice, ReleaseJob)
                await trio.sleep(60)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_and_nothing_runs_twice(seed: int, autojump_clock: MockClock) -> None:
    dice = random.Random(seed)
    seen = Seen()
    store = FaultyStore(plan=chance_of_faults(seed, 0.03 * (seed % 3)))
    for _ in range(LIVES):
        await live(store, seen, dice)
    await heal(store, seen, dice)
    for tenant in TENANTS:
        jobs = (await audit(store, tenant)).jobs
        assert len(jobs) > 50
        assert set(seen.created[tenant]) <= jobs.keys()
        stored = await store.inner.jobs(tenant, list(jobs))
        for job in stored:
            audited = jobs[job.job_id]
            assert (job.state, job.attempt) == (audited.state, audited.attempt)
            assert audited.state != "failed" or audited.dead_letters >= 1
        for lease_id, target in seen.acked.items():
            job_id, _, attempt = lease_id.partition(".")
            if job_id in jobs:
                assert jobs[job_id].ends[int(attempt)] == target
        counts = await store.inner.job_counts(tenant)
        assert not any(counts.values())
