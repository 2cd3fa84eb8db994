"""Addresses: how an actor is spoken to, and how an answer finds whoever asked.

`tell` hands over a request, `deliver` an answer, `ask` a request whose answer is waited for, and
`ask_nowait` one whose answer is called back, which costs no task. An ask is a number that travels
in the message; the core gives it back in the commands `Answer` or `Refuse`, which the shell
resolves through the engine's one `Asks`.

I1  Every ask ends once: answered, refused, timed out or cancelled; nothing of it stays behind.
I2  An answer that nobody waits for any more is dropped and counted.
I3  When an actor ends, in whatever way, the asks it had taken are refused with `ActorStoppedError`:
    what it knew of them is gone. Asks still in its mailbox wait for its successor.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import outcome
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from jobengine.actors.runtime.mailbox import Mailbox

M = TypeVar("M")


class AskTimeoutError(Exception):
    """No answer in time. Whether the request took effect is unknown to the asker."""

    def __init__(self, target: str, timeout_s: float) -> None:
        super().__init__(f"{target} did not answer within {timeout_s} s")
        self.target = target
        self.timeout_s = timeout_s


class ActorStoppedError(Exception):
    """The actor ended before it answered. Whether the request took effect is unknown."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target} stopped before it answered")
        self.target = target


Answered = Callable[[Any, Exception | None], None]
"""Told once how an ask ended, within the step of whoever ended it: the answer and None, or None
and what it was refused with. Neither waits nor raises."""


class _Ask:
    __slots__ = ("answered", "outcome", "position", "target", "task")

    def __init__(self, target: str, answered: Answered | None) -> None:
        self.target = target
        self.answered = answered
        self.position: int | None = None
        self.task: Task | None = None
        self.outcome: outcome.Outcome[Any] | None = None


class Asks:
    """All asks of one engine that wait for their answer."""

    __slots__ = ("_last_id", "_open", "dropped_total")

    def __init__(self) -> None:
        self._open: dict[int, _Ask] = {}
        self._last_id = 0
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, target: str, answered: Answered | None = None) -> int:
        """A fresh id for an ask of the actor `target`; end it with `wait` or `forget`. With
        `answered` it also ends by being answered or refused."""
        self._last_id += 1
        self._open[self._last_id] = _Ask(target, answered)
        return self._last_id

    def sent(self, ask_id: int, position: int) -> None:
        """Note where in the target's mailbox the request lies (see `refuse_taken`)."""
        self._open[ask_id].position = position

    def forget(self, ask_id: int) -> None:
        """End an ask, open or not; its answer will be dropped."""
        self._open.pop(ask_id, None)

    def answer(self, ask_id: int, value: Any) -> None:
        self._resolve(ask_id, value, None)

    def refuse(self, ask_id: int, error: Exception) -> None:
        """Raise `error` in the asker."""
        self._resolve(ask_id, None, error)

    def expire(self, ask_id: int, timeout_s: float) -> None:
        """Raise `AskTimeoutError` in the asker, unless the ask has ended."""
        ask = self._open.get(ask_id)
        if ask is not None:
            self.refuse(ask_id, AskTimeoutError(ask.target, timeout_s))

    def refuse_taken(self, target: str, taken_total: int) -> None:
        """Refuse what `target` took, the first `taken_total` messages of its mailbox."""
        lost = [
            ask_id
            for ask_id, ask in self._open.items()
            if ask.target == target and ask.position is not None and ask.position < taken_total
        ]
        for ask_id in lost:
            self.refuse(ask_id, ActorStoppedError(target))

    async def wait(self, ask_id: int, timeout_s: float) -> Any:
        """The answer to an open ask, which is over when this returns or raises.

        Raises what the ask was refused with, or `AskTimeoutError`.
        """
        ask = self._open[ask_id]

        def leave(_: object) -> Abort:
            # It is rescheduled by the cancellation; an answer in the same turn must not do it too.
            ask.task = None
            return Abort.SUCCEEDED

        try:
            with trio.move_on_after(timeout_s):
                if ask.outcome is not None:
                    await trio.lowlevel.checkpoint()
                    return ask.outcome.unwrap()
                ask.task = current_task()
                return await wait_task_rescheduled(leave)
            raise AskTimeoutError(ask.target, timeout_s)
        finally:
            self.forget(ask_id)

    def _resolve(self, ask_id: int, value: Any, error: Exception | None) -> None:
        ask = self._open.get(ask_id)
        if ask is None or ask.outcome is not None:
            self.dropped_total += 1
            return
        if ask.answered is not None:
            del self._open[ask_id]
            ask.answered(value, error)
            return
        result = outcome.Value(value) if error is None else outcome.Error(error)
        ask.outcome = result
        if ask.task is not None:
            reschedule(ask.task, result)


class OpenAsk:
    """The asker's hold on an ask whose answer is called back; of no effect once it has ended."""

    __slots__ = ("_ask_id", "_asks")

    def __init__(self, asks: Asks, ask_id: int) -> None:
        self._asks = asks
        self._ask_id = ask_id

    def give_up(self, timeout_s: float) -> None:
        """End it with `AskTimeoutError`."""
        self._asks.expire(self._ask_id, timeout_s)

    def forget(self) -> None:
        """End it without a word; its answer will be dropped."""
        self._asks.forget(self._ask_id)


class Address(Generic[M]):
    """The sending side of an actor, for everybody but the actor itself."""

    __slots__ = ("_asks", "_mailbox")

    def __init__(self, mailbox: Mailbox[M], asks: Asks) -> None:
        self._mailbox = mailbox
        self._asks = asks

    @property
    def name(self) -> str:
        return self._mailbox.name

    def tell_nowait(self, message: M) -> None:
        """Hand over a request. Raises `MailboxFullError`, `MailboxClosedError`."""
        self._mailbox.put_nowait(message)

    async def tell(self, message: M) -> None:
        """Hand over a request, waiting for room. Raises `MailboxClosedError`; cancelled: unsent."""
        await self._mailbox.put(message)

    def deliver(self, message: M) -> None:
        """Hand over the answer to something this actor asked for; needs no room."""
        self._mailbox.deliver(message)

    async def ask(self, build: Callable[[int], M], timeout_s: float) -> Any:
        """Send the request that `build` makes of a fresh ask id, and wait for its answer.

        Does not wait for room: a full mailbox raises `MailboxFullError` at once, so that doors shed
        load early. Raises also `MailboxClosedError`, `AskTimeoutError`, `ActorStoppedError`, and
        what the core refused with. Cancelled: the request may take effect all the same, its answer
        is dropped.
        """
        asks = self._asks
        ask_id = asks.open(self._mailbox.name)
        try:
            asks.sent(ask_id, self._mailbox.put_nowait(build(ask_id)))
        except BaseException:
            asks.forget(ask_id)
            raise
        return await asks.wait(ask_id, timeout_s)

    def ask_nowait(self, build: Callable[[int], M], answered: Answered) -> OpenAsk:
        """Send the request that `build` makes of a fresh ask id; `answered` is told what `ask`
        would return or raise, but for the time, which the asker keeps: `OpenAsk.give_up`.

        Raises `MailboxFullError` and `MailboxClosedError`, and then calls nothing.
        """
        asks = self._asks
        ask_id = asks.open(self._mailbox.name, answered)
        try:
            asks.sent(ask_id, self._mailbox.put_nowait(build(ask_id)))
        except BaseException:
            asks.forget(ask_id)
            raise
        return OpenAsk(asks, ask_id)
