"""Limits of what workers do at their doors: how often they connect, how many frames they send.

I1  A session that sends more frames than its rate hears an error and is closed with 1008; its
    leases live on.
I2  Only a verified token is counted.

Not here: what a frame or a handshake may hold (`worker_reading`, `worker_door`).
"""

import hashlib
from typing import Final

import trio

from jobengine.actors.frame_channel import ChannelClosedError, FrameChannel
from jobengine.actors.runtime.clock import Clock
from jobengine.core.request_limit import Rate, RequestLimit
from jobengine.domain.errors import ErrorCode
from jobengine.http.limits import refusal_of
from jobengine.http.worker_admission import Admission, Admit, ReadHeader
from jobengine.wire.engine_messages import ErrorFrame
from jobengine.wire.frames import encode_frames

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

    async def admit_within(header: ReadHeader) -> Admission:
        admission = await admit(header)
        credentials = (header("Authorization") or "").encode("utf-8", "surrogateescape")
        verdict = attempts.take(hashlib.sha256(credentials).digest(), clock.moment().mono)
        if not verdict.granted:
            raise refusal_of(verdict, "connections with this token")
        return admission

    return admit_within


class MeteredChannel:
    """A channel whose peer may send so many frames a second (I1)."""

    __slots__ = ("_burst", "_channel", "_per_s", "_since", "_tokens")

    def __init__(self, channel: FrameChannel, rate: Rate) -> None:
        self._channel = channel
        self._per_s = rate.per_s
        self._burst = self._tokens = float(rate.burst)
        self._since = trio.current_time()

    async def send(self, text: str) -> None:
        await self._channel.send(text)

    def send_nowait(self, text: str) -> bool:
        return self._channel.send_nowait(text)

    async def flush(self) -> None:
        await self._channel.flush()

    async def receive(self) -> str | bytes:
        frame = await self._channel.receive()
        if not self._take():
            await self._channel.send(_REFUSED)
            await self._channel.aclose(_POLICY_VIOLATION, _TOO_MANY)
            raise ChannelClosedError(_POLICY_VIOLATION, _TOO_MANY)
        return frame

    async def aclose(self, code: int, reason: str) -> None:
        await self._channel.aclose(code, reason)

    def _take(self) -> bool:
        """Take one token of the only bucket: the arithmetic of ``RequestLimit`` without names."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._since) * self._per_s)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
