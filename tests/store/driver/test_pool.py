from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from jobengine.store.errors import ProgrammerError, StoreBusyError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.pool import PoolStatistics, open_pool

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server

Connect = Callable[[], Awaitable[Connection]]


def connect_to(server: Server) -> Connect:
    return lambda: Connection.connect(server.conninfo)


async def test_connections_open_when_needed_and_are_used_again(server: Server) -> None:
    async with open_pool(connect_to(server), size_max=3, dice=random.Random(1)) as pool:
        assert pool.statistics == PoolStatistics(open=0, idle=0, waiting=0, acquired_total=0)
        async with pool.connection() as first:
            assert await first.fetch("SELECT 1") == [(1,)]
            assert pool.statistics == PoolStatistics(open=1, idle=0, waiting=0, acquired_total=1)
        async with pool.connection() as again:
            assert again is first
        assert pool.statistics == PoolStatistics(open=1, idle=1, waiting=0, acquired_total=2)
    assert first.is_closed


async def test_no_more_than_size_max_are_ever_open(server: Server) -> None:
    most = 0

    async def work() -> None:
        nonlocal most
        async with pool.connection() as connection:
            most = max(most, pool.statistics.open)
            await connection.fetch("SELECT pg_sleep(0.002)")

    with trio.fail_after(20):
        async with open_pool(connect_to(server), size_max=2, dice=random.Random(1)) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(work)
            assert pool.statistics.acquired_total == 30
    assert most == 2


async def test_waiters_are_served_in_order_of_arrival_and_nobody_overtakes(server: Server) -> None:
    served: list[int] = []

    async def wait(number: int) -> None:
        async with pool.connection():
            served.append(number)
            await trio.lowlevel.checkpoint()

    with trio.fail_after(20):
        async with (
            open_pool(connect_to(server), size_max=1, dice=random.Random(1)) as pool,
            trio.open_nursery() as nursery,
        ):
            async with pool.connection():
                for number in range(10):
                    nursery.start_soon(wait, number)
                    await trio.testing.wait_all_tasks_blocked()
                assert pool.statistics.waiting == 10
            await wait(10)
    assert served == list(range(11))


async def test_waiting_ends_at_the_timeout_and_leaves_the_line(server: Server) -> None:
    async with open_pool(connect_to(server), size_max=1, dice=random.Random(1)) as pool:
        async with pool.connection():
            with pytest.raises(StoreBusyError, match=r"within 0.01 s: all of them are in use"):
                async with pool.connection(timeout_s=0.01):
                    pass
            assert pool.statistics.waiting == 0
        async with pool.connection(timeout_s=1) as connection:
            assert await connection.fetch("SELECT 1") == [(1,)]


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_waiter_cancelled_while_it_is_served_loses_no_connection(
    server: Server, cancelled_first: bool
) -> None:
    async def wait() -> None:
        async with pool.connection():
            await trio.sleep_forever()

    with trio.fail_after(20):
        async with open_pool(connect_to(server), size_max=1, dice=random.Random(1)) as pool:
            connection = await pool.acquire(timeout_s=10)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                if cancelled_first:
                    nursery.cancel_scope.cancel()
                pool.give_back(connection)
                nursery.cancel_scope.cancel()
            assert pool.statistics.idle == pool.statistics.open == 1
            assert connection.is_idle


async def test_a_connection_that_comes_back_unfit_is_replaced(server: Server) -> None:
    async with open_pool(connect_to(server), size_max=1, dice=random.Random(1)) as pool:
        async with pool.connection() as broken:
            broken.close()
        assert pool.statistics.open == 0
        async with pool.connection() as forgotten:
            transaction = forgotten.transaction()
            await transaction.__aenter__()
        assert forgotten.is_closed
        with pytest.raises(StoreUnavailableError):
            await transaction.__aexit__(None, None, None)
        async with pool.connection() as sly:
            await sly.execute_script("BEGIN")
        assert sly.is_closed
        async with pool.connection() as fresh:
            assert await fresh.fetch("SELECT 1") == [(1,)]


async def test_an_idle_connection_the_server_closed_is_not_lent_out(server: Server) -> None:
    async with open_pool(connect_to(server), size_max=2, dice=random.Random(1)) as pool:
        async with pool.connection() as first:
            pid = first.backend_pid
        server.admin(f"SELECT pg_terminate_backend({pid}, 5000)")
        async with pool.connection() as second:
            assert second is not first
            assert await second.fetch("SELECT 1") == [(1,)]
        assert pool.statistics.open == 1


async def test_a_connection_retires_at_the_end_of_its_life(
    server: Server, mock_clock: trio.testing.MockClock
) -> None:
    async with open_pool(
        connect_to(server), size_max=1, dice=random.Random(1), lifetime_s_max=3600
    ) as pool:
        async with pool.connection() as first:
            mock_clock.jump(3600 * 0.9 - 1)
        async with pool.connection() as again:
            assert again is first
            mock_clock.jump(3600 * 0.1 + 1)
        assert first.is_closed
        async with pool.connection() as second:
            assert second is not first
        mock_clock.jump(3600)
        async with pool.connection() as third:
            assert second.is_closed
            assert await third.fetch("SELECT 1") == [(1,)]


async def test_a_connection_that_is_not_needed_retires_too(
    server: Server, mock_clock: trio.testing.MockClock
) -> None:
    async with open_pool(
        connect_to(server), size_max=2, dice=random.Random(1), lifetime_s_max=3600
    ) as pool:
        async with pool.connection() as first:
            async with pool.connection() as spare:
                pass
            async with pool.connection() as again:
                assert again is spare
        async with pool.connection() as used:
            assert used is first
            mock_clock.jump(3600)
            await trio.testing.wait_all_tasks_blocked()
            assert spare.is_closed
            assert not used.is_closed
            assert pool.statistics == PoolStatistics(open=1, idle=0, waiting=0, acquired_total=4)
        assert used.is_closed


async def test_the_pool_recovers_when_the_server_restarts(running: Server) -> None:
    with trio.fail_after(30):
        async with open_pool(
            connect_to(running), size_max=2, dice=random.Random(1), backoff_s_max=0.05
        ) as pool:
            async with pool.connection() as first, pool.connection() as second:
                assert await first.fetch("SELECT 1") == await second.fetch("SELECT 1")
            await trio.to_thread.run_sync(running.stop)
            with pytest.raises(StoreUnavailableError, match=r"within 0.1 s: connection .* failed"):
                async with pool.connection(timeout_s=0.1):
                    pass
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, running.start)
                async with pool.connection(timeout_s=20) as third:
                    assert await third.fetch("SELECT 1") == [(1,)]
            assert pool.statistics.open == 1


async def test_failed_attempts_are_spaced_out_further_and_further(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tried_at: list[float] = []

    async def refuse() -> Connection:
        tried_at.append(trio.current_time())
        raise StoreUnavailableError("refused")

    async with open_pool(
        refuse, size_max=5, dice=random.Random(1), backoff_s_min=0.1, backoff_s_max=1.6
    ) as pool:
        with pytest.raises(StoreUnavailableError, match="refused"):
            async with pool.connection(timeout_s=30):
                pass
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried_at)]
    ceilings = [0.1, 0.2, 0.4, 0.8] + [1.6] * (len(gaps) - 4)
    assert all(
        ceiling / 2 <= gap <= ceiling * 1.0001 for gap, ceiling in zip(gaps, ceilings, strict=True)
    )
    assert len({round(gap / ceiling, 3) for gap, ceiling in zip(gaps, ceilings, strict=True)}) > 5


async def test_closing_refuses_newcomers_and_those_in_line(server: Server) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            async with pool.connection():
                pass

    with trio.fail_after(20):
        async with open_pool(connect_to(server), size_max=1, dice=random.Random(1)) as pool:
            async with pool.connection() as lent, trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await pool.aclose()
                assert await lent.fetch("SELECT 1") == [(1,)]
            assert lent.is_closed
            await wait()


async def test_what_connect_cannot_mend_ends_the_block() -> None:
    async def misconfigured() -> Connection:
        raise ProgrammerError("unreadable connection string")

    with pytest.RaisesGroup(pytest.RaisesExc(ProgrammerError, match="unreadable")):
        async with (
            open_pool(misconfigured, size_max=1, dice=random.Random(1)) as pool,
            pool.connection(),
        ):
            pass
