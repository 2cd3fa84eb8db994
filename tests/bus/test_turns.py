"""Whose events are published next: nobody twice at once, nobody forgotten, nothing backwards."""

from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.bus.turns import Turns
from jobengine.store.feeds import FeedBehind

TENANTS = ("a", "b", "c")


def test_tenants_take_turns_and_come_again_while_they_are_behind() -> None:
    turns = Turns()
    turns.found([FeedBehind("a", 0, 10), FeedBehind("b", 2, 4)])
    assert (turns.tenants_behind, turns.events_behind) == (2, 12)
    assert turns.take() == "a"
    assert turns.confirm("a", 5)
    turns.give_back("a")
    assert turns.take() == "b"
    assert not turns.confirm("b", 4)
    turns.give_back("b")
    assert turns.take() == "a"
    assert turns.take() is None
    assert turns.events_behind == 5


def test_who_is_taken_is_nobody_elses_also_when_its_ledger_moves_on() -> None:
    turns = Turns()
    turns.moved("a", 3)
    assert turns.take() == "a"
    assert not turns.confirm("a", 3)
    turns.moved("a", 4)
    turns.found([FeedBehind("a", 0, 4)])
    assert turns.take() is None
    assert turns.confirmed("a") == 3
    turns.give_back("a")
    assert turns.take() == "a"


def test_a_cursor_of_the_store_that_is_older_moves_nothing_back() -> None:
    turns = Turns()
    turns.found([FeedBehind("a", 0, 3)])
    turns.take()
    turns.confirm("a", 3)
    turns.give_back("a")
    turns.found([FeedBehind("a", 1, 3)])
    assert turns.take() is None
    turns.found([FeedBehind("a", 1, 5)])
    assert turns.take() == "a"
    assert turns.confirmed("a") == 3


def test_of_tenants_that_are_not_behind_a_bounded_number_is_remembered() -> None:
    turns = Turns(settled_max=1)
    for tenant_id in ("a", "b"):
        turns.found([FeedBehind(tenant_id, 0, 1)])
        turns.take()
        turns.confirm(tenant_id, 1)
        turns.give_back(tenant_id)
    turns.moved("a", 2)
    turns.moved("b", 2)
    assert [turns.take(), turns.take()] == ["a", "b"]
    assert (turns.confirmed("a"), turns.confirmed("b")) == (None, 1)


STEP = st.tuples(
    st.sampled_from(["moved", "found", "take", "confirm", "give_back"]),
    st.sampled_from(TENANTS),
    st.integers(1, 3),
)


@settings(max_examples=200)
@given(st.lists(STEP, max_size=60), st.integers(0, 3))
def test_whatever_happens_everybody_is_served_to_the_end(
    steps: list[tuple[str, str, int]], settled_max: int
) -> None:
    turns = Turns(settled_max)
    ends = dict.fromkeys(TENANTS, 0)
    published = dict.fromkeys(TENANTS, 0)
    taken: set[str] = set()

    def confirm(tenant_id: str, count: int) -> None:
        known = turns.confirmed(tenant_id)
        assert known is None or known <= published[tenant_id]
        published[tenant_id] = min(ends[tenant_id], published[tenant_id] + count)
        turns.confirm(tenant_id, published[tenant_id])

    for what, tenant_id, number in steps:
        if what == "moved":
            ends[tenant_id] += number
            turns.moved(tenant_id, ends[tenant_id])
        elif what == "found" and published[tenant_id] < ends[tenant_id]:
            stored = max(0, published[tenant_id] - number)
            turns.found([FeedBehind(tenant_id, stored, ends[tenant_id])])
        elif what == "take" and (next_id := turns.take()) is not None:
            assert next_id not in taken
            taken.add(next_id)
        elif what == "confirm" and tenant_id in taken:
            confirm(tenant_id, number)
        elif what == "give_back" and tenant_id in taken:
            taken.remove(tenant_id)
            turns.give_back(tenant_id)
    for tenant_id in sorted(taken):
        turns.give_back(tenant_id)
    for _ in range(1_000):
        next_id = turns.take()
        if next_id is None:
            break
        confirm(next_id, 1)
        turns.give_back(next_id)
    assert published == ends
    assert (turns.tenants_behind, turns.events_behind) == (0, 0)
