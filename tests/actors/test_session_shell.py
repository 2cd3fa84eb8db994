"""The shell of a worker session over channels in memory, against a shard that records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.frame_channel import ChannelClosedError, MemoryChannel, memory_channels
from jobengine.actors.gateway import Gateway
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.session import SessionPorts, ShellLimits, run_session
from jobengine.actors.session_registry import SessionRegistry
from jobengine.core.session import SessionLimits
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.ids import shard_of
from jobengine.domain.job import Definition, Job
from jobengine.http.worker_frames import WorkerFrames
from jobengine.http.worker_reading import WorkerReader
from jobengine.messages.session import (
    Attached,
    Beaten,
    Grant,
    Granted,
    Nacked,
    Peer,
    Settled,
    StopLease,
)
from jobengine.messages.worker_reports import (
    Attach,
    Beat,
    Detach,
    Drain,
    GivenBack,
    Reports,
    SetCredit,
)
from jobengine.testing import memory_engine

TENANT = "acme"
SHARDS = 2
PEER = Peer(tenant_id=TENANT, subject="me", scopes=frozenset({"orch:work", "orch:submit"}))


class Shard:
    """Records what it is told; answers attaches, beats and drains, and settles every report."""

    def __init__(self, capacity: int = 1000) -> None:
        self.mailbox: Mailbox[Any] = Mailbox("shard", capacity)
        self.told: list[Any] = []
        self.settles = True
        self.running = trio.Event()
        self.registry: SessionRegistry

    async def run(self) -> None:
        while True:
            await self.running.wait()
            for message in await self.mailbox.take():
                self.told.append(message)
                answer = self.answer(message)
                if answer is not None:
                    self.registry.deliver(message.session_id, answer)

    def answer(self, message: Any) -> Any:
        match message:
            case Attach():
                resumed = [claim.lease_id for claim in message.resume]
                return Attached(resumed=resumed, lost=[])
            case Beat():
                return Beaten(ref=message.ref, stop=[], lost=[])
            case Drain():
                return Settled(acks=[message.ref])
            case Reports() if self.settles:
                return Settled(acks=[report.ref for report in message.reports])
        return None

    def kinds(self) -> list[type]:
        return [type(message) for message in self.told]


@attrs.frozen
class World:
    shard: Shard
    registry: SessionRegistry
    ports: SessionPorts
    nursery: trio.Nursery
    faults: list[BaseException]

    async def _serve(self, channel: MemoryChannel) -> None:
        await run_session(channel, PEER, self.ports)
        channel.cut()

    @asynccontextmanager
    async def session(self, frames_max: float = 100) -> AsyncIterator["Worker"]:
        ours, theirs = memory_channels(frames_max)
        self.nursery.start_soon(self._serve, theirs)
        await wait_all_tasks_blocked()
        yield Worker(ours)
        ours.cut()
        await wait_all_tasks_blocked()


@attrs.frozen
class Worker:
    channel: MemoryChannel

    async def say(self, *messages: dict[str, Any]) -> None:
        await self.channel.send(msgspec.json.encode(messages).decode())

    async def hello(self, **fields: Any) -> None:
        given = {"workerId": "w", "queues": ["q"], "capacity": 100}
        await self.say({"op": "hello", **given, **fields})
        (welcome,) = await self.frame()
        assert welcome["op"] == "welcome"

    async def frame(self) -> list[dict[str, Any]]:
        with trio.fail_after(60):
            frame = msgspec.json.decode(await self.channel.receive())
        return frame if isinstance(frame, list) else [frame]

    async def closed(self) -> ChannelClosedError:
        with trio.fail_after(60), pytest.raises(ChannelClosedError) as closed:
            await self.channel.receive()
        return closed.value


@asynccontextmanager
async def open_world(
    *,
    limits: SessionLimits | None = None,
    shell: ShellLimits | None = None,
    capacity: int = 1000,
) -> AsyncIterator[World]:
    clock = SimulatedClock(1_700_000_000_000_000)
    shard, asks = Shard(capacity), Asks()
    faults: list[BaseException] = []
    addresses = [Address(shard.mailbox, asks)] * SHARDS
    registry = shard.registry = SessionRegistry(addresses, clock)
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        gateway: Gateway = engine.gateway
        ports = SessionPorts(
            registry=registry,
            gateway=gateway,
            clock=clock,
            codec=WorkerFrames(WorkerReader(gateway.new_job_ids), "n1"),
            limits=limits or SessionLimits(),
            shell=shell or ShellLimits(),
            failed=faults.append,
        )
        shard.running.set()
        nursery.start_soon(shard.run)
        nursery.start_soon(registry.run)
        yield World(shard, registry, ports, nursery, faults)
        assert faults == []
        nursery.cancel_scope.cancel()


def done(ref: int, lease_id: str = "l") -> dict[str, Any]:
    return {"op": "complete", "ref": ref, "leaseId": lease_id, "token": 1}


def granted(count: int, payload: bytes = b"{}") -> Granted:
    definition = Definition(job_type="t", queue="q", payload_digest="")
    job = Job(
        job_id="j",
        tenant_id=TENANT,
        definition=definition,
        definition_json=b"{}",
        payload=payload,
        created_at=0,
    )
    return Granted(leases=[Grant(job, f"l{n}", 1, 1_700_000_000_000_000) for n in range(count)])


async def test_a_frame_of_reports_is_one_message_and_one_answer() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello()
        await worker.say(*[done(n, f"l{n}") for n in range(100)])
        assert [message["ref"] for message in await worker.frame()] == list(range(100))
        assert world.shard.kinds() == [Attach, Reports]


async def test_all_that_one_step_of_the_engine_says_is_one_frame() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello()
        for message in (
            granted(2),
            Settled(acks=[1, 2, None], nacks=[Nacked(None, Refusal(ErrorCode.LEASE_LOST, "x"))]),
            StopLease(lease_id="l0", reason="user_cancelled", grace_s=5),
        ):
            world.registry.deliver(1, message)
        ops = [message["op"] for message in await worker.frame()]
        assert ops == ["lease", "lease", "ack", "ack", "nack", "cancel"]


async def test_at_the_end_of_a_step_what_it_said_has_left_in_one_frame() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello()
        with world.registry.step_end:
            world.registry.deliver(1, granted(2))
            world.registry.deliver(1, Settled(acks=[1]))
            wakeups = trio.lowlevel.current_statistics().tasks_runnable
            world.registry.deliver(1, Settled(acks=[2]))
            assert trio.lowlevel.current_statistics().tasks_runnable == wakeups
        ops = [message["op"] for message in await worker.frame()]
        assert ops == ["lease", "lease", "ack", "ack"]


async def test_what_finds_no_room_at_the_end_of_a_step_leaves_in_order_when_there_is() -> None:
    async with open_world() as world, world.session(frames_max=0) as worker:
        await worker.hello()
        for ref in range(3):
            with world.registry.step_end:
                world.registry.deliver(1, Settled(acks=[ref]))
            await wait_all_tasks_blocked()
        refs = [message["ref"] for _ in range(2) for message in await worker.frame()]
        assert refs == [0, 1, 2]


async def test_a_worker_that_takes_nothing_from_the_end_of_a_step_is_cut_off(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.session(frames_max=0) as worker:
        await worker.hello()
        with world.registry.step_end:
            world.registry.deliver(1, Settled(acks=[1]))
        await trio.sleep(ShellLimits().send_s_max + 3)
        assert world.shard.kinds() == [Attach, Detach]


async def test_a_lease_is_read_when_it_is_granted_not_when_it_is_sent() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello()
        grant = granted(1)
        world.registry.deliver(1, grant)
        grant.leases[0].job.attempt = 9
        grant.leases[0].job.payload = b"[]"
        (lease,) = await worker.frame()
        assert (lease["idempotencyKey"], lease["payload"]) == ("j:0", {})


async def test_while_the_shard_has_no_room_nothing_more_is_read_and_nothing_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_world(capacity=2) as world, world.session(frames_max=0) as worker:
        await worker.hello()
        world.shard.running = trio.Event()
        await worker.say({"op": "heartbeat", "ref": "wakes the shard"})
        await worker.frame()
        sent = 0
        with trio.move_on_after(1) as scope:
            while True:
                await worker.say(done(sent, f"l{sent}"))
                sent += 1
        assert scope.cancelled_caught
        assert sent < 10
        world.shard.running.set()
        acked: list[int] = []
        while len(acked) < sent:
            acked += [message["ref"] for message in await worker.frame()]
        assert acked == list(range(sent))


async def test_a_session_that_ends_while_it_waits_for_room_still_detaches_last() -> None:
    async with open_world(capacity=1) as world:
        world.shard.running = trio.Event()
        async with world.session() as first:
            await first.say({"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1})
            async with world.session() as second:
                await second.say({"op": "hello", "workerId": "v", "queues": ["q"], "capacity": 1})
                await second.say({"op": "hello", "workerId": "v", "queues": ["q"], "capacity": 1})
                await wait_all_tasks_blocked()
                await world.registry.stop(0)
        world.shard.running.set()
        await wait_all_tasks_blocked()
        for session_id in (1, 2):
            kinds = [type(m) for m in world.shard.told if m.session_id == session_id]
            assert Attach not in kinds or kinds[-1] is Detach


async def test_unsettled_reports_past_the_bound_stop_the_reading(
    autojump_clock: MockClock,
) -> None:
    limits = SessionLimits(unsettled_max=10)
    async with open_world(limits=limits) as world, world.session(frames_max=0) as worker:
        await worker.hello()
        world.shard.settles = False
        await worker.say(*[done(n, f"l{n}") for n in range(10)])
        with trio.move_on_after(100) as scope:
            await worker.say({"op": "heartbeat"})
        assert scope.cancelled_caught
        world.registry.deliver(1, Settled(acks=[3]))
        await worker.frame()
        await worker.say({"op": "heartbeat", "ref": 1})
        assert (await worker.frame())[0]["ref"] == 1


async def test_a_restarted_shard_learns_of_leases_reports_and_credit() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello()
        world.shard.settles = False
        await worker.say({"op": "credit", "slots": 5})
        await wait_all_tasks_blocked()
        world.registry.deliver(1, granted(2))
        await worker.frame()
        await worker.say(done(7, "l0"))
        await wait_all_tasks_blocked()
        world.shard.told.clear()
        world.shard.settles = True
        world.registry.shard_restarted(1 - shard_of(TENANT, SHARDS))
        await wait_all_tasks_blocked()
        assert world.shard.told == []
        world.registry.shard_restarted(shard_of(TENANT, SHARDS))
        assert (await worker.frame()) == [{"op": "ack", "ref": 7}]
        attach, credit, reports = world.shard.told
        assert {claim.lease_id for claim in attach.resume} == {"l0", "l1"}
        assert (credit.slots, reports.reports[0].ref) == (3, 7)


async def test_a_silent_worker_is_hung_up_on_and_a_beating_one_is_not(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.session() as quiet, world.session() as lively:
        await quiet.hello()
        await lively.hello()
        for _ in range(3):
            await trio.sleep(30)
            await lively.say({"op": "heartbeat", "ref": "b"})
            await lively.frame()
        assert (await quiet.closed()).code == 1008
        assert world.registry.statistics().sessions == 1
        assert [m.session_id for m in world.shard.told if isinstance(m, Detach)] == [1]


async def test_no_hello_is_named_before_the_end(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.session() as worker:
        (error,) = await worker.frame()
        assert error["code"] == "HELLO_REQUIRED"
        assert (await worker.closed()).code == 1008
        assert world.shard.told == []


async def test_a_worker_that_takes_nothing_is_cut_off(autojump_clock: MockClock) -> None:
    shell = ShellLimits(send_s_max=30)
    async with open_world(shell=shell) as world, world.session(frames_max=0) as worker:
        await worker.say({"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1})
        await trio.sleep(29)
        assert world.registry.statistics().sessions == 1
        await trio.sleep(4)
        assert world.registry.statistics().sessions == 0
        assert world.shard.kinds() == [Attach, Detach]


async def test_leases_for_a_session_that_is_gone_are_given_back() -> None:
    async with open_world() as world:
        async with world.session() as worker:
            await worker.hello()
        world.shard.told.clear()
        world.registry.deliver(1, granted(2))
        await wait_all_tasks_blocked()
        back = [r for m in world.shard.told if isinstance(m, Reports) for r in m.reports]
        assert [(type(r), r.lease_id) for r in back] == [(GivenBack, "l0"), (GivenBack, "l1")]
        assert world.registry.statistics().given_back_total == 2


async def test_a_programmer_error_ends_one_session_only() -> None:
    async with open_world() as world:
        async with world.session() as hit, world.session() as other:
            await hit.hello()
            await other.hello()
            world.registry.deliver(1, object())  # type: ignore[arg-type]
            assert (await hit.closed()).code == 1006
            await other.say({"op": "heartbeat", "ref": 1})
            assert (await other.frame())[0]["ref"] == 1
        (fault,) = world.faults
        assert isinstance(fault, AssertionError)
        assert world.registry.statistics().failed_total == 1
        assert world.shard.kinds().count(Detach) == 2
        world.faults.clear()


async def test_a_submit_is_acked_item_by_item_after_its_commit() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.hello(capacity=0)
        jobs: list[Any] = [{"jobType": "a"}, {"jobType": "no name"}, {"jobType": "a"}]
        answers: list[list[str]] = []
        for replay in range(2):
            await worker.say({"op": "submit", "ref": replay, "jobs": jobs, "idempotencyKey": "k"})
            (ack,) = await worker.frame()
            assert [item["outcome"] for item in ack["jobs"]] == ["created", "rejected", "created"]
            answers.append([item.get("jobId") for item in ack["jobs"]])
        assert answers[0] == answers[1]
        await worker.say({"op": "submit", "ref": 9, "jobs": jobs[:1], "idempotencyKey": "k"})
        (nack,) = await worker.frame()
        assert (nack["op"], nack["code"]) == ("nack", "IDEMPOTENCY_MISMATCH")


async def test_a_submit_while_the_database_is_away_is_refused_for_now() -> None:
    async with open_world() as world, world.session() as worker:
        world.ports.gateway.ledger.away_since_mono = 0.0
        await worker.hello(capacity=0)
        await worker.say({"op": "submit", "ref": 1, "jobs": [{"jobType": "a"}]})
        (nack,) = await worker.frame()
        assert (nack["ref"], nack["code"]) == (1, "STORE_UNAVAILABLE")


def deaf(world: World, capacity: int) -> tuple[Mailbox[Any], Asks]:
    """Let submits go to a shard that never answers."""
    mailbox, asks = Mailbox[Any]("deaf", capacity), Asks()
    world.ports.gateway.shards = [Address(mailbox, asks)]
    return mailbox, asks


async def test_a_submit_without_an_answer_in_time_is_refused_and_a_late_one_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world(limits=SessionLimits(silent_s_max=1000, submits_max=1)) as world,
        world.session() as worker,
    ):
        mailbox, asks = deaf(world, 10)
        await worker.hello(capacity=0)
        for ref in (1, 2):
            began = trio.current_time()
            await worker.say({"op": "submit", "ref": ref, "jobs": [{"jobType": "a"}]})
            (nack,) = await worker.frame()
            assert (nack["ref"], nack["code"]) == (ref, "STORE_UNAVAILABLE")
            waited_s = trio.current_time() - began
            assert 0 <= waited_s - world.ports.gateway.ask_timeout_s <= 1
        asks.answer((await mailbox.take())[0].ask_id, None)
        assert (len(asks), asks.dropped_total) == (0, 1)


async def test_a_submit_that_finds_no_room_is_refused_at_once() -> None:
    async with open_world() as world, world.session() as worker:
        deaf(world, 1)
        await worker.hello(capacity=0)
        await worker.say(
            *({"op": "submit", "ref": ref, "jobs": [{"jobType": "a"}]} for ref in (1, 2))
        )
        (nack,) = await worker.frame()
        assert (nack["ref"], nack["code"]) == (2, "OVERLOADED")


async def test_a_session_that_ends_forgets_its_submits() -> None:
    async with open_world() as world:
        _, asks = deaf(world, 10)
        async with world.session() as worker:
            await worker.hello(capacity=0)
            await worker.say({"op": "submit", "jobs": [{"jobType": "a"}]})
            await wait_all_tasks_blocked()
            assert len(asks) == 1
        assert len(asks) == 0


async def test_credit_follows_hello_without_waiting_for_welcome() -> None:
    async with open_world() as world, world.session() as worker:
        await worker.say(
            {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 5},
            {"op": "credit", "slots": 5},
        )
        await worker.frame()
        assert world.shard.kinds() == [Attach, SetCredit]
