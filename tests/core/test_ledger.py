"""The ledger's core: numbers, links, and what becomes of a batch that did not answer."""

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.ledger import LedgerCore, LedgerLimits
from jobengine.core.machine import Answer
from jobengine.domain.change import ChangeSet, CommitBatch, JobRow, LogRow
from jobengine.domain.entry import GENESIS, Block, Entry, Head, decode_entries, next_link
from jobengine.domain.instant import Moment
from jobengine.messages.ledger import (
    Abandon,
    Append,
    BatchCommitted,
    BatchRefused,
    BatchUnavailable,
    Confirm,
    Deny,
    Fence,
    HeadsLoaded,
    HeadsUnavailable,
    LoadHeads,
    Publish,
    ReportAway,
    ReportBack,
    Write,
)
from jobengine.messages.wake import Wake


class Driver:
    """A ledger core and a store of heads and blocks that answers when it is told to."""

    def __init__(self, **limits: Any) -> None:
        self.core = LedgerCore(LedgerLimits(**limits))
        self.mono = 0.0
        self.heads: dict[str, Head] = {}
        self.blocks: list[Block] = []
        self.published: list[Block] = []
        self.inbox: deque[Any] = deque()
        self.said: list[Any] = []
        self.asked: Any = None
        self.stamps = 0

    def send(self, message: Any) -> list[Any]:
        commands = list(self.core.handle(message, Moment(self.mono, int(self.mono * 1e6))))
        for command in commands:
            if isinstance(command, Write | LoadHeads):
                assert self.asked is None, "I1: two things under way"
                self.asked = command
            elif isinstance(command, Publish):
                self.published.extend(command.blocks)
            else:
                self.said.append(command)
        return commands

    def append(self, sender: int = 0, tenant_id: str = "a", count: int = 1, **also: Any) -> int:
        self.stamps += 1
        entries = [Entry(actor="x", at=self.stamps, kind=f"k{self.stamps}") for _ in range(count)]
        row = JobRow(tenant_id=tenant_id, shard=0, job_id=f"j{self.stamps}", state="pending")
        changes = ChangeSet(
            tenant_id=tenant_id,
            entries=entries,
            rows=[row] if count else [],
            spans=[(0, count)] if count else [],
            **also,
        )
        self.send(Append(sender=sender, stamp=self.stamps, changes=changes))
        return self.stamps

    def wake(self) -> None:
        """Let the pause pass that the core wants, if it wants one."""
        if self.core.wakeup_at is not None:
            assert self.core.wakeup_at > self.mono
            self.mono = self.core.wakeup_at
            self.send(Wake())

    # ---- what the store does with what was asked

    def apply(self, batch: CommitBatch) -> bool:
        for block in batch.blocks:
            if self.heads.get(block.tenant_id, Head(1, GENESIS)) != Head(
                block.first_seq, block.previous
            ):
                return False
        for block in batch.blocks:
            assert block.link == next_link(block.previous, block.body)
            self.heads[block.tenant_id] = Head(block.last_seq + 1, block.link)
            self.blocks.append(block)
        return True

    def take(self, kind: type) -> Any:
        asked, self.asked = self.asked, None
        assert isinstance(asked, kind)
        return asked

    def load(self) -> None:
        asked = self.take(LoadHeads)
        heads = {name: self.heads[name] for name in asked.tenant_ids if name in self.heads}
        self.send(HeadsLoaded(stamp=asked.stamp, tenant_ids=asked.tenant_ids, heads=heads))

    def commit(self) -> None:
        asked = self.take(Write)
        assert self.apply(asked.batch)
        self.send(BatchCommitted(stamp=asked.stamp))

    def lose(self, *, applied: bool) -> None:
        asked = self.take(Write)
        if applied:
            self.apply(asked.batch)
        self.send(BatchUnavailable(stamp=asked.stamp, unknown=True, why="lost"))

    def fail(self) -> None:
        asked = self.take(Write)
        self.send(BatchUnavailable(stamp=asked.stamp, unknown=False, why="away"))

    def refuse(self) -> None:
        asked = self.take(Write)
        self.send(BatchRefused(stamp=asked.stamp, why="bad"))

    def settle(self) -> None:
        for _ in range(1000):
            if isinstance(self.asked, LoadHeads):
                self.load()
            elif self.asked is not None:
                self.commit()
            elif self.core.wakeup_at is not None:
                self.wake()
            else:
                return
        raise AssertionError("the ledger does not come to rest")

    def confirmed(self) -> list[tuple[int, int]]:
        return [(said.stamp, said.first_seq) for said in self.said if isinstance(said, Confirm)]


def test_what_waits_while_a_batch_is_under_way_becomes_the_next_batch() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for _ in range(3):
        driver.append(count=2)
    assert len(driver.asked.batch.changes) == 1
    driver.commit()
    assert len(driver.asked.batch.changes) == 3
    driver.commit()
    assert driver.confirmed() == [(1, 1), (2, 2), (3, 4), (4, 6)]
    assert [(block.first_seq, block.last_seq) for block in driver.blocks] == [(1, 1), (2, 7)]
    assert driver.published == driver.blocks


def test_rows_carry_the_numbers_of_their_own_entries() -> None:
    driver = Driver()
    driver.append(count=2)
    driver.load()
    driver.commit()
    driver.append(count=3)
    [changes] = driver.asked.batch.changes
    assert changes.rows[0].seqs == [3, 4, 5]
    assert [entry.seq for entry in decode_entries(driver.asked.batch.blocks[0].body)] == [3, 4, 5]


def test_a_batch_stops_at_its_bounds_but_takes_one_large_request() -> None:
    driver = Driver(batch_entries_max=4, batch_requests_max=3)
    driver.append(count=9)
    driver.load()
    for count in (3, 1, 1, 1, 1, 1):
        driver.append(count=count)
    sizes = []
    while driver.asked is not None:
        sizes.append(len(driver.asked.batch.changes))
        driver.commit()
    assert sizes == [1, 2, 3, 1]


def test_a_batch_that_is_not_known_is_settled_by_where_the_heads_stand() -> None:
    for applied in (True, False):
        driver = Driver()
        driver.append(tenant_id="a")
        driver.append(tenant_id="b")
        driver.load()
        driver.load()
        driver.lose(applied=applied)
        assert driver.said == [ReportAway(why="lost")]
        driver.wake()
        driver.load()
        driver.settle()
        assert [stamp for stamp, _ in driver.confirmed()] == [1, 2]
        assert len(driver.blocks) == 2


def test_a_batch_still_under_way_when_it_is_sent_again_takes_effect_once() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    first = driver.asked.batch
    driver.lose(applied=False)
    driver.wake()
    driver.load()
    again = driver.take(Write)
    assert driver.apply(first)
    assert not driver.apply(again.batch)
    driver.send(BatchUnavailable(stamp=again.stamp, unknown=True, why="head moved"))
    driver.settle()
    assert driver.confirmed() == [(1, 1)]
    assert len(driver.blocks) == 1


def test_heads_that_somebody_else_has_moved_are_no_longer_ours() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    driver.lose(applied=False)
    driver.heads["a"] = Head(9, b"x" * 32)
    driver.wake()
    driver.load()
    assert isinstance(driver.said[-1], Abandon)
    assert driver.confirmed() == []


def test_a_bad_change_is_denied_alone_and_the_others_commit_in_order() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    stamps = [driver.append() for _ in range(3)]
    driver.commit()
    driver.refuse()
    driver.append()
    driver.commit()
    driver.refuse()
    driver.settle()
    denied = [said.stamp for said in driver.said if isinstance(said, Deny)]
    assert denied == [stamps[1]]
    assert driver.confirmed() == [(1, 1), (stamps[0], 2), (stamps[2], 3), (stamps[2] + 1, 4)]


def test_a_fence_is_answered_once_all_before_it_is_settled_and_nothing_after_it() -> None:
    driver = Driver()
    driver.append()
    driver.send(Fence(ask_id=1))
    driver.append()
    driver.send(Fence(ask_id=2))
    driver.load()
    assert driver.said == []
    driver.commit()
    assert [type(said) for said in driver.said] == [Confirm, Answer]
    assert len(driver.asked.batch.changes) == 1
    driver.fail()
    driver.send(Fence(ask_id=3))
    assert not any(said == Answer(2, None) for said in driver.said)
    driver.settle()
    answers = [said.ask_id for said in driver.said if isinstance(said, Answer)]
    assert answers == [1, 2, 3]


def test_an_idle_ledger_answers_a_fence_at_once() -> None:
    driver = Driver()
    driver.send(Fence(ask_id=1))
    assert driver.said == [Answer(1, None)]


def test_a_database_that_is_away_is_reported_once_and_tried_at_growing_pauses() -> None:
    driver = Driver(backoff_s_max=2.0)
    driver.append()
    driver.load()
    pauses = []
    for _ in range(10):
        before = driver.mono
        driver.fail()
        driver.wake()
        pauses.append(driver.mono - before)
    assert pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) == pauses[-1] == pytest.approx(2.0)
    driver.commit()
    kinds = [type(said) for said in driver.said]
    assert kinds == [ReportAway, ReportBack, Confirm]


def test_heads_that_cannot_be_read_are_read_again() -> None:
    driver = Driver()
    driver.append()
    for _ in range(3):
        asked = driver.take(LoadHeads)
        driver.send(HeadsUnavailable(stamp=asked.stamp))
        driver.wake()
    driver.settle()
    assert driver.confirmed() == [(1, 1)]


def test_a_batch_of_logs_alone_has_no_block_and_is_confirmed() -> None:
    driver = Driver()
    log = LogRow(tenant_id="a", job_id="j", attempt=1, at=0, lines=msgspec.Raw(b"[]"))
    driver.append(count=0, logs=[log])
    driver.load()
    assert driver.asked.batch.blocks == ()
    driver.lose(applied=True)
    driver.settle()
    assert [stamp for stamp, _ in driver.confirmed()] == [1]
    assert driver.published == []


def test_the_heads_that_are_remembered_are_bounded() -> None:
    driver = Driver(heads_max=3)
    for number in range(10):
        driver.append(tenant_id=f"t{number % 5}")
        driver.settle()
    assert len(driver.core._heads) == 3
    assert all(head.next_seq == 3 for head in driver.heads.values())


OUTCOMES = ("commit", "fail", "lost", "lost_applied", "refuse", "late")


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 2), st.integers(0, 3)),
            st.tuples(st.just("outcome"), st.sampled_from(OUTCOMES), st.just(0)),
            st.tuples(st.just("fence"), st.just(0), st.just(0)),
        ),
        max_size=50,
    ),
    requests_max=st.integers(1, 4),
)
def test_every_request_is_settled_once_and_in_order_whatever_the_store_does(
    steps, requests_max
) -> None:
    driver = Driver(batch_requests_max=requests_max, batch_entries_max=6)
    sent: list[tuple[int, int, str]] = []
    fences: dict[int, int] = {}
    for kind, first, second in steps:
        if kind == "append":
            tenant_id = "abc"[second % 3]
            stamp = driver.append(sender=first, tenant_id=tenant_id, count=1 + second)
            sent.append((first, stamp, tenant_id))
        elif kind == "fence":
            driver.send(Fence(ask_id=len(fences) + 1))
            fences[len(fences) + 1] = len(sent)
        else:
            outcome(driver, first)
    driver.settle()
    settled = [
        (said.sender, said.stamp) for said in driver.said if isinstance(said, Confirm | Deny)
    ]
    assert sorted(settled) == sorted((sender, stamp) for sender, stamp, _ in sent)
    for sender in range(3):
        own = [stamp for who, stamp in settled if who == sender]
        assert own == [stamp for who, stamp, _ in sent if who == sender]
    answered = [said.ask_id for said in driver.said if isinstance(said, Answer)]
    assert answered == list(fences)
    for ask_id, before in fences.items():
        position = driver.said.index(Answer(ask_id, None))
        earlier = {
            said.stamp for said in driver.said[:position] if isinstance(said, Confirm | Deny)
        }
        assert earlier >= {stamp for _, stamp, _ in sent[:before]}
    check_chain(driver)


def outcome(driver: Driver, kind: str) -> None:
    if driver.asked is None:
        driver.wake()
    elif kind == "late":
        driver.send(BatchCommitted(stamp=driver.asked.stamp - 1))
        driver.send(BatchRefused(stamp=driver.asked.stamp - 1, why="late"))
        driver.send(HeadsUnavailable(stamp=driver.asked.stamp + 1))
    elif isinstance(driver.asked, LoadHeads):
        if kind == "fail":
            asked = driver.take(LoadHeads)
            driver.send(HeadsUnavailable(stamp=asked.stamp))
        else:
            driver.load()
    elif kind in ("lost", "lost_applied"):
        driver.lose(applied=kind == "lost_applied")
    elif kind == "refuse":
        driver.refuse()
    elif kind == "fail":
        driver.fail()
    else:
        driver.commit()


def check_chain(driver: Driver) -> None:
    """From each tenant's first block on: no gap, every link follows, all of it published."""
    assert driver.published == driver.blocks
    confirmed = dict(driver.confirmed())
    heads: dict[str, Head] = {}
    for block in driver.blocks:
        head = heads.get(block.tenant_id, Head(1, GENESIS))
        assert (block.first_seq, block.previous) == (head.next_seq, head.link)
        assert block.link == next_link(block.previous, block.body)
        entries = decode_entries(block.body)
        assert [entry.seq for entry in entries] == list(range(block.first_seq, block.last_seq + 1))
        for entry in entries:
            stamp = int(entry.kind[1:])
            assert confirmed[stamp] <= entry.seq
        heads[block.tenant_id] = Head(block.last_seq + 1, block.link)
    written = {int(e.kind[1:]) for block in driver.blocks for e in decode_entries(block.body)}
    assert written == set(confirmed)
