"""The broadcaster's core: what a reader gets, and when it is sent back to the ledger."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.broadcaster import BroadcasterCore, BroadcasterLimits, NotFollowingError
from jobengine.core.machine import Answer, Refuse
from jobengine.domain.entry import GENESIS, Block, Entry, encode_entries, next_link
from jobengine.domain.instant import Moment
from jobengine.messages.broadcaster import Follow, Leave, Published, Read

NOW = Moment(0.0, 0)


def block(first_seq: int, count: int, tenant_id: str = "acme") -> Block:
    entries = [
        Entry(actor="a", at=seq, kind="source.throttled", seq=seq)
        for seq in range(first_seq, first_seq + count)
    ]
    body = encode_entries(entries)
    return Block(
        tenant_id=tenant_id,
        first_seq=first_seq,
        last_seq=first_seq + count - 1,
        at=0,
        previous=GENESIS,
        link=next_link(GENESIS, body),
        body=body,
    )


class Driver:
    def __init__(self, **limits: Any) -> None:
        self.core = BroadcasterCore(BroadcasterLimits(**limits))
        self.ask = 0

    def publish(self, *blocks: Block) -> list[Any]:
        return list(self.core.handle(Published(blocks=blocks), NOW))

    def follow(self, reader_id: int, tenant_id: str = "acme") -> None:
        assert not self.core.handle(Follow(reader_id=reader_id, tenant_id=tenant_id), NOW)

    def read(self, reader_id: int, after_seq: int) -> Any:
        """The answer, or None when the reader has to wait."""
        self.ask += 1
        commands = self.core.handle(
            Read(ask_id=self.ask, reader_id=reader_id, after_seq=after_seq), NOW
        )
        if not commands:
            return None
        [command] = commands
        assert command.ask_id == self.ask
        return command.value if isinstance(command, Answer) else command.error


def seqs(answer: Any) -> list[int]:
    return [event.seq for event in answer.events]


def test_a_reader_that_is_up_to_date_waits_for_the_next_event() -> None:
    driver = Driver()
    driver.follow(1)
    assert driver.read(1, 0) is None
    [answer] = driver.publish(block(1, 3))
    assert (answer.ask_id, seqs(answer.value)) == (1, [1, 2, 3])
    assert seqs(driver.read(1, 2)) == [3]
    assert driver.read(1, 3) is None


def test_a_reader_from_before_the_ring_is_sent_to_the_ledger() -> None:
    driver = Driver()
    driver.follow(1)
    driver.publish(block(10, 3))
    assert driver.read(1, 5).behind
    assert seqs(driver.read(1, 9)) == [10, 11, 12]


def test_the_ring_is_bounded_and_a_slow_reader_falls_behind_it() -> None:
    driver = Driver(ring_events_max=16, answer_events_max=4)
    driver.follow(1)
    for first_seq in range(1, 101, 5):
        driver.publish(block(first_seq, 5))
    assert driver.read(1, 0).behind
    assert driver.read(1, 83).behind
    assert seqs(driver.read(1, 84)) == [85, 86, 87, 88]


def test_an_event_too_large_for_the_ring_sends_readers_to_the_ledger_at_once() -> None:
    driver = Driver(ring_bytes_max=1)
    driver.follow(1)
    assert driver.read(1, 0) is None
    [answer] = driver.publish(block(1, 1))
    assert answer.value.behind
    assert driver.read(1, 0).behind
    assert driver.read(1, 1) is None


def test_blocks_that_were_never_published_leave_no_gap_in_the_ring() -> None:
    driver = Driver()
    driver.follow(1)
    driver.publish(block(1, 3))
    assert driver.read(1, 3) is None
    [answer] = driver.publish(block(6, 2))
    assert answer.value.behind
    assert seqs(driver.read(1, 5)) == [6, 7]
    assert driver.read(1, 2).behind


def test_a_reader_that_does_not_follow_is_refused() -> None:
    driver = Driver()
    assert isinstance(driver.read(1, 0), NotFollowingError)
    driver.follow(1)
    driver.core.handle(Leave(reader_id=1), NOW)
    assert isinstance(driver.read(1, 0), NotFollowingError)


def test_a_refusal_is_a_refuse_command() -> None:
    [command] = Driver().core.handle(Read(ask_id=7, reader_id=1, after_seq=0), NOW)
    assert isinstance(command, Refuse)


def test_nothing_is_kept_for_a_tenant_whose_last_reader_has_left() -> None:
    driver = Driver()
    for reader_id in range(100):
        driver.follow(reader_id, f"t{reader_id % 3}")
        driver.read(reader_id, 0)
    for reader_id in range(100):
        driver.core.handle(Leave(reader_id=reader_id), NOW)
        driver.core.handle(Leave(reader_id=reader_id), NOW)
    assert driver.core.readers == 0
    assert not driver.core._rings
    assert driver.publish(block(1, 1, "t1")) == []


def test_readers_of_one_tenant_see_nothing_of_another() -> None:
    driver = Driver()
    driver.follow(1, "acme")
    driver.follow(2, "other")
    driver.read(1, 0)
    driver.read(2, 0)
    [answer] = driver.publish(block(1, 1, "other"))
    assert answer.ask_id == 2


def test_what_the_broadcaster_does_not_understand_is_a_programmer_error() -> None:
    with pytest.raises(TypeError):
        Driver().core.handle("what", NOW)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(1, 6)),
            st.tuples(st.just("lose"), st.integers(1, 6)),
            st.tuples(st.just("read"), st.integers(0, 2)),
        ),
        max_size=60,
    ),
    st.integers(4, 20),
)
def test_every_reader_sees_every_event_once_in_order(steps, ring_events_max) -> None:
    """``lose`` is a block that became durable and was never published."""
    driver = Driver(ring_events_max=ring_events_max, answer_events_max=3)
    cursors = dict.fromkeys(range(3), 0)
    waiting: dict[int, int] = {}
    last = 0
    for reader_id in cursors:
        driver.follow(reader_id)

    def take(reader_id: int, answer: Any) -> None:
        if answer.behind:
            cursors[reader_id] = last
        else:
            expected = range(cursors[reader_id] + 1, cursors[reader_id] + 1 + len(answer.events))
            assert seqs(answer) == list(expected)
            assert answer.events
            cursors[reader_id] = answer.events[-1].seq

    for kind, number in steps:
        if kind == "read":
            if number in waiting.values():
                continue
            answer = driver.read(number, cursors[number])
            if answer is None:
                waiting[driver.ask] = number
            else:
                take(number, answer)
            continue
        published = block(last + 1, number)
        last += number
        if kind == "publish":
            for answer in driver.publish(published):
                take(waiting.pop(answer.ask_id), answer.value)
