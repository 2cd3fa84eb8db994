"""The shell: the one loop that drives every core.

A wake-up takes everything that waits, hands it to the core message by message with one `Moment`,
wakes the core if its time has come, then performs all commands in order, then flushes once. Where
that takes longer than `SLICE_S`, the rest of the messages is left to another wake-up, after others
have run.

I1  Commands are performed in the order in which the core returned them, after all messages of the
    wake-up were decided: if the core fails on one, no command of that wake-up is performed.
I2  Performing never waits. What is slow is spawned as a `SlowCalls` task, and its result comes
    back as a message, so the mailbox stays live.
I3  Operating errors of slow calls become messages; every other exception leaves through the loop
    to the supervisor, which builds the actor anew from the store.
I4  However the loop ends, asks that the actor had taken are refused.
I5  No wake-up decides longer than `SLICE_S` and one message: all actors share one thread, so a
    burst for one tenant is a wait for all others.

Not here: decisions (`core`), what to restart (`supervisor.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, Generic, NamedTuple, TypeVar

import trio

from jobengine.actors.runtime.address import Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError
from jobengine.core.machine import Answer, Machine, Refuse
from jobengine.messages.wake import Wake

M = TypeVar("M")

SLICE_S: Final = 0.005
"""Monotonic seconds: some tens of a checkpoint's cost, and little beside a commit."""

Perform = Mapping[type, Callable[[Any], None]]
"""Per command type (exactly that type) the synchronous, non-blocking function that performs it."""


_PLAINLY: Final = nullcontext()


class UnknownCommandError(Exception):
    """A core returned a command that its shell has no port for: a programmer error."""


class Wakeup(NamedTuple):
    """What one wake-up of an actor did. `busy_s`: from the first message to after the flush."""

    actor: str
    messages: int
    commands: int
    busy_s: float


async def run_shell(
    machine: Machine[M, Any],
    mailbox: Mailbox[M],
    perform: Perform,
    clock: Clock,
    *,
    asks: Asks,
    flush: Callable[[], None] | None = None,
    performing: AbstractContextManager[object] = _PLAINLY,
    observe: Callable[[Wakeup], None] | None = None,
) -> None:
    """Drive `machine` until its mailbox is closed and empty, or for ever.

    `Answer` and `Refuse` are performed here. `flush` is called after the commands of a wake-up, if
    there were any: ports that gather (one frame for many leases) send then. They are performed
    within `performing`, which is entered again for every wake-up. Cancellation takes effect between
    wake-ups only, so a wake-up is performed whole or not at all; what was taken and not decided by
    then is lost, as it is in a crash.
    """
    ports: dict[type, Callable[[Any], None]] = {
        Answer: lambda command: asks.answer(command.ask_id, command.value),
        Refuse: lambda command: asks.refuse(command.ask_id, command.error),
        **perform,
    }

    def turn(messages: list[M]) -> None:
        """One wake-up; takes from `messages` what it decided."""
        started_at = trio.current_time()
        commands, decided = _decide(machine, messages, clock)
        if commands:
            with performing:
                _perform(commands, ports, mailbox.name)
            if flush is not None:
                flush()
        if observe is not None:
            busy_s = trio.current_time() - started_at
            observe(Wakeup(mailbox.name, decided, len(commands), busy_s))
        del messages[:decided]

    waiting: list[M] = []
    try:
        while True:
            # One scope serves many waits: to enter one costs more than a wake-up that has little
            # to decide.
            with trio.CancelScope() as alarm:
                while not _is_due(machine.wakeup_at):
                    if waiting:
                        await trio.lowlevel.checkpoint()
                    else:
                        _set(alarm, machine.wakeup_at)
                        waiting = await mailbox.take()
                    turn(waiting)
            await trio.lowlevel.checkpoint()
            waiting = waiting or mailbox.take_nowait()
            turn(waiting)
    except MailboxClosedError:
        return
    finally:
        asks.refuse_taken(mailbox.name, mailbox.taken_total)


def _set(alarm: trio.CancelScope, wakeup_at: float | None) -> None:
    """Have it ring by then. One that is set to ring earlier stays as it is: to ring for nothing now
    and then costs less than to be set anew for each message."""
    if wakeup_at is not None and wakeup_at < alarm.deadline:
        alarm.deadline = wakeup_at


def _is_due(wakeup_at: float | None) -> bool:
    return wakeup_at is not None and wakeup_at <= trio.current_time()


def _decide(machine: Machine[M, Any], messages: list[M], clock: Clock) -> tuple[list[Any], int]:
    """The commands of one wake-up, and how many messages it decided before its slice was over."""
    now = clock.moment()
    ends_at = now.mono + SLICE_S
    handle = machine.handle
    commands: list[Any] = []
    waiting, decided = len(messages), 0
    for message in messages:
        commands.extend(handle(message, now))
        decided += 1
        if decided < waiting and trio.current_time() > ends_at:
            break
    wakeup_at = machine.wakeup_at
    if wakeup_at is not None and wakeup_at <= now.mono:
        commands.extend(handle(Wake(), now))
    return commands, decided


def _perform(commands: list[Any], ports: Mapping[type, Callable[[Any], None]], actor: str) -> None:
    for command in commands:
        port = ports.get(type(command))
        if port is None:
            raise UnknownCommandError(f"{actor} has no port for {type(command).__qualname__}")
        port(command)


class SlowCalls(Generic[M]):
    """The child tasks of one actor: calls that wait, and whose result is a message to it."""

    __slots__ = ("_mailbox", "_nursery", "_operating")

    def __init__(
        self,
        nursery: trio.Nursery,
        mailbox: Mailbox[M],
        operating: tuple[type[Exception], ...],
    ) -> None:
        self._nursery = nursery
        self._mailbox = mailbox
        self._operating = operating

    def spawn(
        self,
        call: Callable[..., Awaitable[M | None]],
        *args: Any,
        failed: Callable[[Exception], M],
    ) -> None:
        """Run `call(*args)` beside the loop. Its result, unless None, is delivered to the actor;
        so is `failed(error)` for an operating error. Both carry the stamp of the command."""
        self._nursery.start_soon(self._run, call, args, failed)

    async def _run(
        self,
        call: Callable[..., Awaitable[M | None]],
        args: tuple[Any, ...],
        failed: Callable[[Exception], M],
    ) -> None:
        message: M | None
        try:
            message = await call(*args)
        except self._operating as error:
            message = failed(error)
        except ExceptionGroup as group:
            if group.split(self._operating)[1] is not None:
                raise
            message = failed(group)
        if message is not None:
            self._mailbox.deliver(message)


@asynccontextmanager
async def open_calls(
    mailbox: Mailbox[M], operating: tuple[type[Exception], ...]
) -> AsyncIterator[SlowCalls[M]]:
    """Open the nursery of an actor's slow calls; `run_shell` runs inside of it.

    `operating` names the errors that are a matter of operation (the network, the database) and not
    of programming. On leaving, calls in flight are cancelled: their results would have no reader.
    """
    async with trio.open_nursery() as nursery:
        yield SlowCalls(nursery, mailbox, operating)
        nursery.cancel_scope.cancel()
