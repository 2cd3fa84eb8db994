"""The life of one stream: from the first byte of its answer to the last.

A reader is what the broadcaster pushes to, in its own step; two tasks wait meanwhile, one for the
peer to say something or go, one for the bearer to end. A third exists while the kernel does not
take everything (`outlet`), or while something is read from the store (`besides`).

I1  `begin` and `serve` are called without a checkpoint in between (`hand_over`, I1), so what comes
    from the broadcaster finds the connection. When `serve` has returned, nothing is left over; nor
    after `leave`, which stands in for a `serve` that is not called.
I2  A stream ends by itself: when its bearer counts no more, when the engine stops, when the store
    fails what is read beside the events, when all that was asked for is sent. Its last message says
    which; nothing of the ledger is sent from then on.
I3  A peer that has gone is noticed at once, one that takes nothing within `write_s`.

Not here: what is shown (`plan`), how (`form`), which events a reader gets (`core/broadcaster`).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from jobengine.actors.following import Subscription
from jobengine.actors.runtime.address import ActorStoppedError
from jobengine.actors.runtime.mailbox import MailboxClosedError
from jobengine.domain.event_batch import Batch
from jobengine.http.hand_over import HandedConnection
from jobengine.http.streams import form as endings
from jobengine.http.streams.form import Ending, Form
from jobengine.http.streams.outlet import Outlet
from jobengine.http.streams.plan import Plan
from jobengine.store.errors import StoreError

__all__ = ["Stream"]

_RECEIVE_BYTES: Final = 4_096
_FAREWELL_S: Final = 1.0
_ASIDES_MAX: Final = 256
"""Answers to pings, above all, that a peer leaves unread."""
_FAILURES: Final = (StoreError, MailboxClosedError, ActorStoppedError)

_log = structlog.get_logger("jobengine.http")


class Stream:
    """One reader (`actors/following.Sink`)."""

    __slots__ = (
        "_encode",
        "_ending",
        "_form",
        "_is_gone",
        "_is_over",
        "_listening",
        "_nursery",
        "_outlet",
        "_plan",
        "_subscription",
    )

    _nursery: trio.Nursery
    _outlet: Outlet
    _subscription: Subscription

    def __init__(self, plan: Plan, form: Form) -> None:
        self._plan = plan
        self._form = form
        self._encode = form.encoder(plan.shown)
        self._listening = trio.CancelScope()
        self._ending: Ending | None = None
        self._is_gone = False
        self._is_over = False

    def begin(self) -> None:
        """Raises `RefusedError` when the node has no room for readers."""
        plan = self._plan
        self._subscription = plan.gateway.streams.follow(
            plan.tenant_id, plan.after_seq, self, plan.wanted, plan.logs_of
        )

    def leave(self) -> None:
        """Idempotent."""
        if not self._is_over:
            self._is_over = True
            self._subscription.leave()

    async def serve(self, connection: HandedConnection) -> None:
        """Send until the stream ends. Cancelled: the connection is cut."""
        plan = self._plan
        try:
            async with trio.open_nursery() as self._nursery:
                self._outlet = Outlet(
                    connection.bytes,
                    self._nursery.start_soon,
                    events_max=plan.events_max,
                    write_s=connection.write_s,
                    on_room=self._subscription.roomy,
                    on_failed=self._go,
                    on_sent=plan.gateway.streams.sent,
                )
                self._outlet.put(connection.head + self._form.hello(plan.begins_after))
                self._nursery.start_soon(self._end_with_bearer)
                for beside in plan.besides:
                    beside.begin(self)
                with self._listening, connection.left_when_stopping(self._listening):
                    await self._listen(connection)
                self.leave()
                if not self._is_gone:
                    await self._say_farewell(connection)
                self._nursery.cancel_scope.cancel()
        finally:
            self.leave()

    def take(self, batch: Batch) -> bool:
        if self._encode is not None:
            self._outlet.put(batch.encoded(self._encode), len(batch.events))
        if batch.events:
            for beside in self._plan.besides:
                beside.moved()
        return not self._outlet.is_full

    def logged(self) -> None:
        for beside in self._plan.besides:
            beside.logged()

    def say(self, *said: tuple[str, Any, str | None]) -> None:
        if not self._is_over:
            self._outlet.put(b"".join([self._form.beside(*one) for one in said]))

    async def drained(self) -> None:
        await self._outlet.drained()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, work)

    def end(self, ending: Ending) -> None:
        """Of several the first counts."""
        if not self._is_over:
            self._ending = ending
            self.leave()
            self._listening.cancel()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except _FAILURES as error:
            tenant_id = self._plan.tenant_id
            _log.warning("stream_ended", tenant=tenant_id, error=type(error).__name__)
            self.end(endings.failed())

    async def _end_with_bearer(self) -> None:
        self.end(endings.token_ended(await self._plan.ended()))

    async def _listen(self, connection: HandedConnection) -> None:
        """Answer what the peer says, and keep it awake; returns when the stream ends by it."""
        outlet, beat_s = self._outlet, self._plan.heartbeat_s
        due = trio.current_time() + beat_s
        while True:
            with trio.move_on_at(due) as beat:
                data = await self._receive(connection)
            if beat.cancelled_caught:
                due = trio.current_time() + beat_s
                if outlet.is_idle:
                    outlet.put(self._form.heartbeat)
                continue
            if not data:
                self._go()
                return
            heard = self._form.hear(data)
            outlet.put(heard.answer)
            if heard.ending is not None:
                self.end(heard.ending)
            elif outlet.asides > _ASIDES_MAX:
                self._go()

    async def _say_farewell(self, connection: HandedConnection) -> None:
        form = self._form
        with trio.move_on_after(_FAREWELL_S):
            self._outlet.put(form.farewell(self._ending or endings.stopping()))
            await self._outlet.drained()
            while not form.is_closed and (data := await self._receive(connection)):
                form.hear(data)
            await connection.say_end()
            while await self._receive(connection):
                pass

    async def _receive(self, connection: HandedConnection) -> bytes | bytearray:
        """Nothing when the peer has gone or sends no more."""
        try:
            return await connection.bytes.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _go(self) -> None:
        """The peer has gone, or takes nothing."""
        self._is_gone = True
        self.leave()
        self._listening.cancel()
