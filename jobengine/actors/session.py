"""The shell of a worker session: one task reads frames, one writes them, the core decides.

What the worker says is handed to the shard with backpressure: while the shard's mailbox is full,
nothing more is read from this worker. Everything else that the core wants of the shard (to attach
again, to detach) is an answer to an event and needs no room.

I1  Everything said within one step of the engine leaves in as few frames as their size allows
    (`session_outbox`).
I2  What waits to be sent is bounded: past ``outbox_bytes_max`` the worker is not read from, and a
    worker that takes nothing for ``send_s_max`` is cut off. Its leases live on.
I3  However a session ends, it is dismissed from the registry and its shard hears ``Detach``.
I4  A programmer error ends this session only.
I5  While a large frame is read, others run between its steps.

Not here: decisions (``core/session``), the wire's JSON (the door's ``Codec``), sockets.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from math import inf
from typing import Any, Final, TypeVar

import trio

from jobengine.actors.frame_channel import ChannelClosedError, FrameChannel
from jobengine.actors.runtime.mailbox import MailboxClosedError, MailboxFullError
from jobengine.actors.session_outbox import Outbox
from jobengine.actors.session_ports import Codec, SessionPorts, ShellLimits
from jobengine.actors.session_submits import Submits
from jobengine.core.session import GOING_AWAY, Session
from jobengine.messages.session import (
    AskSubmit,
    BearerEnded,
    Closed,
    HangUp,
    Opened,
    Peer,
    Received,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Attach, Beat, Detach, Drain, Reports, SetCredit

__all__ = ["Codec", "SessionPorts", "ShellLimits", "run_session"]

_TO_SHARD: Final = frozenset({AskSubmit, Attach, Beat, Detach, Drain, Reports, SetCredit})
R = TypeVar("R")


async def run_session(
    channel: FrameChannel,
    peer: Peer,
    ports: SessionPorts,
    bearer_ended: Callable[[], Awaitable[str]] = trio.sleep_forever,
) -> None:
    """Serve one connection until it has ended; does not raise for what a peer does.

    `bearer_ended` returns, with the reason, when the peer's token counts no more. The caller closes
    the transport afterwards. Cancelled: the worker gets no farewell, its leases live on.
    """
    await _Shell(channel, peer, ports).run(bearer_ended)


class _Shell:
    __slots__ = (
        "_channel",
        "_core",
        "_cut_mono",
        "_nursery",
        "_outbox",
        "_peer",
        "_ports",
        "_reader_waits",
        "_shard",
        "_submits",
        "_telling",
    )

    def __init__(self, channel: FrameChannel, peer: Peer, ports: SessionPorts) -> None:
        self._channel = channel
        self._peer = peer
        self._ports = ports
        self._shard = ports.registry.shard(peer.tenant_id)
        self._outbox = Outbox(
            channel,
            ports.codec,
            ports.registry.step_end,
            failed=self._fail,
            room=self._wake_reader,
        )
        self._cut_mono = inf
        self._telling = False
        self._nursery: trio.Nursery | None = None
        self._reader_waits: trio.Event | None = None
        self._core = Session(ports.registry.enlist(peer.tenant_id, self), ports.limits)
        self._submits = Submits(ports.gateway, peer, self.hear)

    async def run(self, bearer_ended: Callable[[], Awaitable[str]]) -> None:
        registry = self._ports.registry
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._step(Opened(peer=self._peer))
                if registry.stopping is not None:
                    self._step(registry.stopping)
                nursery.start_soon(self._write)
                nursery.start_soon(self._end_with, bearer_ended)
                await self._read()
        finally:
            self._submits.forget()
            self.hear(Closed())
            registry.dismiss(self._core.session_id)
            # What calls back would else hold a session that is over until the collector comes by.
            self._nursery = None
            del self._outbox, self._submits

    # Called by the registry.

    def hear(self, message: Any) -> None:
        try:
            self._step(message)
        except Exception as error:  # noqa: BLE001 - I4
            self._fail(error)

    def tick(self, mono: float) -> None:
        wakeup_at = self._core.wakeup_at
        if wakeup_at is not None and wakeup_at <= mono:
            self.hear(Wake())
        self._submits.tick(mono)
        if (
            mono - self._outbox.sending_since >= self._ports.shell.send_s_max
            or mono >= self._cut_mono
        ):
            self._cut()

    # Deciding and performing.

    def _step(self, message: Any) -> None:
        """Handle what is no frame of the worker; requests to the shard need no room."""
        commands = self._core.handle(message, self._ports.clock.moment())
        for command in self._perform(commands):
            self._shard.deliver(command)
            if self._telling and type(command) is Detach:
                # The reader may yet hand over an Attach it is waiting with: it must find an end.
                self._telling = False

    def _perform(self, commands: Sequence[Any]) -> list[Any]:
        """Do what can be done at once; returns the requests to the shard."""
        to_shard = []
        for command in commands:
            kind = type(command)
            if kind in _TO_SHARD:
                to_shard.append(command)
            elif kind is HangUp:
                self._say_farewell(command)
            else:
                self._outbox.say(command)
        if commands:
            self._outbox.send_soon()
            self._wake_reader()
        return to_shard

    def _say_farewell(self, farewell: HangUp) -> None:
        self._cut_mono = trio.current_time() + self._ports.shell.farewell_s_max
        self._outbox.say_farewell(farewell)

    def _fail(self, error: Exception) -> None:
        """Nothing more can be done for this worker: its connection is gone, or ours to blame."""
        if not isinstance(error, ChannelClosedError):
            self._ports.registry.failed()
            self._ports.failed(error)
        self._cut()

    def _cut(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _end_with(self, bearer_ended: Callable[[], Awaitable[str]]) -> None:
        self.hear(BearerEnded(reason=await bearer_ended()))

    # Reading.

    async def _read(self) -> None:
        core, codec, channel, peer = self._core, self._ports.codec, self._channel, self._peer
        clock, step_end = self._ports.clock, self._ports.registry.step_end
        try:
            while not core.ended:
                frame = await channel.receive()
                reading = codec.reading(frame, peer, clock.moment().at)
                said = await _in_steps(reading)
                with step_end:
                    to_shard = self._perform(core.handle(Received(said=said), clock.moment()))
                if to_shard:
                    await self._tell(to_shard)
                while self._must_wait():
                    self._reader_waits = trio.Event()
                    await self._reader_waits.wait()
        except MailboxClosedError:
            self._say_farewell(HangUp(code=GOING_AWAY, reason="the engine stops"))
        except Exception as error:  # noqa: BLE001 - I4
            self._fail(error)

    def _must_wait(self) -> bool:
        if self._core.ended:
            return False
        return self._core.congested or self._outbox.bytes > self._ports.shell.outbox_bytes_max

    async def _tell(self, to_shard: list[Any]) -> None:
        """Hand requests over in order, waiting for room."""
        for n, message in enumerate(to_shard):
            try:
                self._tell_nowait(message)
            except MailboxFullError:
                await self._tell_waiting(to_shard[n:])
                return

    def _tell_nowait(self, message: Any) -> None:
        if type(message) is AskSubmit:
            self._submits.ask(message.said, trio.current_time())
        else:
            self._shard.tell_nowait(message)

    async def _tell_waiting(self, to_shard: list[Any]) -> None:
        self._telling = True
        try:
            for message in to_shard:
                if type(message) is AskSubmit:
                    self._tell_nowait(message)
                else:
                    await self._shard.tell(message)
                if not self._telling:
                    break
        finally:
            if not self._telling:
                self._shard.deliver(Detach(session_id=self._core.session_id))
            self._telling = False

    def _wake_reader(self) -> None:
        if self._reader_waits is not None:
            self._reader_waits.set()
            self._reader_waits = None

    async def _write(self) -> None:
        await self._outbox.write()
        self._cut()


async def _in_steps(steps: Generator[None, None, R]) -> R:
    """What steps come to; a checkpoint between two of them, and none where one is enough."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result
        await trio.lowlevel.checkpoint()
