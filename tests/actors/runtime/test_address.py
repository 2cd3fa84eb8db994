"""Asking: every ask ends once, and leaves nothing behind."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks, AskTimeoutError
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError


class Desk:
    """One actor's mailbox, its address, and the answers that were got from it."""

    def __init__(self, capacity: int = 10) -> None:
        self.asks = Asks()
        self.box = Mailbox[int]("desk", capacity)
        self.address = Address(self.box, self.asks)
        self.got: list[object] = []

    async def ask(self) -> None:
        try:
            self.got.append(await self.address.ask(lambda ask_id: ask_id, 5.0))
        except (AskTimeoutError, ActorStoppedError, LookupError) as error:
            self.got.append(type(error))


class Ends:
    """What callbacks were told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[object, Exception | None]] = []

    def note(self, value: object, error: Exception | None) -> None:
        self.told.append((value, error))


async def test_tell_and_deliver_reach_the_mailbox_in_order() -> None:
    desk = Desk()
    desk.address.tell_nowait(1)
    await desk.address.tell(2)
    desk.address.deliver(3)
    assert desk.address.name == "desk"
    assert await desk.box.take() == [1, 2, 3]


async def test_each_asker_gets_its_own_answer() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(desk.ask)
        first, second = await desk.box.take()
        desk.asks.answer(second, "second")
        await wait_all_tasks_blocked()
        desk.asks.answer(first, "first")
    assert desk.got == ["second", "first"]
    assert len(desk.asks) == 0


async def test_a_refusal_is_raised_in_the_asker() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        [ask_id] = await desk.box.take()
        desk.asks.refuse(ask_id, LookupError())
    assert desk.got == [LookupError]


async def test_an_ask_times_out_and_its_late_answer_is_dropped(autojump_clock: MockClock) -> None:
    desk = Desk()
    await desk.ask()
    assert (desk.got, trio.current_time()) == ([AskTimeoutError], 5.0)
    [ask_id] = await desk.box.take()
    desk.asks.answer(ask_id, "late")
    desk.asks.answer(12345, "unknown")
    assert desk.asks.dropped_total == 2
    assert len(desk.asks) == 0


async def test_a_cancelled_ask_leaves_nothing_behind() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (len(desk.asks), desk.got) == (0, [])


async def test_an_answer_in_the_turn_of_a_cancellation_harms_nobody() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        [ask_id] = await desk.box.take()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        desk.asks.answer(ask_id, "late")
    assert (len(desk.asks), desk.got) == (0, [])


async def test_only_the_first_answer_counts() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        [ask_id] = await desk.box.take()
        desk.asks.answer(ask_id, "first")
        desk.asks.answer(ask_id, "second")
    assert (desk.got, desk.asks.dropped_total) == (["first"], 1)


async def test_an_answer_that_comes_before_the_wait_is_kept() -> None:
    asks = Asks()
    ask_id = asks.open("desk")
    asks.answer(ask_id, "early")
    assert await asks.wait(ask_id, 1.0) == "early"
    assert len(asks) == 0


async def test_a_full_mailbox_refuses_an_ask_at_once() -> None:
    desk = Desk(capacity=1)
    desk.address.tell_nowait(0)
    with pytest.raises(MailboxFullError):
        await desk.address.ask(lambda ask_id: ask_id, 5.0)
    assert len(desk.asks) == 0


async def test_an_actor_that_ends_refuses_what_it_took_and_keeps_what_waits() -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        await desk.box.take()
        nursery.start_soon(desk.ask)
        await wait_all_tasks_blocked()
        desk.asks.refuse_taken("another", 100)
        desk.asks.refuse_taken("desk", desk.box.taken_total)
        await wait_all_tasks_blocked()
        assert desk.got == [ActorStoppedError]
        [ask_id] = await desk.box.take()
        desk.asks.answer(ask_id, "from the successor")
    assert desk.got == [ActorStoppedError, "from the successor"]


async def test_an_answer_is_called_back_once_and_needs_no_task() -> None:
    desk = Desk()
    ends = Ends()
    asked = desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    [ask_id] = await desk.box.take()
    desk.asks.answer(ask_id, "yes")
    desk.asks.answer(ask_id, "again")
    asked.give_up(5.0)
    assert ends.told == [("yes", None)]
    assert (len(desk.asks), desk.asks.dropped_total) == (0, 1)


async def test_an_ask_that_is_called_back_ends_with_its_actor_or_when_it_is_given_up() -> None:
    desk = Desk()
    ends = Ends()
    desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    late = desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    late.give_up(5.0)
    await desk.box.take()
    desk.asks.refuse_taken("desk", desk.box.taken_total)
    assert [(value, type(error)) for value, error in ends.told] == [
        (None, AskTimeoutError),
        (None, ActorStoppedError),
    ]
    assert len(desk.asks) == 0


async def test_a_forgotten_ask_calls_nothing_back() -> None:
    desk = Desk()
    ends = Ends()
    asked = desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    asked.forget()
    [ask_id] = await desk.box.take()
    desk.asks.answer(ask_id, "nobody")
    assert (ends.told, len(desk.asks), desk.asks.dropped_total) == ([], 0, 1)


async def test_what_cannot_be_asked_is_raised_and_calls_nothing_back() -> None:
    desk = Desk(capacity=1)
    ends = Ends()
    desk.address.tell_nowait(1)
    with pytest.raises(MailboxFullError):
        desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    desk.box.close()
    with pytest.raises(MailboxClosedError):
        desk.address.ask_nowait(lambda ask_id: ask_id, ends.note)
    assert (ends.told, len(desk.asks)) == ([], 0)
