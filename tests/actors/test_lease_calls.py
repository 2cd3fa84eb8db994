"""Leases without a connection, against a whole engine in memory."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.lease_calls import LeaseCalls
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.session_registry import SessionRegistry
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.engine import Engine
from jobengine.messages.session import Grant
from jobengine.messages.worker_reports import Completed, GivenBack, LeaseClaim
from jobengine.testing import memory_engine
from tests.actors.bare_worker import TENANT, new_job, submit

SCAN = frozenset({"scan"})


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with memory_engine() as engine:
        yield engine


def calls(engine: Engine) -> LeaseCalls[LeaseClaim]:
    return LeaseCalls(engine.registry, lambda grant, _: _read(grant))


def _read(grant: Grant) -> LeaseClaim:
    return LeaseClaim(grant.lease_id, grant.token)


async def claim(engine: Engine, wait_s: float = 0, leases_max: int = 1) -> list[LeaseClaim]:
    return await calls(engine).claim(
        TENANT, "w", queues=frozenset(), job_types=SCAN, leases_max=leases_max, wait_s=wait_s
    )


def done(lease: LeaseClaim) -> Completed:
    return Completed(lease_id=lease.lease_id, token=lease.token, result=b"null")


async def test_a_claim_takes_what_is_there_up_to_its_maximum(
    engine: Engine, autojump_clock: MockClock
) -> None:
    await submit(engine, *[new_job(engine) for _ in range(3)])
    leases = await claim(engine, leases_max=2)
    assert len(leases) == 2
    assert len(await claim(engine, leases_max=2)) == 1
    for lease in leases:
        await calls(engine).report(TENANT, "me", done(lease))
    assert engine.registry.statistics().sessions == 0


async def test_a_claim_waits_for_a_first_job_and_no_longer_than_it_said(
    engine: Engine, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    assert await claim(engine, wait_s=20) == []
    assert trio.current_time() - started == pytest.approx(20, abs=1)
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(5)
            await submit(engine, new_job(engine))

        nursery.start_soon(later)
        started = trio.current_time()
        assert len(await claim(engine, wait_s=20)) == 1
        assert trio.current_time() - started == pytest.approx(5, abs=1)


async def test_a_claim_that_is_cancelled_gives_back_what_it_was_granted(
    engine: Engine, autojump_clock: MockClock
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim, engine, 20)
            await wait_all_tasks_blocked()
            await submit(engine, new_job(engine))
            scope.cancel()
    await wait_all_tasks_blocked()
    [lease] = await claim(engine, wait_s=5)
    assert lease.token >= 1


async def test_reports_are_settled_after_their_commit_and_lost_leases_refused(
    engine: Engine, autojump_clock: MockClock
) -> None:
    await submit(engine, new_job(engine))
    [lease] = await claim(engine)
    await calls(engine).report(TENANT, "me", done(lease))
    await calls(engine).report(TENANT, "me", done(lease))
    back = GivenBack(lease_id=lease.lease_id, token=lease.token)
    with pytest.raises(RefusedError) as refused:
        await calls(engine).report(TENANT, "me", back)
    assert refused.value.refusal.code == ErrorCode.LEASE_LOST


async def test_a_beat_keeps_a_lease_alive_and_names_a_lost_one(
    engine: Engine, autojump_clock: MockClock
) -> None:
    await submit(engine, new_job(engine))
    [lease] = await claim(engine)
    for _ in range(4):
        await trio.sleep(20)
        beaten = await calls(engine).beat(TENANT, "me", lease, b'{"percent":50}')
        assert list(beaten.lost) == []
    await trio.sleep(60)
    beaten = await calls(engine).beat(TENANT, "me", lease)
    assert list(beaten.lost) == [lease.lease_id]


async def test_a_full_or_silent_shard_is_unavailable(autojump_clock: MockClock) -> None:
    mailbox: Mailbox[object] = Mailbox("shard", 3)
    registry = SessionRegistry([Address(mailbox, Asks())], SimulatedClock(0))
    brief = LeaseCalls(registry, lambda grant, _: _read(grant))
    for code in (ErrorCode.STORE_UNAVAILABLE, ErrorCode.OVERLOADED):
        with pytest.raises(UnavailableError) as refused:
            await brief.report(TENANT, "me", done(LeaseClaim("l", 1)))
        assert refused.value.refusal.code == code
    assert registry.statistics().sessions == 0
