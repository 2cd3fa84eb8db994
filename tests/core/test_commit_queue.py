"""What waits for a commit: order within a tenant, shares between tenants, bounded batches."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.commit_queue import Arrears, CommitPace, CommitQueue
from jobengine.core.commit_weight import Load, octets_of
from jobengine.domain.change import ChangeSet, LogRow
from jobengine.domain.entry import Entry
from jobengine.messages.ledger import Append, Fence


def change(tenant_id: str, stamp: int, entries: int = 1, logs_bytes: int = 0) -> Append:
    made = [Entry(actor="x", at=stamp, kind="k") for _ in range(entries)]
    lines = msgspec.Raw(b"x" * logs_bytes)
    logs = [LogRow(tenant_id=tenant_id, job_id="j", attempt=1, at=stamp, lines=lines)]
    changes = ChangeSet(tenant_id=tenant_id, entries=made, logs=logs if logs_bytes else [])
    return Append(life=1, sender=0, stamp=stamp, changes=changes)


def bound(entries: int, requests: int = 10_000, octets: int = 1 << 40) -> Load:
    return Load(entries, octets, requests)


def queue_of(*changes: Append) -> CommitQueue:
    queue = CommitQueue(60)
    for each in changes:
        queue.put(each)
    return queue


def composed(queue: CommitQueue, entries: int, requests: int) -> list[int]:
    """A batch that is settled at once."""
    batch = queue.compose(bound(entries, requests))
    queue.release(batch)
    return stamps(batch)


def stamps(batch: list[Append]) -> list[int]:
    return [request.stamp for request in batch]


def test_a_quiet_tenant_is_in_the_next_batch_however_long_the_queue_before_it_is() -> None:
    queue = queue_of(*(change("loud", number, 200) for number in range(1_000)))
    queue.put(change("quiet", 5_000, 3))
    batch = queue.compose(bound(1_000, 2_000))
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
        batch = queue.compose(bound(4_000, 10_000))
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
    first = queue.compose(bound(1, 1))
    assert stamps(first) == [0]
    assert stamps(queue.compose(bound(100, 1))) == [2]
    queue.put(change("a", 5))
    assert queue.compose(bound(100, 100)) == []
    assert len(queue) == 4
    queue.release(first)
    assert stamps(queue.compose(bound(100, 100))) == [1, 3, 5]


def test_a_change_without_entries_counts_as_one() -> None:
    queue = queue_of(*(change("logs", number, 0) for number in range(1_000)), change("b", 9_999))
    assert 9_999 in stamps(queue.compose(bound(12_000, 300)))


def test_a_batch_is_bounded_in_octets_but_takes_one_large_change() -> None:
    sizes = (700_000, 600_000, 300_000, 2_000_000, 10)
    queue = queue_of(*(change("a", number, 0, size) for number, size in enumerate(sizes)))
    batches = []
    while batch := queue.compose(bound(100, octets=1_000_000)):
        queue.release(batch)
        batches.append(stamps(batch))
    assert batches == [[0], [1, 2], [3], [4]]


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
        st.tuples(st.just("log"), st.sampled_from("abcd"), st.integers(1, 200_000)),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    steps=STEPS,
    requests_max=st.integers(1, 6),
    octets_max=st.sampled_from((1, 100_000, 250_000, 1 << 30)),
)
def test_all_leaves_once_in_the_order_of_its_tenant_within_the_bounds_and_its_fences(
    steps: list[tuple[str, str, int]], requests_max: int, octets_max: int
) -> None:
    queue = CommitQueue(60)
    put: list[Append | Fence] = []
    left: list[Append | Fence] = []

    def take(entries_max: int) -> bool:
        left.extend(queue.take_fences())
        batch = queue.compose(bound(entries_max, requests_max, octets_max))
        queue.release(batch)
        left.extend(batch)
        entries = [len(request.changes.entries) for request in batch]
        octets = [
            octets_of(request.changes, own) for request, own in zip(batch, entries, strict=True)
        ]
        assert len(batch) == 1 or sum(entries) <= entries_max
        assert len(batch) == 1 or sum(octets) <= octets_max
        assert len(batch) <= requests_max
        return bool(batch)

    for number, (what, tenant_id, size) in enumerate(steps):
        if what == "compose":
            take(size)
            continue
        message: Append | Fence = Fence(ask_id=number)
        if what != "fence":
            entries, logs_bytes = (size, 0) if what == "put" else (0, size)
            message = change(tenant_id, number, entries, logs_bytes)
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
    pace = CommitPace(500, bound(12_000), 0.05)
    for number in range(20):
        pace.note("a", number / 10)
        pace.learn(pace.bound(number / 10).entries, 0.5)
    assert pace.bound(2.0).entries == 12_000


def test_batches_that_tenants_share_grow_while_commits_are_quick_and_halve_when_one_is_slow() -> (
    None
):
    pace = CommitPace(500, bound(12_000), 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    assert pace.bound(0.0).entries == 500
    grown = []
    for _ in range(40):
        pace.learn(pace.bound(0.0).entries, 0.04)
        grown.append(pace.bound(0.0).entries)
    assert grown[:3] == [1_000, 1_500, 2_000]
    assert grown[-1] == 12_000
    for expected in (6_000, 3_000, 1_500, 750, 500, 500):
        pace.learn(pace.bound(0.0).entries, 0.06)
        assert pace.bound(0.0).entries == expected


@pytest.mark.parametrize("entries", [1, 249, 501, 20_000])
def test_a_batch_that_the_bound_did_not_shape_teaches_nothing(entries: int) -> None:
    pace = CommitPace(500, bound(12_000), 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    pace.learn(entries, 0.001)
    assert pace.bound(0.0).entries == 500


def test_a_ledger_is_shared_until_only_one_tenant_has_sent_for_a_while() -> None:
    pace = CommitPace(500, bound(12_000), 0.05)
    pace.note("a", 0.0)
    assert pace.bound(0.0).entries == 12_000
    pace.note("b", 1.0)
    pace.note("a", 1.1)
    for tenth in range(12, 61):
        pace.note("a", tenth / 10)
        assert pace.bound(tenth / 10).entries == 500
    assert pace.bound(6.2).entries == 12_000


def test_bounds_that_cross_are_the_smaller_one() -> None:
    pace = CommitPace(500, bound(100), 0.05)
    pace.note("a", 0.0)
    pace.note("b", 0.0)
    pace.learn(100, 0.01)
    assert pace.bound(0.0).entries == 100


def test_after_a_batch_that_was_too_much_all_bounds_are_half_of_it_and_grow_with_each_commit() -> (
    None
):
    most = Load(entries=12_000, octets=32_000_000, requests=2_000)
    pace = CommitPace(500, most, 0.05)
    pace.give_way(Load(entries=300, octets=16_000_000, requests=40))
    assert pace.bound(0.0) == Load(3_000, 8_000_000, 500)
    pace.give_way(Load(entries=150, octets=8_000_000, requests=20))
    assert pace.bound(0.0) == Load(1_500, 4_000_000, 250)
    pace.learn(1, 0.01)
    assert pace.bound(0.0) == Load(2_250, 6_000_000, 375)
    for _ in range(20):
        pace.learn(1, 0.01)
    assert pace.bound(0.0) == most


def test_a_batch_that_was_too_much_leaves_room_for_one_change_however_small_it_was() -> None:
    pace = CommitPace(500, Load(entries=12_000, octets=32_000_000, requests=2_000), 0.05)
    for _ in range(40):
        pace.give_way(Load(entries=0, octets=2, requests=2))
    assert pace.bound(0.0).requests == 1


def test_changes_wait_since_the_one_came_that_would_be_next_in_the_order_they_came_in() -> None:
    arrears = Arrears()
    since_s = [arrears.since_s]
    for now_s in (1.0, 1.0, 2.0, 3.0):
        arrears.grow(now_s)
    for count in (1, 1, 2):
        since_s.append(arrears.since_s)
        arrears.pay(count)
    since_s.append(arrears.since_s)
    arrears.grow(9.0)
    assert [*since_s, arrears.since_s] == [None, 1.0, 1.0, 2.0, None, 9.0]
