"""What a planner has asked of its lease shard: every request, until it is answered.

I1  A request outlives the life of the planner that made it: until it is answered, what it has
    changed cannot be known, and nobody reads the store in its place (``settled``).
I2  A request without an answer is unsettled: the shard may have carried it out.

Not here: what is asked (the planner's shell), what an answer means (``core/dag_planner``).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from jobengine.actors.runtime.address import Address
from jobengine.actors.runtime.mailbox import MailboxClosedError, MailboxFullError

__all__ = ["ShardCalls", "UnsettledError"]


class UnsettledError(Exception):
    """No answer: the request may have taken effect."""


@attrs.define(eq=False)
class ShardCalls:
    shard: Address[Any]
    _open: Counter[str] = attrs.field(init=False, factory=Counter)
    _closed: trio.Event = attrs.field(init=False, factory=trio.Event)

    def send(
        self,
        run_id: str,
        build: Callable[[int], object],
        answered: Callable[[Any, Exception | None], None],
    ) -> None:
        """Ask something about a run; ``answered`` is told once, maybe before this returns, and
        neither waits nor raises."""

        def told(value: Any, error: Exception | None) -> None:
            self._end(run_id)
            answered(value, error)

        self._open[run_id] += 1
        try:
            self.shard.ask_nowait(build, told)
        except (MailboxFullError, MailboxClosedError) as error:
            told(None, error)

    async def ask(self, run_id: str, build: Callable[[int], object]) -> Any:
        """The answer, which may be a ``Refusal``. Raises `UnsettledError`."""
        ended = trio.Event()
        kept: list[tuple[Any, Exception | None]] = []

        def told(value: Any, error: Exception | None) -> None:
            kept.append((value, error))
            ended.set()

        self.send(run_id, build, told)
        await ended.wait()
        value, error = kept[0]
        if error is not None:
            raise UnsettledError(str(error)) from error
        return value

    @contextmanager
    def under_way(self, run_id: str) -> Iterator[None]:
        """While it is decided what to ask."""
        self._open[run_id] += 1
        try:
            yield
        finally:
            self._end(run_id)

    async def settled(self, run_id: str | None = None) -> None:
        """Returns when nothing of the run, or of any run, is under way."""
        while self._open if run_id is None else run_id in self._open:
            await self._closed.wait()

    def _end(self, run_id: str) -> None:
        self._open[run_id] -= 1
        if not self._open[run_id]:
            del self._open[run_id]
        self._closed.set()
        self._closed = trio.Event()
