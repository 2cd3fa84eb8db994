"""Limits of what workers do at their doors: how often they connect, how many frames they send.

I1  A session that sends more frames than its rate hears an error and is closed with 1008; its
    leases live on.
I2  Only a verified token is counted.

Not here: what a frame or a handshake may hold (`worker_reading`, `worker_door`).
"""

import hashlib
from typing import Final

import trio

from jobengine.actors.frame_channel import ChannelClosed, FrameChannel
from jobengine.actors.runtime.clock import Clock
from jobengine.core.request_limit import Rate, RequestLimit
from jobengine.domain.errors import ErrorCode
from jobengine.http.limits import refusal_of
from jobengine.http.worker_admission import Admit, ReadHeader
from jobengine.messages.session import Peer
from jobengine.wire.worker import ErrorFrame, encode_frames

__all__ = ["MeteredChannel", "limited_admission"]

_POLICY_VIOLATION: Final = 1008
_TOO_MANY: Final = "too many frames a second"
_REFUSED: Final = encode_frames(
    [
        ErrorFrame(
            code=ErrorCode.RATE_LIMITED,
            message=f"{_TOO_MANY}; send several messages in one frame",
        )
    ]
)[0]


def limited_admission(admit: Admit, rate: Rate, clock: Clock) -> Admit:
    """The same admission, which refuses a token that connects too often."""
    attempts = RequestLimit(rate)

    async def admit_within(header: ReadHeader) -> Peer:
        peer = await admit(header)
        credentials = (header("Authorization") or "").encode("utf-8", "surrogateescape")
        verdict = attempts.take(hashlib.sha256(credentials).digest(), clock.moment().mono)
        if not verdict.granted:
            raise refusal_of(verdict, "connections with this token")
        return peer

    return admit_within


class MeteredChannel:
    """A channel whose peer may send so many frames a second (I1)."""

    __slots__ = ("_channel", "_frames", "_sending")

    def __init__(self, channel: FrameChannel, rate: Rate) -> None:
        self._channel = channel
        self._frames = RequestLimit(rate)
        self._sending = trio.Lock()

    async def send(self, text: str) -> None:
        async with self._sending:
            await self._channel.send(text)

    async def receive(self) -> str | bytes:
        frame = await self._channel.receive()
        if not self._frames.take("", trio.current_time()).granted:
            await self.send(_REFUSED)
            await self.aclose(_POLICY_VIOLATION, _TOO_MANY)
            raise ChannelClosed(_POLICY_VIOLATION, _TOO_MANY)
        return frame

    async def aclose(self, code: int, reason: str) -> None:
        await self._channel.aclose(code, reason)
