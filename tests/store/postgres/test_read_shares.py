"""One tenant's reads leave connections to everybody else."""

import random

import psycopg
import pytest
import trio
import trio.testing

from jobengine.store.errors import StoreBusyError
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.postgres.read_shares import ReadShares
from tests.store.conformance.scribe import TENANT, job_id

WITHIN_S = 20


async def hold(shares: ReadShares, tenant_id: str, until: trio.Event, held: list[str]) -> None:
    async with shares.of(tenant_id):
        held.append(tenant_id)
        await until.wait()


async def test_a_tenant_has_half_and_the_rest_of_its_reads_wait_in_line() -> None:
    shares, over, held = ReadShares(6, 5.0), trio.Event(), list[str]()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(hold, shares, "acme", over, held)
        nursery.start_soon(hold, shares, "other", over, held)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(held) == ["acme", "acme", "acme", "other"]
        over.set()
    assert held.count("acme") == 5


async def test_who_waits_too_long_for_its_tenants_share_is_told_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shares, over, held = ReadShares(1, 5.0), trio.Event(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, shares, "acme", over, held)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StoreBusyError, match="within 5 s: the tenant's reads have 1 already"):
            async with shares.of("acme"):
                pytest.fail("it had no share")
        over.set()
    async with shares.of("acme"):
        pass


async def test_a_read_that_is_cancelled_while_it_waits_takes_no_share_along() -> None:
    shares, over, held = ReadShares(2, 5.0), trio.Event(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, shares, "acme", over, held)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await hold(shares, "acme", over, held)
        over.set()
    for _ in range(2):
        async with shares.of("acme"):
            pass
    assert not shares._tenants


async def test_reads_that_hang_leave_other_tenants_theirs(migrated_database: str) -> None:
    read = 0
    async with open_postgres_store(
        migrated_database, dice=random.Random(1), pool_size_max=4
    ) as store:

        async def read_logs() -> None:
            nonlocal read
            await store.logs(TENANT, job_id(1), 0, 10)
            read += 1

        with trio.fail_after(WITHIN_S), psycopg.connect(migrated_database) as blocker:
            blocker.execute("LOCK TABLE job_logs IN ACCESS EXCLUSIVE MODE")
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(read_logs)
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(5):
                    assert await store.jobs("another", [job_id(1)]) == []
                assert read == 0
                blocker.rollback()
    assert read == 10
