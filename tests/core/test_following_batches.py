"""Batches of one tenant that follow each other on their way to the store."""

import pytest

from jobengine.domain.change import LogRow
from jobengine.domain.entry import NO_DATA
from jobengine.messages.ledger import (
    Abandon,
    BatchCommitted,
    BatchRefused,
    BatchUnavailable,
    Confirm,
    Deny,
    LoadHeads,
    ReportAway,
    Write,
)
from tests.core.test_ledger import Driver


def pair_under_way(front_changes: int = 1) -> Driver:
    """A batch of tenant a with so many changes, numbered 2 and up, and one behind it with two."""
    driver = Driver(follow_entries=2)
    driver.append(tenant_id="a")
    driver.load()
    if front_changes == 1:
        driver.commit()
    for _ in range(front_changes):
        driver.append(tenant_id="a")
    if front_changes > 1:
        driver.commit()
    driver.said.clear()
    for _ in range(2):
        driver.append(tenant_id="a")
    driver.wake()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [front_changes, 2]
    return driver


def test_a_batch_goes_on_from_the_heads_that_the_one_in_front_will_leave() -> None:
    driver = pair_under_way()
    front, follower = (asked.batch.blocks[0] for asked in driver.under_way)
    assert (follower.first_seq, follower.previous) == (front.last_seq + 1, front.link)
    driver.commit()
    assert driver.confirmed() == [(2, 2)]
    driver.commit()
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]
    assert driver.published == driver.blocks


@pytest.mark.parametrize(("follow_entries", "count"), [(3, 9), (9, 3)])
def test_less_than_the_front_carries_waits_for_it_but_for_what_is_worth_a_commit(
    follow_entries: int, count: int
) -> None:
    driver = Driver(follow_entries=follow_entries)
    driver.append(count=count)
    driver.load()
    for _ in range(2):
        driver.append()
    assert driver.core.wakeup_at is None
    assert len(driver.under_way) == 1
    driver.append()
    driver.wake()
    assert len(driver.under_way) == 2


def test_one_batch_follows_another_at_most_and_the_next_goes_when_the_front_has_landed() -> None:
    driver = pair_under_way()
    for _ in range(5):
        driver.append(tenant_id="a")
    assert driver.core.wakeup_at is None
    assert len(driver.under_way) == 2
    driver.commit()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [2, 5]


def test_a_pair_leaves_its_place_to_a_tenant_that_has_nothing_under_way() -> None:
    driver = pair_under_way()
    driver.append(tenant_id="b")
    driver.wake()
    assert isinstance(driver.under_way[2], LoadHeads)
    driver.load(2)
    driver.commit(number=2)
    assert [said.stamp for said in driver.said if isinstance(said, Confirm)] == [5]


def test_who_hears_first_that_the_follower_took_effect_knows_that_the_front_did() -> None:
    driver = pair_under_way()
    front, follower = driver.under_way
    driver.under_way.clear()
    driver.apply(front.batch)
    driver.apply(follower.batch)
    driver.send(BatchCommitted(stamp=follower.stamp))
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]
    driver.send(BatchCommitted(stamp=front.stamp))
    assert len(driver.confirmed()) == 3
    assert driver.published == driver.blocks


def test_what_follows_a_refused_batch_is_numbered_anew_behind_its_pieces() -> None:
    driver = pair_under_way(front_changes=2)
    driver.refuse()
    assert len(driver.under_way) == 1, "nothing is started before the follower is over"
    driver.commit()
    assert not any(isinstance(said, ReportAway) for said in driver.said)
    driver.refuse()
    assert [said.stamp for said in driver.said if isinstance(said, Deny)] == [2]
    driver.settle()
    assert driver.confirmed() == [(3, 2), (4, 3), (5, 4)]


def test_what_is_refused_before_the_one_in_front_is_settled_is_numbered_anew() -> None:
    driver = pair_under_way()
    follower = driver.under_way.pop()
    driver.send(BatchRefused(stamp=follower.stamp, why="bad"))
    assert not any(isinstance(said, Deny) for said in driver.said)
    driver.settle()
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]


@pytest.mark.parametrize("applied", [0, 1, 2])
def test_a_lost_connection_leaves_both_to_be_settled_by_the_heads_front_first(applied: int) -> None:
    driver = pair_under_way()
    pair = list(driver.under_way)
    driver.under_way.clear()
    for asked in pair[:applied]:
        assert driver.apply(asked.batch)
    for asked in pair:
        driver.send(BatchUnavailable(stamp=asked.stamp, unknown=True, why="lost"))
    driver.wake()
    assert [type(asked) for asked in driver.under_way] == [LoadHeads]
    sent_again = 0
    while driver.under_way:
        if isinstance(driver.asked, Write):
            sent_again += 1
            assert driver.asked.batch in [asked.batch for asked in pair]
            driver.commit()
        else:
            driver.load()
    assert sent_again == 2 - applied
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]
    assert driver.published == driver.blocks


def test_a_follower_that_found_the_head_elsewhere_waits_for_the_front_that_failed() -> None:
    driver = pair_under_way()
    follower = driver.under_way.pop()
    driver.send(BatchUnavailable(stamp=follower.stamp, unknown=True, why="moved"))
    driver.fail()
    driver.wake()
    assert [type(asked) for asked in driver.under_way] == [Write]
    driver.settle()
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]


def test_a_front_that_was_too_much_is_taken_apart_once_its_follower_is_over() -> None:
    driver = pair_under_way(front_changes=2)
    follower = driver.under_way.pop()
    driver.fail(tried=True)
    driver.wake()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [2]
    driver.send(BatchUnavailable(stamp=follower.stamp, unknown=True, why="moved"))
    driver.fail(tried=True)
    driver.wake()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [1]
    driver.settle()
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4), (5, 5)]
    assert driver.published == driver.blocks


def test_a_follower_that_was_too_much_is_taken_apart_when_its_front_has_landed() -> None:
    driver = pair_under_way()
    driver.fail(1, tried=True)
    assert [len(asked.batch.changes) for asked in driver.under_way] == [1]
    driver.commit()
    assert [len(asked.batch.changes) for asked in driver.under_way] == [1]
    driver.settle()
    assert driver.confirmed() == [(2, 2), (3, 3), (4, 4)]


def test_a_batch_that_took_effect_behind_a_refused_one_is_not_believed() -> None:
    driver = pair_under_way()
    follower = driver.under_way[1]
    driver.refuse()
    driver.send(BatchCommitted(stamp=follower.stamp))
    assert isinstance(driver.said[-1], Abandon)


@pytest.mark.parametrize("front_first", [True, False])
def test_nothing_follows_a_batch_on_which_it_would_not_hang(front_first: bool) -> None:
    """Log lines alone move no head: what came behind them could take effect without them."""
    driver = Driver(follow_entries=1)
    driver.append(count=0, tenant_id="a", logs=[log_of("1")])
    driver.load()
    driver.append(tenant_id="a")
    driver.wake()
    assert len(driver.under_way) == 1
    driver.fail() if front_first else driver.lose(applied=False)
    driver.settle()
    assert driver.logged == ["1"]
    assert driver.confirmed() == [(1, 1), (2, 1)]


def test_log_lines_alone_do_not_go_behind_a_batch() -> None:
    driver = Driver(follow_entries=1, batch_requests_max=1)
    driver.append(tenant_id="a")
    driver.load()
    driver.append(count=0, tenant_id="a", logs=[log_of("2")])
    driver.append(tenant_id="a")
    driver.wake()
    assert len(driver.under_way) == 1
    driver.settle()
    assert driver.confirmed() == [(1, 1), (2, 2), (3, 2)]


def log_of(job_id: str) -> LogRow:
    return LogRow(tenant_id="a", job_id=job_id, attempt=1, at=1, lines=NO_DATA)
