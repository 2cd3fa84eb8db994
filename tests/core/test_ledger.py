"""The ledger's core: numbers, links, and what becomes of a batch that did not answer."""

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.commit_weight import octets_of
from jobengine.core.ledger import LedgerCore, LedgerLimits
from jobengine.core.machine import Answer
from jobengine.domain.change import (
    ApiKeyRow,
    ChangeSet,
    CommitBatch,
    JobRow,
    LogRow,
    RevocationRow,
)
from jobengine.domain.entry import GENESIS, NO_DATA, Block, Entry, Head, decode_entries, next_link
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

    def __init__(self, follow_entries: int = 0, **limits: Any) -> None:
        limits["follow_entries"] = follow_entries
        self.core = LedgerCore(LedgerLimits(**limits))
        self.mono = 0.0
        self.heads: dict[str, Head] = {}
        self.blocks: list[Block] = []
        self.logged: list[str] = []
        self.published: list[Block] = []
        self.inbox: deque[Any] = deque()
        self.said: list[Any] = []
        self.first_seqs: dict[int, int] = {}
        self.under_way: list[Any] = []
        self.stamps = 0
        self.capacity = 1 << 30
        """How many changes the store gets through with, before its time for a batch is over."""

    @property
    def asked(self) -> Any:
        """What has been under way longest, if anything is."""
        return self.under_way[0] if self.under_way else None

    def send(self, message: Any) -> list[Any]:
        commands = list(self.core.handle(message, Moment(self.mono, int(self.mono * 1e6))))
        for command in commands:
            if isinstance(command, Write | LoadHeads):
                self.under_way.append(command)
                self.check_pairs()
                self.check_size(command)
            elif isinstance(command, Publish):
                self.published.extend(command.blocks)
            else:
                self.said.append(command)
            if isinstance(command, Confirm):
                self.first_seqs[command.stamp] = command.first_seq
        return commands

    def check_pairs(self) -> None:
        """I1, as far as the store can see it: of a tenant two at most are under way, one of which
        goes on from where the other ends."""
        limits = self.core._limits
        follows = limits.follow_entries > 0
        assert len(self.under_way) <= limits.commits_in_flight_max * (1 + follows)
        ends: dict[str, bytes] = {}
        for asked in self.under_way:
            if isinstance(asked, LoadHeads):
                continue
            behind = {block.tenant_id for block in asked.batch.blocks} & ends.keys()
            assert follows or not behind
            for block in asked.batch.blocks:
                assert ends.get(block.tenant_id, block.previous) == block.previous
                ends[block.tenant_id] = b"" if behind else block.link

    def check_size(self, command: Write | LoadHeads) -> None:
        if isinstance(command, Write) and len(command.batch.changes) > 1:
            octets = [octets_of(each, each.entries_total()) for each in command.batch.changes]
            assert sum(octets) <= self.core._limits.batch_bytes_max

    def append(
        self,
        sender: int = 0,
        tenant_id: str = "a",
        count: int = 1,
        life: int = 1,
        payload: bytes = b"1",
        burst: bool = False,
        **also: Any,
    ) -> int:
        """`burst`: more comes before the ledger is woken; else one that finds nothing in flight is
        a burst of its own."""
        is_first = not self.core._flights
        self.stamps += 1
        entries = [Entry(actor="x", at=self.stamps, kind=f"k{self.stamps}") for _ in range(count)]
        row = JobRow(
            tenant_id=tenant_id,
            shard=0,
            job_id=f"j{self.stamps}",
            state="pending",
            payload=msgspec.Raw(payload),
        )
        changes = ChangeSet(
            tenant_id=tenant_id,
            entries=entries,
            rows=[row] if count else [],
            spans=[(0, count)] if count else [],
            **also,
        )
        self.send(Append(life=life, sender=sender, stamp=self.stamps, changes=changes))
        if is_first and not burst:
            self.wake()
        return self.stamps

    def wake(self) -> None:
        """Let the pause pass that the core wants, if it wants one."""
        if self.core.wakeup_at is not None:
            assert self.core.wakeup_at >= self.mono
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
        for log in (log for changes in batch.changes for log in changes.logs):
            if not (batch.again and log.job_id in self.logged):
                self.logged.append(log.job_id)
        return True

    def take(self, kind: type, number: int = 0) -> Any:
        asked = self.under_way.pop(number)
        assert isinstance(asked, kind)
        return asked

    def load(self, number: int = 0) -> None:
        asked = self.take(LoadHeads, number)
        heads = {name: self.heads[name] for name in asked.tenant_ids if name in self.heads}
        self.send(HeadsLoaded(stamp=asked.stamp, tenant_ids=asked.tenant_ids, heads=heads))

    def commit(self, took_s: float = 0.0, number: int = 0) -> None:
        asked = self.take(Write, number)
        if len(asked.batch.changes) > self.capacity:
            self.send(BatchUnavailable(stamp=asked.stamp, unknown=False, why="slow", tried=True))
        elif self.apply(asked.batch):
            self.send(BatchCommitted(stamp=asked.stamp, took_s=took_s))
        else:
            assert self.core._limits.follow_entries > 0
            self.send(BatchUnavailable(stamp=asked.stamp, unknown=True, why="moved"))

    def lose(self, *, applied: bool, number: int = 0, tried: bool = False) -> None:
        asked = self.take(Write, number)
        if applied:
            self.apply(asked.batch)
        self.send(BatchUnavailable(stamp=asked.stamp, unknown=True, why="lost", tried=tried))

    def fail(self, number: int = 0, *, tried: bool = False) -> None:
        asked = self.take(Write, number)
        self.send(BatchUnavailable(stamp=asked.stamp, unknown=False, why="away", tried=tried))

    def refuse(self, number: int = 0) -> None:
        asked = self.take(Write, number)
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

    def two_under_way(self) -> tuple[int, int]:
        """A batch of tenant a and one of tenant b; the stamps of their changes."""
        for tenant_id in "ab":
            self.append(tenant_id=tenant_id)
            self.settle()
        self.said.clear()
        first = self.append(tenant_id="a")
        second = self.append(tenant_id="b")
        self.wake()
        assert len(self.under_way) == 2
        return first, second

    def tenants_under_way(self) -> list[list[str]]:
        return [[changes.tenant_id for changes in asked.batch.changes] for asked in self.under_way]

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


def test_a_quiet_tenant_waits_for_one_commit_and_not_for_the_queue_of_another() -> None:
    driver = Driver(batch_entries_min=100)
    for tenant_id in ("quiet", "loud"):
        driver.append(tenant_id=tenant_id)
        driver.settle()
    for _ in range(500):
        driver.append(tenant_id="loud", count=50)
    quiet = driver.append(tenant_id="quiet", count=2)
    assert quiet not in [stamp for stamp, _ in driver.confirmed()]
    for _ in range(2):
        driver.commit()
    assert quiet in [stamp for stamp, _ in driver.confirmed()]
    driver.settle()
    assert len(driver.confirmed()) == 503
    check_chain(driver)


def test_while_tenants_share_the_ledger_batches_follow_the_time_of_their_commits() -> None:
    driver = Driver(batch_entries_min=100, batch_entries_max=1_000, commit_target_s=0.05)
    for number in range(1_000):
        driver.append(tenant_id="ab"[number % 2], count=10)
    sizes = []
    for took_s in (0.0, 0.01, 0.01, 0.01, 0.2, 0.01):
        if isinstance(driver.asked, LoadHeads):
            driver.load()
        driver.commit(took_s=took_s)
        if isinstance(driver.asked, LoadHeads):
            driver.load()
        sizes.append(sum(len(changes.entries) for changes in driver.asked.batch.changes))
    assert sizes == [100, 200, 300, 400, 200, 300]


def test_a_batch_that_is_not_known_is_settled_by_where_the_heads_stand() -> None:
    for applied in (True, False):
        driver = Driver()
        for tenant_id in ("a", "b", "a"):
            driver.append(tenant_id=tenant_id)
        driver.load()
        driver.commit()
        driver.load()
        driver.lose(applied=applied)
        assert driver.said[1:] == [ReportAway(why="lost")]
        driver.wake()
        driver.load()
        driver.settle()
        assert sorted(stamp for stamp, _ in driver.confirmed()) == [1, 2, 3]
        assert len(driver.blocks) == 3


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
    assert not any(said == Answer(2, 1) for said in driver.said)
    driver.settle()
    answers = [said.ask_id for said in driver.said if isinstance(said, Answer)]
    assert answers == [1, 2, 3]


def test_an_idle_ledger_answers_a_fence_at_once() -> None:
    driver = Driver()
    driver.send(Fence(ask_id=1))
    assert driver.said == [Answer(1, 1)]


def test_what_was_appended_for_an_earlier_life_of_the_ledger_is_dropped() -> None:
    driver = Driver()
    driver.append(life=0)
    assert not driver.under_way
    driver.append()
    driver.settle()
    assert driver.confirmed() == [(2, 1)]
    driver.send(Fence(ask_id=1))
    assert driver.said[-1] == Answer(1, 1), "who waits for a fence learns which life this is"


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


def test_a_batch_whose_time_was_over_goes_on_in_pieces_until_one_is_small_enough() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    stamps = [driver.append() for _ in range(16)]
    driver.commit()
    driver.capacity = 3
    sizes: list[int] = []
    while driver.asked is not None and len(sizes) < 99:
        sizes.append(len(driver.asked.batch.changes))
        driver.commit()
        if driver.asked is None:
            driver.wake()
    assert sizes[:4] == [16, 8, 4, 2]
    assert [stamp for stamp, _ in driver.confirmed()] == [1, *stamps]
    kinds = [type(said) for said in driver.said if not isinstance(said, Confirm)]
    assert kinds == [ReportAway, ReportBack] * (len(kinds) // 2)
    check_chain(driver)


def test_the_other_piece_of_a_batch_taken_apart_keeps_its_place() -> None:
    driver = Driver(batch_requests_max=4)
    driver.append()
    driver.load()
    for tenant_id in "aabaa":
        driver.append(tenant_id=tenant_id)
    driver.commit()
    assert len(driver.asked.batch.changes) == 4
    driver.fail(tried=True)
    driver.wake()
    assert len(driver.asked.batch.changes) == 2
    driver.settle()
    own = [stamp for stamp, _ in driver.confirmed() if stamp != 4]
    assert own == [1, 2, 3, 5, 6]
    check_chain(driver)


def four_under_way() -> Driver:
    """One batch of four changes, of a tenant that has a head."""
    driver = Driver()
    driver.append()
    driver.load()
    for _ in range(4):
        driver.append()
    driver.commit()
    return driver


def test_a_batch_that_no_server_had_stays_whole_however_often_it_failed() -> None:
    driver = four_under_way()
    for _ in range(20):
        driver.fail()
        driver.wake()
    assert len(driver.asked.batch.changes) == 4


def test_a_single_change_that_is_too_much_is_sent_again_as_it_is() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for _ in range(3):
        batch = driver.asked.batch
        driver.fail(tried=True)
        driver.wake()
        assert driver.asked.batch == batch
    driver.settle()
    assert driver.confirmed() == [(1, 1)]


@pytest.mark.parametrize("applied", [True, False])
def test_a_batch_that_went_silent_is_taken_apart_only_if_the_heads_show_no_trace(
    applied: bool,
) -> None:
    driver = four_under_way()
    driver.lose(applied=applied, tried=True)
    driver.wake()
    driver.load()
    assert applied == (driver.asked is None)
    if not applied:
        assert len(driver.asked.batch.changes) == 2
    driver.settle()
    assert [stamp for stamp, _ in driver.confirmed()] == [1, 2, 3, 4, 5]
    check_chain(driver)


def test_the_tenants_of_a_piece_under_way_stay_held() -> None:
    driver = four_under_way()
    driver.lose(applied=False, tried=True)
    driver.wake()
    driver.load()
    driver.append()
    driver.wake()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [2]
    driver.settle()
    assert [stamp for stamp, _ in driver.confirmed()] == [1, 2, 3, 4, 5, 6]


def test_a_silent_batch_that_takes_effect_beside_its_piece_is_noticed() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for _ in range(2):
        driver.append()
    driver.commit()
    whole = driver.asked.batch
    driver.lose(applied=False, tried=True)
    driver.wake()
    driver.load()
    piece = driver.take(Write)
    assert driver.apply(whole)
    assert not driver.apply(piece.batch)
    driver.send(BatchUnavailable(stamp=piece.stamp, unknown=True, why="head moved"))
    driver.wake()
    driver.load()
    assert isinstance(driver.said[-1], Abandon)


def test_after_a_batch_was_taken_apart_the_next_ones_are_small_and_grow_again() -> None:
    driver = Driver(batch_requests_max=64)
    driver.append()
    driver.load()
    for _ in range(500):
        driver.append()
    driver.commit()
    driver.fail(tried=True)
    driver.wake()
    sizes = []
    while driver.asked is not None:
        sizes.append(len(driver.asked.batch.changes))
        driver.commit()
    assert sizes[:4] == [32, 36, 40, 44]
    assert 64 in sizes


def test_a_batch_is_bounded_in_bytes() -> None:
    driver = Driver(batch_bytes_max=10_000)
    driver.append()
    driver.load()
    for size in (3_000, 3_000, 20_000, 3_000, 3_000, 3_000):
        driver.append(payload=b"x" * size)
    sizes = []
    while driver.asked is not None:
        sizes.append(len(driver.asked.batch.changes))
        driver.commit()
    assert sizes == [1, 2, 1, 3]


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
    assert driver.logged == ["j"]


def test_a_batch_that_moves_no_head_is_sent_again_as_one_that_may_be_stored() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for number in range(4):
        log = LogRow(tenant_id="a", job_id=f"{number}", attempt=1, at=0, lines=NO_DATA)
        driver.append(count=0, logs=[log])
    driver.commit()
    assert driver.asked.batch.blocks == ()
    assert not driver.asked.batch.again
    driver.fail()
    driver.wake()
    assert not driver.asked.batch.again, "nothing was kept of it"
    driver.lose(applied=True)
    for _ in range(2):
        driver.wake()
        assert driver.asked.batch.again
        assert len(driver.asked.batch.changes) == 4
        driver.fail()
    driver.settle()
    assert driver.logged == ["0", "1", "2", "3"]


def test_a_batch_that_moves_no_head_and_went_silent_goes_on_change_by_change() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for number in range(4):
        log = LogRow(tenant_id="a", job_id=f"{number}", attempt=1, at=0, lines=NO_DATA)
        driver.append(count=0, logs=[log])
    driver.commit()
    driver.append()
    driver.lose(applied=True, tried=True)
    driver.wake()
    for _ in range(4):
        assert driver.asked.batch.again
        assert len(driver.asked.batch.changes) == 1
        driver.commit()
    assert not driver.asked.batch.again
    driver.settle()
    assert driver.logged == ["0", "1", "2", "3"]
    assert [stamp for stamp, _ in driver.confirmed()] == [1, 2, 3, 4, 5, 6]


def test_the_heads_that_are_remembered_are_bounded() -> None:
    driver = Driver(heads_max=3)
    for number in range(10):
        driver.append(tenant_id=f"t{number % 5}")
        driver.settle()
    assert len(driver.core._heads) == 3
    assert all(head.next_seq == 3 for head in driver.heads.values())


# ---- two batches in flight


def test_another_tenant_is_committed_beside_the_batch_in_flight_and_the_same_one_after_it() -> None:
    driver = Driver()
    first, second = driver.two_under_way()
    again = driver.append(tenant_id="b")
    driver.wake()
    assert driver.tenants_under_way() == [["a"], ["b"]]
    driver.commit(number=1)
    assert [stamp for stamp, _ in driver.confirmed()] == [second]
    assert driver.tenants_under_way() == [["a"], ["b"]]
    driver.settle()
    assert [stamp for stamp, _ in driver.confirmed()] == [second, first, again]
    check_chain(driver)


def test_what_comes_in_one_burst_is_one_batch() -> None:
    driver = Driver()
    driver.append()
    driver.settle()
    for _ in range(3):
        driver.append(burst=True)
    assert driver.under_way == []
    driver.wake()
    assert driver.tenants_under_way() == [["a", "a", "a"]]


def test_what_comes_in_one_burst_is_one_batch_beside_the_one_in_flight() -> None:
    driver = Driver()
    for tenant_id in "abc":
        driver.append(tenant_id=tenant_id)
        driver.settle()
    driver.append(tenant_id="a")
    for tenant_id in "bcb":
        driver.append(tenant_id=tenant_id)
    assert driver.tenants_under_way() == [["a"]]
    driver.wake()
    assert driver.tenants_under_way() == [["a"], ["b", "b", "c"]]


def test_a_tenant_that_is_alone_has_one_batch_in_flight_and_wants_no_waking() -> None:
    driver = Driver()
    driver.append()
    driver.load()
    for _ in range(3):
        driver.append()
        assert driver.core.wakeup_at is None
    assert len(driver.under_way) == 1


def test_with_one_commit_in_flight_at_most_everybody_waits_for_it() -> None:
    driver = Driver(commits_in_flight_max=1)
    driver.append(tenant_id="a")
    driver.append(tenant_id="b")
    assert driver.core.wakeup_at is None
    assert len(driver.under_way) == 1
    driver.settle()
    assert len(driver.confirmed()) == 2


def test_a_lost_batch_is_settled_by_its_own_heads_while_the_other_is_committed() -> None:
    for applied in (True, False):
        driver = Driver()
        first, second = driver.two_under_way()
        driver.lose(applied=applied)
        driver.append(tenant_id="c")
        assert driver.said == [ReportAway(why="lost")]
        driver.commit()
        assert [stamp for stamp, _ in driver.confirmed()] == [second]
        assert driver.said[-1] == Confirm(sender=0, stamp=second, first_seq=2)
        assert driver.under_way == [], "I7: nothing is started beside a batch in trouble"
        driver.wake()
        assert driver.asked.tenant_ids == ["a"]
        driver.settle()
        assert [stamp for stamp, _ in driver.confirmed()][:2] == [second, first]
        assert [said for said in driver.said if isinstance(said, ReportBack)] == [ReportBack()]
        check_chain(driver)


def test_the_database_is_away_until_the_last_batch_in_trouble_is_out_of_it() -> None:
    driver = Driver()
    driver.two_under_way()
    driver.fail()
    driver.fail()
    driver.wake()
    assert len(driver.under_way) == 2
    driver.commit(number=1)
    assert [type(said) for said in driver.said] == [ReportAway, Confirm]
    driver.fail()
    driver.wake()
    driver.commit()
    assert [type(said) for said in driver.said] == [ReportAway, Confirm, ReportBack, Confirm]


def test_a_refused_batch_is_taken_apart_while_the_other_stays_in_flight() -> None:
    driver = Driver()
    for tenant_id in "abc":
        driver.append(tenant_id=tenant_id)
        driver.settle()
    driver.said.clear()
    driver.append(tenant_id="c")
    bad, good = driver.append(tenant_id="a"), driver.append(tenant_id="b")
    driver.wake()
    later = driver.append(tenant_id="a")
    driver.refuse(number=1)
    assert driver.tenants_under_way() == [["c"], ["a"]]
    driver.refuse(number=1)
    assert driver.tenants_under_way() == [["c"], ["b"]]
    driver.settle()
    assert [said.stamp for said in driver.said if isinstance(said, Deny)] == [bad]
    assert {good, later} <= {stamp for stamp, _ in driver.confirmed()}
    check_chain(driver)


def test_of_a_batch_taken_apart_a_tenants_changes_still_go_one_after_another() -> None:
    driver = Driver()
    for tenant_id in "ab":
        driver.append(tenant_id=tenant_id)
        driver.settle()
    driver.append(tenant_id="b")
    stamps = [driver.append(tenant_id="a") for _ in range(2)]
    driver.commit()
    driver.refuse()
    driver.append(tenant_id="b")
    driver.wake()
    assert driver.tenants_under_way() == [["a"]]
    driver.settle()
    assert [stamp for stamp, _ in driver.confirmed()][-3:-1] == stamps


def test_batches_that_fail_together_are_tried_again_together_and_count_as_one_failure() -> None:
    pauses = []
    for failures in (1, 2):
        driver = Driver()
        driver.two_under_way()
        for _ in range(failures):
            driver.fail()
        driver.wake()
        began_s = driver.mono
        driver.fail()
        driver.wake()
        pauses.append(driver.mono - began_s)
    assert pauses[0] == pauses[1]


def test_a_fence_waits_for_all_batches_in_flight() -> None:
    driver = Driver()
    driver.two_under_way()
    driver.send(Fence(ask_id=1))
    after = driver.append(tenant_id="c")
    driver.commit(number=1)
    driver.wake()
    assert len(driver.under_way) == 1
    driver.commit()
    assert driver.said[-1] == Answer(1, 1)
    driver.settle()
    assert driver.confirmed()[-1][0] == after


def test_one_batch_in_flight_at_most_changes_credentials() -> None:
    driver = Driver()
    for tenant_id in "abc":
        driver.append(tenant_id=tenant_id)
        driver.settle()
    driver.append(tenant_id="a", revocations=[RevocationRow(tenant_id="a", token_id="t", at=0)])
    key = ApiKeyRow(tenant_id="b", prefix="p", digest="0" * 64)
    driver.append(tenant_id="b", api_keys=[key])
    driver.append(tenant_id="c")
    driver.wake()
    assert driver.tenants_under_way() == [["a"], ["c"]]
    driver.commit(number=1)
    assert driver.tenants_under_way() == [["a"]]
    driver.commit()
    assert driver.tenants_under_way() == [["b"]]


OUTCOMES = (
    "commit", "fail", "tried", "lost", "lost_applied", "silent", "silent_applied", "refuse", "late",
    "wake",
)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 2), st.integers(0, 3)),
            st.tuples(st.just("append"), st.just(0), st.just(0)),
            st.tuples(st.just("log"), st.integers(0, 2), st.integers(0, 2)),
            st.tuples(st.just("outcome"), st.sampled_from(OUTCOMES), st.integers(0, 2)),
            st.tuples(st.just("fence"), st.just(0), st.just(0)),
        ),
        max_size=50,
    ),
    requests_max=st.integers(1, 4),
    in_flight_max=st.integers(1, 3),
    follow_entries=st.sampled_from((0, 1, 3)),
    bytes_max=st.sampled_from((2_500, 1 << 30)),
    capacity=st.sampled_from((1, 2, 9)),
)
def test_every_request_is_settled_once_and_in_the_order_of_its_tenant_whatever_the_store_does(
    steps, requests_max, in_flight_max, follow_entries, bytes_max, capacity
) -> None:
    driver = Driver(
        follow_entries=follow_entries,
        batch_requests_max=requests_max,
        batch_entries_max=6,
        commits_in_flight_max=in_flight_max,
        batch_bytes_max=bytes_max,
    )
    driver.capacity = capacity
    sent: list[tuple[int, int, str]] = []
    fences: dict[int, int] = {}
    for kind, first, second in steps:
        if kind == "append":
            tenant_id = "abc"[second % 3]
            keys = [ApiKeyRow(tenant_id=tenant_id, prefix="p")] if first == 2 else []
            stamp = driver.append(
                sender=first,
                tenant_id=tenant_id,
                count=1 + second,
                payload=b"x" * 1_000 * second,
                api_keys=keys,
            )
            sent.append((first, stamp, tenant_id))
        elif kind == "log":
            tenant_id = "abc"[second]
            log = LogRow(
                tenant_id=tenant_id, job_id=f"{driver.stamps + 1}", attempt=1, at=1, lines=NO_DATA
            )
            stamp = driver.append(sender=first, tenant_id=tenant_id, count=0, logs=[log])
            sent.append((first, stamp, tenant_id))
        elif kind == "fence":
            driver.send(Fence(ask_id=len(fences) + 1))
            fences[len(fences) + 1] = len(sent)
        else:
            outcome(driver, first, second)
            check_away(driver)
        told = sum(isinstance(said, Confirm | Deny) for said in driver.said)
        assert (driver.core.waiting_since_mono is None) == (told == len(sent))
    driver.settle()
    check_away(driver)
    assert driver.core.waiting_since_mono is None
    assert not any(isinstance(said, Abandon) for said in driver.said)
    settled = [
        (said.sender, said.stamp) for said in driver.said if isinstance(said, Confirm | Deny)
    ]
    assert sorted(settled) == sorted((sender, stamp) for sender, stamp, _ in sent)
    tenant_of = {stamp: tenant_id for _, stamp, tenant_id in sent}
    for tenant in "abc":
        own = [stamp for _, stamp in settled if tenant_of[stamp] == tenant]
        assert own == [stamp for _, stamp, tenant_id in sent if tenant_id == tenant]
    answered = [said.ask_id for said in driver.said if isinstance(said, Answer)]
    assert answered == list(fences)
    for ask_id, before in fences.items():
        position = driver.said.index(Answer(ask_id, 1))
        earlier = {
            said.stamp for said in driver.said[:position] if isinstance(said, Confirm | Deny)
        }
        assert earlier >= {stamp for _, stamp, _ in sent[:before]}
    check_chain(driver)
    logged = {int(each) for each in driver.logged}
    assert len(logged) == len(driver.logged), "log lines are stored once"
    assert logged >= set(driver.first_seqs) - written(driver)


def outcome(driver: Driver, kind: str, number: int) -> None:
    """What becomes of one of the things under way."""
    if kind == "wake" or not driver.under_way:
        driver.wake()
        return
    number %= len(driver.under_way)
    asked = driver.under_way[number]
    if kind == "late":
        driver.send(BatchCommitted(stamp=asked.stamp - 100))
        driver.send(BatchRefused(stamp=asked.stamp - 100, why="late"))
        driver.send(HeadsUnavailable(stamp=asked.stamp + 100))
    elif isinstance(asked, LoadHeads):
        if kind == "fail":
            driver.under_way.pop(number)
            driver.send(HeadsUnavailable(stamp=asked.stamp))
        else:
            driver.load(number)
    elif kind in ("lost", "lost_applied", "silent", "silent_applied"):
        tried = kind.startswith("silent")
        driver.lose(applied=kind.endswith("applied"), number=number, tried=tried)
    elif kind == "refuse":
        driver.refuse(number)
    elif kind in ("fail", "tried"):
        driver.fail(number, tried=kind == "tried")
    else:
        driver.commit(number=number)


def check_away(driver: Driver) -> None:
    """I7: away and back take turns, and at rest the database is not away."""
    told = [type(said) for said in driver.said if isinstance(said, ReportAway | ReportBack)]
    assert told == [(ReportAway, ReportBack)[number % 2] for number in range(len(told))]
    if not driver.under_way and driver.core.wakeup_at is None:
        assert len(told) % 2 == 0


def check_chain(driver: Driver) -> None:
    """From each tenant's first block on: no gap, every link follows, all of it published in the
    order of its tenant."""
    for tenant_id in sorted({block.tenant_id for block in driver.blocks}):
        assert [block for block in driver.published if block.tenant_id == tenant_id] == [
            block for block in driver.blocks if block.tenant_id == tenant_id
        ]
    assert len(driver.published) == len(driver.blocks)
    confirmed = driver.first_seqs
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
    assert written(driver) <= set(confirmed)


def written(driver: Driver) -> set[int]:
    """The stamps of changes whose entries are in the store."""
    return {int(e.kind[1:]) for block in driver.blocks for e in decode_entries(block.body)}
