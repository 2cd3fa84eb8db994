"""A window against the whole ordered set that it is a prefix of."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobengine.core.window import BEFORE_ALL, Key, Tally, Window

NUMBERS = st.integers(0, 30)
RANKS = st.integers(0, 40)


class WindowAgainstAStore(RuleBasedStateMachine):
    """``store`` maps each waiting item to (rank, version). What a refill reads is what the store
    held at any moment while it was under way."""

    @initialize(
        items_max=st.integers(2, 12),
        bytes_max=st.integers(3, 40),
        before=st.dictionaries(NUMBERS, RANKS, max_size=30),
    )
    def open(self, items_max: int, bytes_max: int, before: dict[int, int]) -> None:
        self.store: dict[str, tuple[int, int]] = {}
        self.version = 0
        for number, rank in before.items():
            self.put(f"j{number:02}", rank)
        self.tally = Tally()
        self.window: Window[int] = Window(
            items_max, bytes_max, horizon=BEFORE_ALL, tally=self.tally
        )
        self.reading: Key | None = None
        self.read: list[tuple[Key, int, int]] | None = None
        self.full = False
        self.stamp = 0

    def put(self, name: str, rank: int) -> int:
        self.version += 1
        self.store[name] = (rank, self.version)
        return self.version

    def page(self) -> tuple[list[tuple[Key, int, int]], bool]:
        after = self.reading or BEFORE_ALL
        rows = [
            ((rank, name), version, 1)
            for rank, name, version in sorted((r, n, v) for n, (r, v) in self.store.items())
            if (rank, name) > after
        ]
        page = max(1, self.window.items_max // 2)
        return rows[:page], len(rows) < page

    @rule(number=NUMBERS, rank=RANKS, size=st.integers(1, 6))
    def offer(self, number: int, rank: int, size: int) -> None:
        name = f"j{number:02}"
        if name in self.store:
            return
        self.window.offer((rank, name), self.put(name, rank), size)

    @rule(number=NUMBERS, size=st.integers(1, 6))
    def offer_again(self, number: int, size: int) -> None:
        name = f"j{number:02}"
        if name in self.store:
            rank, version = self.store[name]
            self.window.offer((rank, name), version, size)

    @rule(number=NUMBERS)
    def discard(self, number: int) -> None:
        self.store.pop(f"j{number:02}", None)
        self.window.discard(f"j{number:02}")

    @precondition(lambda self: self.window.first() is not None)
    @rule()
    def pop(self) -> None:
        first = min((rank, name) for name, (rank, _) in self.store.items())
        assert self.window.first() == first
        assert self.window.pop() == self.store.pop(first[1])[1]

    @rule()
    def evict(self) -> None:
        self.window.evict()

    @precondition(lambda self: self.window.wants_refill)
    @rule()
    def begin_refill(self) -> None:
        self.stamp += 1
        self.reading = self.window.begin_refill(self.stamp)
        self.read = None

    @precondition(lambda self: self.window.stamp is not None and self.read is None)
    @rule()
    def read_store(self) -> None:
        self.read, self.full = self.page()

    @precondition(lambda self: self.window.stamp is not None)
    @rule()
    def finish_refill(self) -> None:
        if self.read is None:
            self.read, self.full = self.page()
        self.window.finish_refill(self.read, complete=self.full)
        self.read = None

    @precondition(lambda self: self.window.stamp is not None)
    @rule()
    def abandon_refill(self) -> None:
        self.window.abandon_refill()
        self.read = None

    def held(self) -> dict[str, Any]:
        return self.window._items

    @invariant()
    def nothing_at_or_before_the_horizon_is_missing_and_nothing_else_is_there(self) -> None:
        for name, (rank, version) in self.store.items():
            held = self.held().get(name)
            if self.window.admits((rank, name)):
                assert held is not None
            if held is not None:
                assert held[:2] == ((rank, name), version)
        assert self.held().keys() <= self.store.keys()

    @invariant()
    def memory_is_bounded(self) -> None:
        window = self.window
        assert len(window) <= window.items_max
        assert self.tally.items == len(window)
        assert window._bytes == sum(held[2] for held in self.held().values())
        assert window._bytes <= window.bytes_max or len(window) == 1
        assert len(window._outdated) <= window.items_max + 1
        assert len(window._late) <= window.items_max

    def teardown(self) -> None:
        """Left alone, the window hands out all that is left, in order."""
        if not hasattr(self, "window"):
            return
        if self.window.stamp is not None:
            self.window.abandon_refill()
        left = sorted((rank, name) for name, (rank, _) in self.store.items())
        popped = []
        for _ in range(200):
            first = self.window.first()
            if first is not None:
                popped.append(first)
                self.store.pop(first[1])
                self.window.pop()
            elif self.window.wants_refill:
                self.begin_refill()
                self.finish_refill()
            else:
                break
        assert popped == left
        assert self.window.drained


TestWindowAgainstAStore = WindowAgainstAStore.TestCase
TestWindowAgainstAStore.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)


def test_an_item_offered_anew_during_a_refill_is_not_replaced_by_an_older_reading() -> None:
    window: Window[str] = Window(10, 1000, horizon=(50, ""))
    window.begin_refill(1)
    window.offer((10, "a"), "new", 1)
    window.finish_refill([((60, "a"), "old", 1)], complete=True)
    assert (len(window), window.first(), window.pop()) == (1, (10, "a"), "new")


def test_items_that_come_and_go_leave_no_keys_behind() -> None:
    window: Window[int] = Window(100, 10_000)
    window.offer((0, "first"), 0, 1)
    for number in range(10_000):
        window.offer((number, f"j{number}"), number, 1)
        window.discard(f"j{number}")
        window.offer((0, "first"), 0, 1)
    assert len(window._heap) < 200
    assert window.first() == (0, "first")


def test_what_leaves_during_a_long_read_is_remembered_within_a_bound() -> None:
    window: Window[int] = Window(100, 10_000, horizon=(10**9, ""))
    window.begin_refill(1)
    for number in range(10_000):
        window.offer((number, f"j{number}"), number, 1)
        window.pop()
    assert len(window._outdated) <= 101
    window.finish_refill([((10**9 + 1, "j5"), 5, 1)], complete=True)
    assert (len(window), window.horizon) == (0, (10**9, ""))
    assert window.wants_refill
