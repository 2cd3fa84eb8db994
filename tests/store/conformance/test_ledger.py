"""The ledger read back: blocks from any sequence number, entries by theirs."""

from jobengine.domain.change import ChangeSet
from jobengine.domain.entry import Entry, next_link
from jobengine.domain.instant import DAY
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe, new_row


async def write_entries(scribe: Scribe, *counts: int, days: bool = False) -> None:
    """A block for each count, holding so many entries; with `days` each on a day of its own."""
    for place, count in enumerate(counts):
        entries = [Entry(actor="test", at=NOW, kind=f"k{place}.{n}") for n in range(count)]
        at = NOW + place * DAY if days else NOW
        await scribe.write(ChangeSet(tenant_id=TENANT, entries=entries), at=at)


async def test_blocks_come_back_with_the_bytes_that_were_hashed(
    store: Store, scribe: Scribe
) -> None:
    await write_entries(scribe, 3, 1, 200)
    found = await store.blocks(TENANT, 0, 100, 10**9)
    assert list(found) == scribe.written[TENANT]
    assert all(block.link == next_link(block.previous, block.body) for block in found)
    for heads in (store.heads, store.settled_heads):
        assert await heads([TENANT, "nobody"]) == {TENANT: scribe.heads[TENANT]}
    assert await store.settled_heads([]) == {}


async def test_blocks_start_at_any_sequence_number_also_inside_of_one(
    store: Store, scribe: Scribe
) -> None:
    await write_entries(scribe, 3, 1, 4, 2)
    for after_seq in range(12):
        found = await store.blocks(TENANT, after_seq, 100, 10**9)
        assert list(found) == [b for b in scribe.written[TENANT] if b.last_seq > after_seq]


async def test_blocks_stop_at_their_number_and_bytes_but_give_one(
    store: Store, scribe: Scribe
) -> None:
    await write_entries(scribe, 2, 2, 2, 2)
    written = scribe.written[TENANT]
    size = len(written[0].body)
    assert list(await store.blocks(TENANT, 0, 2, 10**9)) == written[:2]
    assert list(await store.blocks(TENANT, 0, 9, 0)) == written[:1]
    assert list(await store.blocks(TENANT, 0, 9, size * 3)) == written[:3]
    assert list(await store.blocks(TENANT, 0, 9, size * 3 - 1)) == written[:2]


async def test_blocks_of_several_days_are_one_sequence(store: Store, scribe: Scribe) -> None:
    await write_entries(scribe, 2, 2, 2, 2, days=True)
    assert list(await store.blocks(TENANT, 3, 2, 10**9)) == scribe.written[TENANT][1:3]
    assert [entry.seq for entry in await store.entries(TENANT, [8, 1, 4])] == [1, 4, 8]


async def test_entries_are_found_by_their_numbers_in_order(store: Store, scribe: Scribe) -> None:
    await write_entries(scribe, 3, 1, 4)
    found = await store.entries(TENANT, [8, 4, 2, 3, 2, 99, 0])
    assert [(entry.seq, entry.kind) for entry in found] == [
        (2, "k0.1"),
        (3, "k0.2"),
        (4, "k1.0"),
        (8, "k2.3"),
    ]
    assert await store.entries(TENANT, []) == []
    assert await store.entries("nobody", [1]) == []


async def test_the_history_of_a_job_is_found_by_the_numbers_on_its_row(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1), new_row(2))
    job = await scribe.job(2)
    (entry,) = await store.entries(TENANT, job.seqs)
    assert (entry.job, entry.to) == (job.job_id, "scheduled")


async def test_ledgers_of_tenants_are_apart(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2, tenant_id="other"))
    await scribe.rows(new_row(3))
    assert [block.last_seq for block in await store.blocks(TENANT, 0, 9, 10**9)] == [1, 2]
    assert [block.last_seq for block in await store.blocks("other", 0, 9, 10**9)] == [1]
