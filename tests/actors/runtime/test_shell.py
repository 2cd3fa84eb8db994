"""The shell loop: order, wake-ups, batching, slow calls, and what a crash leaves behind."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks
from jobengine.actors.runtime.clock import SimulatedClock, SystemClock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import (
    SLICE_S,
    Perform,
    UnknownCommandError,
    Wakeup,
    open_calls,
    run_shell,
)
from jobengine.actors.runtime.step_end import StepEnd
from jobengine.core.machine import Answer, Refuse
from jobengine.domain.instant import Moment
from jobengine.messages.wake import Wake


@attrs.frozen
class Say:
    text: str


@attrs.define(eq=False)
class Scripted:
    """A core whose decision is given by a function."""

    decide: Callable[[Any, Moment], tuple[Any, ...]]
    wakeup_at: float | None = None

    def handle(self, message: Any, now: Moment, /) -> tuple[Any, ...]:
        return self.decide(message, now)


def said(message: Any, now: Moment) -> tuple[Say, ...]:
    return (Say(f"{message}.1"), Say(f"{message}.2"))


async def test_a_burst_is_decided_then_performed_in_order_then_flushed_once() -> None:
    box = Mailbox[str]("actor", 10)
    log: list[str] = []
    wakeups: list[Wakeup] = []
    for text in ("a", "b"):
        box.put_nowait(text)
    box.close()
    await run_shell(
        Scripted(said),
        box,
        {Say: lambda command: log.append(command.text)},
        SimulatedClock(0),
        asks=Asks(),
        flush=lambda: log.append("flush"),
        observe=wakeups.append,
    )
    assert log == ["a.1", "a.2", "b.1", "b.2", "flush"]
    assert [wakeup[:3] for wakeup in wakeups] == [("actor", 2, 4)]


async def test_a_burst_that_takes_long_is_cut_so_that_others_run(mock_clock: MockClock) -> None:
    box = Mailbox[str]("actor", 10)
    log: list[str] = []
    wakeups: list[Wakeup] = []

    def decide(message: Any, now: Moment) -> tuple[Any, ...]:
        if message in ("a", "c"):
            mock_clock.jump(2 * SLICE_S)
        return (Say(f"{message} at {now.mono:g}"),)

    async def others() -> None:
        for _ in range(4):
            log.append("others")
            await trio.lowlevel.checkpoint()

    for text in "abcd":
        box.put_nowait(text)
    box.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await run_shell(
            Scripted(decide),
            box,
            {Say: lambda command: log.append(command.text)},
            SimulatedClock(0),
            asks=Asks(),
            flush=lambda: log.append("flush"),
            observe=wakeups.append,
        )
    decided = [text for text in log if text not in ("others", "flush")]
    assert decided == ["a at 0", "b at 0.01", "c at 0.01", "d at 0.02"]
    assert [wakeup.messages for wakeup in wakeups] == [1, 2, 1]
    assert log.count("flush") == 3
    assert log[: log.index("d at 0.02")].count("others") >= 2


async def test_a_burst_that_is_cut_short_by_cancellation_has_its_asks_refused(
    mock_clock: MockClock,
) -> None:
    box, asks = Mailbox[Any]("actor", 10), Asks()
    address = Address[Any](box, asks)
    decided: list[Any] = []
    refused: list[type[Exception]] = []

    async def ask() -> None:
        try:
            await address.ask(lambda ask_id: ask_id, 60.0)
        except ActorStoppedError as error:
            refused.append(type(error))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:

            def decide(message: Any, _: Moment) -> tuple[Any, ...]:
                decided.append(message)
                mock_clock.jump(2 * SLICE_S)
                scope.cancel()
                return ()

            await run_shell(Scripted(decide), box, {}, SimulatedClock(0), asks=asks)
    assert len(decided) == 1
    assert refused == [ActorStoppedError, ActorStoppedError]


async def test_a_core_is_woken_at_the_time_it_asked_for(autojump_clock: MockClock) -> None:
    box = Mailbox[str]("actor", 10)
    heard: list[tuple[object, float]] = []

    def decide(message: Any, now: Moment) -> tuple[Any, ...]:
        heard.append((message, now.mono))
        machine.wakeup_at = 20.0 if now.mono < 20 else None
        return ()

    machine = Scripted(decide, wakeup_at=5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_shell(machine, box, {}, SimulatedClock(0), asks=Asks()))
        await trio.sleep(12)
        box.put_nowait("between")
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert heard == [(Wake(), 5.0), ("between", 12.0), (Wake(), 20.0)]


async def test_a_time_that_moves_back_and_forth_wakes_the_core_when_it_stands(
    autojump_clock: MockClock,
) -> None:
    box = Mailbox[float | None]("actor", 10)
    woken: list[float] = []

    def decide(message: Any, now: Moment) -> tuple[Any, ...]:
        if isinstance(message, Wake):
            woken.append(now.mono)
            machine.wakeup_at = None
        else:
            machine.wakeup_at = message
        return ()

    machine = Scripted(decide, wakeup_at=5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_shell(machine, box, {}, SimulatedClock(0), asks=Asks()))
        for at in (50.0, 20.0, 30.0, None, 40.0):
            await trio.sleep(1)
            box.put_nowait(at)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert woken == [40.0]


async def test_a_core_that_wants_to_be_woken_at_once_hears_its_messages_all_the_same() -> None:
    box = Mailbox[str]("actor", 10)
    heard: list[str] = []

    def decide(message: Any, _: Moment) -> tuple[Any, ...]:
        if not isinstance(message, Wake):
            heard.append(message)
        return ()

    async with trio.open_nursery() as nursery:
        machine = Scripted(decide, wakeup_at=trio.current_time())
        nursery.start_soon(lambda: run_shell(machine, box, {}, SystemClock(), asks=Asks()))
        with trio.fail_after(5):
            for text in "abc":
                box.put_nowait(text)
                while box.depth:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert heard == ["a", "b", "c"]


async def test_what_commands_defer_is_done_once_at_the_end_of_their_wakeup() -> None:
    box, end = Mailbox[str]("actor", 10), StepEnd()
    log: list[str] = []

    def say(command: Say) -> None:
        log.append(command.text)
        assert end.defer(lambda: log.append(f"end of {command.text}"))

    box.put_nowait("a")
    box.close()
    await run_shell(Scripted(said), box, {Say: say}, SimulatedClock(0), asks=Asks(), performing=end)
    assert log == ["a.1", "a.2", "end of a.1", "end of a.2"]
    assert not end.defer(lambda: log.append("never"))


async def test_what_was_deferred_is_done_also_where_its_step_fails() -> None:
    end, log = StepEnd(), list[str]()

    def step() -> None:
        with end:
            end.defer(lambda: log.append("done"))
            raise ValueError("step")

    with pytest.raises(ValueError, match="step"):
        step()
    assert log == ["done"]


async def test_answers_and_refusals_reach_their_askers() -> None:
    asks = Asks()
    box = Mailbox[int]("actor", 10)
    address = Address(box, asks)
    errors: list[str] = []

    def decide(ask_id: int, now: Moment) -> tuple[Any, ...]:
        return (Answer(ask_id, "yes"),) if ask_id == 1 else (Refuse(ask_id, LookupError("no")),)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_shell(Scripted(decide), box, {}, SimulatedClock(0), asks=asks)
        )
        assert await address.ask(lambda ask_id: ask_id, 5) == "yes"
        try:
            await address.ask(lambda ask_id: ask_id, 5)
        except LookupError as error:
            errors.append(str(error))
        nursery.cancel_scope.cancel()
    assert errors == ["no"]


async def test_a_core_that_fails_performs_nothing_and_its_asks_are_refused() -> None:
    asks = Asks()
    box = Mailbox[Any]("actor", 10)
    log: list[str] = []
    refused: list[str] = []

    def decide(message: Any, now: Moment) -> tuple[Any, ...]:
        if message == "bad":
            raise ZeroDivisionError
        return (Say(str(message)),)

    async def ask() -> None:
        try:
            await Address(box, asks).ask(lambda ask_id: ask_id, 5)
        except ActorStoppedError as error:
            refused.append(error.target)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        box.put_nowait("bad")
        perform: Perform = {Say: lambda command: log.append(command.text)}
        with pytest.raises(ZeroDivisionError):
            await run_shell(Scripted(decide), box, perform, SimulatedClock(0), asks=asks)
        box.put_nowait("for the successor")
    assert (log, refused, len(asks)) == ([], ["actor"], 0)
    assert await box.take() == ["for the successor"]


async def test_a_command_without_a_port_is_an_error_of_the_programmer() -> None:
    box = Mailbox[str]("actor", 10)
    box.put_nowait("a")
    with pytest.raises(UnknownCommandError, match="actor has no port for Say"):
        await run_shell(Scripted(said), box, {}, SimulatedClock(0), asks=Asks())


async def test_slow_calls_come_back_as_messages_and_so_do_their_operating_errors() -> None:
    box = Mailbox[str]("actor", 1)

    async def call(kind: str) -> str | None:
        await trio.lowlevel.checkpoint()
        if kind == "broken":
            raise OSError(kind)
        if kind == "all broken":
            raise ExceptionGroup("calls", [OSError(kind)])
        return kind if kind == "fine" else None

    async with open_calls(box, (OSError,)) as calls:
        for kind in ("fine", "broken", "all broken", "silent"):
            calls.spawn(call, kind, failed=lambda error: f"failed {type(error).__name__}")
        await wait_all_tasks_blocked()
    assert sorted(await box.take()) == ["failed ExceptionGroup", "failed OSError", "fine"]


async def test_a_programmer_error_in_a_slow_call_ends_the_actor() -> None:
    async def call() -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with open_calls(Mailbox[str]("actor", 1), (OSError,)) as calls:
            calls.spawn(call, failed=str)
            await trio.sleep_forever()


async def test_leaving_cancels_the_slow_calls_in_flight(autojump_clock: MockClock) -> None:
    async with open_calls(Mailbox[str]("actor", 1), (OSError,)) as calls:
        calls.spawn(trio.sleep_forever, failed=str)
    assert trio.current_time() == 0
