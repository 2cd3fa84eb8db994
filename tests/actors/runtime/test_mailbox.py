"""The mailbox: order, bounds, bursts, cancellation, and why deliveries need no room."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError


async def test_messages_are_taken_in_the_order_in_which_they_came() -> None:
    box = Mailbox[int]("box", 10)
    assert [box.put_nowait(n) for n in (0, 1)] == [0, 1]
    box.deliver(2)
    await box.put(3)
    assert await box.take() == [0, 1, 2, 3]
    assert box.put_nowait(4) == 4


async def test_requests_beyond_the_capacity_are_refused_and_deliveries_are_not() -> None:
    box = Mailbox[str]("box", 2)
    box.deliver("answer")
    box.put_nowait("one")
    box.put_nowait("two")
    with pytest.raises(MailboxFullError, match="box is full: 2"):
        box.put_nowait("three")
    box.deliver("another answer")
    statistics = box.statistics()
    assert (statistics.depth, statistics.refused_total) == (4, 1)
    assert await box.take() == ["answer", "one", "two", "another answer"]
    box.put_nowait("three")


async def test_a_burst_wakes_the_taker_once() -> None:
    box = Mailbox[int]("box", 100)
    bursts: list[list[int]] = []

    async def taker() -> None:
        while True:
            bursts.append(await box.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        for n in range(50):
            box.put_nowait(n)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bursts == [list(range(50))]


async def test_one_take_is_bounded_and_the_rest_stays_in_order() -> None:
    box = Mailbox[int]("box", 4, take_max=3)
    for n in range(4):
        box.put_nowait(n)
        box.deliver(10 + n)
    assert await box.take() == [0, 10, 1]
    box.put_nowait(4)
    box.put_nowait(5)
    with pytest.raises(MailboxFullError):
        box.put_nowait(6)
    assert await box.take() == [11, 2, 12]
    assert await box.take() == [3, 13, 4]
    assert await box.take() == [5]
    assert box.statistics()[:3] == (0, 8, 10)


async def test_waiting_putters_are_let_in_in_turn_and_nobody_overtakes_them() -> None:
    box = Mailbox[int]("box", 2)
    box.put_nowait(0)
    box.put_nowait(1)
    async with trio.open_nursery() as nursery:
        for n in range(2, 7):
            nursery.start_soon(box.put, n)
            await wait_all_tasks_blocked()
        assert box.statistics().putters == 5
        first = await box.take()
        with pytest.raises(MailboxFullError):
            box.put_nowait(99)
        taken = [first] + [await box.take() for _ in range(3)]
    assert taken == [[0, 1], [2, 3], [4, 5], [6]]


async def test_a_cancelled_putter_has_put_nothing() -> None:
    box = Mailbox[int]("box", 1)
    box.put_nowait(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.put, 1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert box.statistics().putters == 0
    assert await box.take() == [0]
    assert box.take_nowait() == []


async def test_a_cancelled_take_loses_nothing() -> None:
    box = Mailbox[int]("box", 5)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.take()
    box.put_nowait(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.take()
    assert scope.cancelled_caught
    assert await box.take() == [1]


async def test_without_waiting_what_lies_ready_is_taken_until_the_box_is_closed() -> None:
    box = Mailbox[int]("box", 5)
    assert box.take_nowait() == []
    box.put_nowait(1)
    assert box.take_nowait() == [1]
    box.put_nowait(2)
    box.close()
    assert box.take_nowait() == [2]
    with pytest.raises(MailboxClosedError):
        box.take_nowait()


async def test_the_age_of_the_oldest_message_is_known(autojump_clock: MockClock) -> None:
    box = Mailbox[int]("box", 10, take_max=2)
    assert box.statistics().oldest_s == 0.0
    box.put_nowait(0)
    await trio.sleep(3)
    box.put_nowait(1)
    assert box.statistics().oldest_s == 3.0
    box.put_nowait(2)
    await box.take()
    await trio.sleep(1)
    assert 1.0 <= box.statistics().oldest_s <= 4.0
    box.put_nowait(3)
    box.put_nowait(4)
    await box.take()
    assert box.statistics().oldest_s == 1.0
    await box.take()
    assert box.statistics().oldest_s == 0.0


async def test_closing_refuses_putters_and_lets_the_rest_be_taken() -> None:
    box = Mailbox[int]("box", 1)
    box.put_nowait(0)
    refused: list[str] = []

    async def putter() -> None:
        try:
            await box.put(1)
        except MailboxClosedError as error:
            refused.append(error.name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(putter)
        await wait_all_tasks_blocked()
        box.close()
    assert refused == ["box"]
    with pytest.raises(MailboxClosedError):
        box.put_nowait(2)
    with pytest.raises(MailboxClosedError):
        await box.put(2)
    box.deliver(3)
    assert box.statistics().refused_total == 1
    assert await box.take() == [0]
    with pytest.raises(MailboxClosedError):
        await box.take()


async def test_closing_wakes_a_waiting_taker() -> None:
    box = Mailbox[int]("box", 1)

    async def taker() -> None:
        with pytest.raises(MailboxClosedError):
            await box.take()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        box.close()


async def test_a_second_taker_is_refused() -> None:
    box = Mailbox[int]("box", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.take)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await box.take()
        nursery.cancel_scope.cancel()


async def test_two_full_mailboxes_that_owe_each_other_answers_go_on(
    autojump_clock: MockClock,
) -> None:
    """Each actor asks the other for work, and answers what it is asked, with no room to spare."""
    boxes = {"a": Mailbox[tuple[str, int]]("a", 3), "b": Mailbox[tuple[str, int]]("b", 3)}
    answered: dict[str, list[int]] = {"a": [], "b": []}

    async def actor(me: str, other: str) -> None:
        taken = 0
        while taken < 6:
            for kind, n in await boxes[me].take():
                taken += 1
                if kind == "request":
                    boxes[other].deliver(("answer", n))
                else:
                    answered[me].append(n)

    for box in boxes.values():
        for n in range(3):
            box.put_nowait(("request", n))
        with pytest.raises(MailboxFullError):
            box.put_nowait(("request", 3))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor, "a", "b")
            nursery.start_soon(actor, "b", "a")
    assert answered == {"a": [0, 1, 2], "b": [0, 1, 2]}


@given(st.lists(st.sampled_from(["put", "deliver", "take"]), max_size=60), st.integers(1, 4))
def test_any_course_of_events_keeps_order_and_bound(events: list[str], take_max: int) -> None:
    async def run() -> None:
        box = Mailbox[tuple[str, int]]("box", 3, take_max=take_max)
        model: list[tuple[str, int]] = []
        for n, event in enumerate(events):
            if event == "take":
                expected, model[:] = model[:take_max], model[take_max:]
                assert box.take_nowait() == expected
            elif event == "deliver":
                box.deliver((event, n))
                model.append((event, n))
            elif sum(kind == "put" for kind, _ in model) < 3:
                box.put_nowait((event, n))
                model.append((event, n))
            else:
                with pytest.raises(MailboxFullError):
                    box.put_nowait((event, n))

    trio.run(run)
