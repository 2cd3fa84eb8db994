"""What waits for a commit: order within a tenant, shares between tenants, bounded batches."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.commit_queue import CommitPace, CommitQueue
from jobengine.domain.change import ChangeSet
from jobengine.domain.entry import Entry
from jobengine.messages.ledger import Append, Fence


def change(tenant_id: str, stamp: int, entries: int = 1) -> Append:
    made = [Entry(actor="x", at=stamp, kind="k") for _ in range(entries)]
    changes = ChangeSet(tenant_id=tenant_id, entries=made, rows=[], spans=[])
    return Append(life=1, sender=0, stamp=stamp, changes=changes)


def queue_of(*changes: Append) -> CommitQueue:
    queue = CommitQueue(60)
    for each in changes:
        queue.put(each)
    return queue


def composed(queue: CommitQueue, entries_max: int, requests_max: int) -> list[int]:
    """A batch that is settled at once."""
    batch = queue.compose(entries_max, requests_max)
    queue.release(batch)
    return stamps(batch)


def stamps(batch: list[Append]) -> list[int]:
    return [request.stamp for request in batch]


def test_a_quiet_tenant_is_in_the_next_batch_however_long_the_queue_before_it_is() -> None:
    queue = queue_of(*(change("loud", number, 200) for number in range(1_000)))
    queue.put(change("quiet", 5_000, 3))
    batch = queue.compose(1_000, 2_000)
    assert 5_000 in stamps(batch)
    assert len(batch) == 5


def test_tenants_that_all_send_much_share_batches_by_entries() -> None:
    sizes = {"a": 1_000, "b": 10, "c": 100}
    queue = CommitQueue(60)
    for tenant_id, size in sizes.items():
        for number in range(60_000 // size):
            queue.put(change(tenant_id, number, size))
    shares: Counter[str] = Counter()
    for _ in range(15):
        batch = queue.compose(4_000, 10_000)
        queue.release(batch)
        for request in batch:
            shares[request.changes.tenant_id] += sizes[request.changes.tenant_id]
    assert max(shares.values()) - min(shares.values()) <= 60 + 2 * 1_000


def test_a_change_larger_than_any_batch_goes_alone_once_the_small_ones_have_gone() -> None:
    queue = queue_of(change("bulk", 1, 20_000), change("quiet", 2), change("other", 3))
    assert composed(queue, 500, 100) == [2, 3]
    queue.put(change("quiet", 4))
    assert composed(queue, 500, 100) == [1]
    assert composed(queue, 500, 100) == [4]
    assert composed(queue, 500, 100) == []


def test_a_tenant_on_its_way_is_left_out_until_it_is_settled_and_keeps_its_order() -> None:
    queue = queue_of(*(change(tenant_id, number) for number, tenant_id in enumerate("aabab")))
    first = queue.compose(1, 1)
    assert stamps(first) == [0]
    assert stamps(queue.compose(100, 1)) == [2]
    queue.put(change("a", 5))
    assert queue.compose(100, 100) == []
    assert len(queue) == 4
    queue.release(first)
    assert stamps(queue.compose(100, 100)) == [1, 3, 5]


def test_a_change_without_entries_counts_as_one() -> None:
    queue = queue_of(*(change("logs", number, 0) for number in range(1_000)), change("b", 9_999))
    assert 9_999 in stamps(queue.compose(12_000, 300))


def test_a_fence_is_taken_when_all_before_it_has_left_and_lets_the_next_ones_up() -> None:
    queue = queue_of(change("a", 1))
    for message in (Fence(ask_id=1), Fence(ask_id=2), change("b", 2), Fence(ask_id=3)):
        queue.put(message)
    queue.put(change("a", 3))
    assert len(queue) == 3
    assert queue.take_fences() == []
    assert composed(queue, 100, 100) == [1]
    assert composed(queue, 100, 100) == []
    assert queue.take_fences() == [Fence(ask_id=1), Fence(ask_id=2)]
    assert composed(queue, 100, 100) == [2]
    assert queue.take_fences() == [Fence(ask_id=3)]
    assert composed(queue, 100, 100) == [3]
    assert queue.take_fences() == []
    assert len(queue) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(0, 700)),
        st.tuples(st.just("fence"), st.just(""), st.just(0)),
        st.tuples(st.just("compose"), st.just(""), st.integers(1, 900)),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(steps=STEPS, requests_max=st.integers(1, 6))
def test_all_leaves_once_in_the_order_of_its_tenant_within_the_bounds_and_its_fences(
    steps: list[tuple[str, str, int]], requests_max: int
) -> None:
    queue = CommitQueue(60)
    put: list[Append | Fence] = []
    left: list[Append | Fence] = []

    def take(entries_max: int) -> bool:
        left.extend(queue.take_fences())
        batch = queue.compose(entries_max, requests_max)
        queue.release(batch)
        left.extend(batch)
        entries = sum(len(request.changes.entries) for request in batch)
        assert len(batch) == 1 or entries <= entries_max
        assert len(batch) <= requests_max
        return bool(batch)

    for number, (what, tenant_id, size) in enumerate(steps):
        if what == "compose":
            take(size)
            continue
        message = change(tenant_id, number, size) if what == "put" else Fence(ask_id=number)
        put.append(message)
        queue.put(message)
    while take(700):
        pass
    assert len(queue) == 0
    assert sorted(map(name, left)) == sorted(map(name, put))
    for tenant_id in "abcd":
        own = [name(m) for m in put if isinstance(m, Fence) or m.changes.tenant_id == tenant_id]
        assert [each for each in map(name, left) if each in own] == own


def name(message: Append | Fence) -> int:
    return message.ask_id if isinstance(message, Fence) else message.stamp


def test_a_tenant_that_is_alone_has_the_largest_batches_and_slow_commits_do_not_change_that() -> (
    None
):
    pace = CommitPace(500, 12_000, 0.05)
    for number in range(20):
        pace.note("a", number / 10)
        pace.learn(pace.bound(number / 10), 0.5)
    assert pace.bound(2.0) == 12_000


def test_batches_that_tenants_share_grow_while_commits_are_quick_and_halve_when_one_is_slow() -> (
    None
):
    pace = CommitPace(500, 12_000, 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    assert pace.bound(0.0) == 500
    grown = []
    for _ in range(40):
        pace.learn(pace.bound(0.0), 0.04)
        grown.append(pace.bound(0.0))
    assert grown[:3] == [1_000, 1_500, 2_000]
    assert grown[-1] == 12_000
    for expected in (6_000, 3_000, 1_500, 750, 500, 500):
        pace.learn(pace.bound(0.0), 0.06)
        assert pace.bound(0.0) == expected


@pytest.mark.parametrize("entries", [1, 249, 501, 20_000])
def test_a_batch_that_the_bound_did_not_shape_teaches_nothing(entries: int) -> None:
    pace = CommitPace(500, 12_000, 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    pace.learn(entries, 0.001)
    assert pace.bound(0.0) == 500


def test_a_ledger_is_shared_until_only_one_tenant_has_sent_for_a_while() -> None:
    pace = CommitPace(500, 12_000, 0.05)
    pace.note("a", 0.0)
    assert pace.bound(0.0) == 12_000
    pace.note("b", 1.0)
    pace.note("a", 1.1)
    for tenth in range(12, 61):
        pace.note("a", tenth / 10)
        assert pace.bound(tenth / 10) == 500
    assert pace.bound(6.2) == 12_000


def test_bounds_that_cross_are_the_smaller_one() -> None:
    pace = CommitPace(500, 100, 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    pace.learn(100, 0.01)
    assert pace.bound(0.0) == 100
