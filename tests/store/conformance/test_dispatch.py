"""What dispatching reads: lanes, ready jobs, delayed and expiring ones, live leases."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from jobengine.domain.change import JobRow
from jobengine.store.port import Lane, Ranked, Store
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)

LANE = Lane(TENANT, "scans", "scan")


async def collect(
    read: Callable[[tuple[int, str] | None], Awaitable[Sequence[Ranked]]],
    place: Callable[[Ranked], int],
) -> list[str]:
    """Ids of all pages."""
    after: tuple[int, str] | None = None
    found: list[str] = []
    while page := await read(after):
        found += [ranked.job.job_id for ranked in page]
        after = (place(page[-1]), page[-1].job.job_id)
    return found


async def test_ready_jobs_come_by_rank_and_then_by_id(store: Store, scribe: Scribe) -> None:
    ranks = {1: 30, 2: 10, 3: 20, 4: 10, 5: 20, 6: 10, 7: -5}
    await scribe.rows(*(new_row(number, rank=rank) for number, rank in ranks.items()))
    expected = [job_id(n) for n in sorted(ranks, key=lambda n: (ranks[n], n))]
    for size in (1, 2, 3, 100):

        async def read(after: tuple[int, str] | None, size: int = size) -> Sequence[Ranked]:
            return await store.ready(LANE, after, NOW, size, 10**9)

        assert await collect(read, lambda ranked: ranked.rank) == expected


async def test_ready_leaves_out_what_is_not_due_pending_running_or_elsewhere(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(
        new_row(1, due_at=NOW + 1, delayed=True),
        new_row(2, "pending"),
        new_row(3, "running"),
        new_row(4, about=definition(queue="other")),
        new_row(5, about=definition(job_type="other")),
        new_row(6, tenant_id="other"),
        new_row(7),
    )
    found = await store.ready(LANE, None, NOW, 100, 10**9)
    assert [ranked.job.job_id for ranked in found] == [job_id(7)]
    found = await store.ready(LANE, None, NOW + 1, 100, 10**9)
    assert [ranked.job.job_id for ranked in found] == [job_id(1), job_id(7)]


@pytest.mark.parametrize(("bytes_max", "count"), [(0, 1), (9, 1), (20, 2), (29, 2), (30, 3)])
async def test_ready_stops_at_its_bytes_but_gives_one_job(
    store: Store, scribe: Scribe, bytes_max: int, count: int
) -> None:
    payload = b'"12345678"'
    await scribe.rows(*(new_row(number, payload=payload) for number in (1, 2, 3, 4)))
    assert len(await store.ready(LANE, None, NOW, 100, bytes_max)) == count


async def test_ready_gives_jobs_back_with_a_new_rank(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2))
    await scribe.rows(change_row(await scribe.job(1), "scheduled", rank=200))
    found = await store.ready(LANE, None, NOW, 100, 10**9)
    assert [(ranked.rank, ranked.job.job_id) for ranked in found] == [
        (100, job_id(2)),
        (200, job_id(1)),
    ]


async def test_lanes_are_those_of_the_shard_with_a_due_job_in_order(
    store: Store, scribe: Scribe
) -> None:
    number = 0

    def row(tenant_id: str, queue: str, job_type: str, **fields: Any) -> JobRow:
        nonlocal number
        number += 1
        about = definition(queue=queue, job_type=job_type)
        return new_row(number, tenant_id=tenant_id, about=about, **fields)

    await scribe.rows(
        row("b", "q2", "t1"),
        row("b", "q1", "t2"),
        row("b", "q1", "t1"),
        row("b", "q1", "t1"),
        row("b", "q0", "t1", due_at=NOW + 1, delayed=True),
        row("a", "q1", "t1", shard=4),
        row("c", "q1", "t1", shard=4),
        row("c", "q2", "t1", shard=4),
        row("d", "q", "t", state="pending"),
        row("e", "q", "t"),
        row("B", "q", "t"),
    )
    assert await store.lanes(SHARD, NOW) == [
        Lane("B", "q", "t"),
        Lane("b", "q1", "t1"),
        Lane("b", "q1", "t2"),
        Lane("b", "q2", "t1"),
        Lane("e", "q", "t"),
    ]
    assert await store.lanes(4, NOW) == [
        Lane("a", "q1", "t1"),
        Lane("c", "q1", "t1"),
        Lane("c", "q2", "t1"),
    ]
    assert await store.lanes(5, NOW) == []
    assert Lane("b", "q0", "t1") in await store.lanes(SHARD, NOW + 1)


async def test_delayed_jobs_come_by_due_instant_and_id_with_their_rank(
    store: Store, scribe: Scribe
) -> None:
    due = {1: 9, 2: 5, 3: 9, 4: 5, 5: 5}
    await scribe.rows(
        *(
            new_row(n, due_at=NOW + at, delayed=True, rank=n * 10, tenant_id="ab"[n % 2])
            for n, at in due.items()
        ),
        new_row(6, due_at=NOW + 5),
        new_row(7, "pending", due_at=NOW + 5, delayed=True),
        new_row(8, due_at=NOW + 5, delayed=True, shard=4, tenant_id="z"),
    )
    for size in (1, 2, 100):

        async def read(after: tuple[int, str] | None, size: int = size) -> Sequence[Ranked]:
            return await store.delayed(SHARD, after, size)

        found = await collect(read, lambda ranked: ranked.job.due_at)
        assert found == [job_id(n) for n in (2, 4, 5, 1, 3)]
    assert [ranked.rank for ranked in await store.delayed(SHARD, None, 2)] == [20, 40]


async def test_a_job_granted_or_released_is_no_longer_delayed(store: Store, scribe: Scribe) -> None:
    await scribe.rows(*(new_row(n, due_at=NOW + 1, delayed=True) for n in (1, 2)))
    await scribe.rows(
        change_row(await scribe.job(1), "running"),
        change_row(await scribe.job(2), "scheduled", delayed=False),
    )
    assert await store.delayed(SHARD, None, 10) == []


async def test_expiring_jobs_come_by_expiry_and_id_while_they_wait(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(
        new_row(1, "pending", expires_at=NOW + 9),
        new_row(2, expires_at=NOW + 5),
        new_row(3, expires_at=NOW + 9, tenant_id="other"),
        new_row(4),
        new_row(5, "running", expires_at=NOW + 1),
        new_row(6, expires_at=NOW + 1, shard=4, tenant_id="z"),
    )
    found = []
    after = None
    while page := await store.expiring(SHARD, after, 1):
        found.append((page[0].at - NOW, page[0].tenant_id, page[0].job_id))
        after = (page[0].at, page[0].job_id)
    assert found == [(5, TENANT, job_id(2)), (9, TENANT, job_id(1)), (9, "other", job_id(3))]


async def test_leases_come_by_tenant_and_id_with_who_holds_them(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(
        new_row(2, "running", worker_id="w2", task_runner_id="r2", started_at=NOW + 2),
        new_row(1, "running"),
        new_row(3, "running", tenant_id="a"),
        new_row(4, "running", tenant_id="z", shard=4),
    )
    found = await store.leased(SHARD)
    assert [(lease.job.tenant_id, lease.job.job_id) for lease in found] == [
        ("a", job_id(3)),
        (TENANT, job_id(1)),
        (TENANT, job_id(2)),
    ]
    last = found[-1]
    assert (last.worker_id, last.task_runner_id, last.granted_at) == ("w2", "r2", NOW + 2)


async def test_jobs_granted_at_one_instant_have_each_their_own_holder(
    store: Store, scribe: Scribe
) -> None:
    async def holders() -> list[tuple[str, str]]:
        found = await store.leased(SHARD)
        return [(each.job.job_id, each.worker_id) for each in found]

    await scribe.rows(
        *(new_row(n, "running", worker_id=f"w{n % 2}", attempt=n) for n in (1, 2, 3, 4)),
        new_row(5, "running", worker_id="w5", started_at=NOW + 1),
    )
    assert await holders() == [
        (job_id(n), worker) for n, worker in enumerate(("w1", "w0", "w1", "w0", "w5"), start=1)
    ]
    await scribe.rows(
        change_row(await scribe.job(1), "completed"), change_row(await scribe.job(2), "scheduled")
    )
    assert await holders() == [(job_id(3), "w1"), (job_id(4), "w0"), (job_id(5), "w5")]
    granted = change_row(await scribe.job(2), "running", worker_id="w9", attempt=9)
    await scribe.rows(granted, new_row(6, "running", worker_id="w6"))
    assert await holders() == [
        (job_id(2), "w9"),
        (job_id(3), "w1"),
        (job_id(4), "w0"),
        (job_id(5), "w5"),
        (job_id(6), "w6"),
    ]
