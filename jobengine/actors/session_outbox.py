"""What a session has to say to its worker, and how it leaves.

What a step of the engine says leaves at the end of that step, by whoever made it, as long as the
connection takes it without waiting; that saves the session's writing task a wake-up for each. The
writing task (`write`) sends the rest, and what is said outside of a ``StepEnd``.

I1  Everything said within one step of the engine leaves in as few frames as their size allows.
I2  Messages leave in the order in which they were said, and the farewell behind them.

Not here: what is said (``core/session``), what follows from a worker that takes nothing
(`session`).
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final

import trio

from jobengine.actors.frame_channel import FrameChannel
from jobengine.actors.runtime.step_end import StepEnd
from jobengine.actors.session_ports import Codec
from jobengine.messages.session import HangUp, SendLeases

__all__ = ["Outbox"]

_MESSAGE_BYTES: Final = 160
"""What a message without a payload takes in the outbox, roughly."""


class Outbox:
    """``failed`` is told why nothing more will leave: `ChannelClosedError`, or an error of the
    programmer; ``room`` is told when there is less in the box. ``bytes``: about how much waits or
    is under way. ``sending_since``: monotonic, what the connection has not taken yet; else inf."""

    __slots__ = (
        "_channel",
        "_codec",
        "_deferred",
        "_failed",
        "_farewell",
        "_messages",
        "_room",
        "_step_end",
        "_unflushed",
        "_waits",
        "bytes",
        "sending_since",
    )

    def __init__(
        self,
        channel: FrameChannel,
        codec: Codec,
        step_end: StepEnd,
        *,
        failed: Callable[[Exception], None],
        room: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._codec = codec
        self._step_end = step_end
        self._failed = failed
        self._room = room
        self._messages: list[Any] = []
        self._farewell: HangUp | None = None
        self._deferred = False
        # Whether the channel has taken frames that have not left.
        self._unflushed = False
        # Set while the writing task has nothing to do.
        self._waits: trio.Event | None = None
        self.bytes = 0
        self.sending_since = inf

    def say(self, command: Any) -> None:
        messages = self._codec.write(command)
        self._messages.extend(messages)
        self.bytes += _MESSAGE_BYTES * len(messages)
        if type(command) is SendLeases:
            self.bytes += sum(
                len(grant.job.payload) + len(grant.job.definition_json) for grant in command.leases
            )

    def say_farewell(self, farewell: HangUp) -> None:
        """`write` ends with it."""
        self._farewell = farewell
        self._wake()

    def send_soon(self) -> None:
        """Have what was said leave at the end of this step, or by the writing task."""
        if self._deferred or self._waits is None or not self._messages:
            return
        self._deferred = self._step_end.defer(self._send_now)
        if not self._deferred:
            self._wake()

    async def write(self) -> None:
        """Send until the farewell is said, or nothing more can leave."""
        try:
            while True:
                if self._messages or self._unflushed:
                    await self._send()
                elif self._farewell is not None:
                    await self._channel.aclose(self._farewell.code, self._farewell.reason)
                    return
                else:
                    self._waits = trio.Event()
                    await self._waits.wait()
        except Exception as error:  # noqa: BLE001 - told to the session
            self._failed(error)

    async def _send(self) -> None:
        messages, self._messages = self._messages, []
        weight, self._unflushed = self.bytes, False
        self.sending_since = trio.current_time()
        await self._channel.flush()
        for frame in self._codec.encode(messages) if messages else ():
            self.sending_since = trio.current_time()
            await self._channel.send(frame)
        self.sending_since = inf
        self.bytes -= weight
        self._room()

    def _send_now(self) -> None:
        self._deferred = False
        if self._waits is None:
            return
        messages, self._messages = self._messages, []
        try:
            for frame in self._codec.encode(messages):
                self._unflushed = not self._channel.send_nowait(frame)
        except Exception as error:  # noqa: BLE001 - told to the session
            self._failed(error)
            return
        if self._unflushed:
            self._wake()
        else:
            self.bytes = 0

    def _wake(self) -> None:
        if self._waits is not None:
            self._waits.set()
            self._waits = None
