"""Limits of what workers do at their doors: how often they connect, how many frames they send.

I1  A session that sends more frames than its rate, of whatever kind, hears an error and is closed
    with 1008; its leases live on.
I2  Only a verified token is counted, and by what it says, not by how it was written.

Not here: counting a connection's frames (`worker_socket`), what a frame or a handshake may hold
(`worker_reading`, `worker_door`).
"""

from typing import Final

import trio

from jobengine.actors.runtime.clock import Clock
from jobengine.core.request_limit import Rate, RequestLimit
from jobengine.domain.errors import ErrorCode
from jobengine.http.limits import refusal_of
from jobengine.http.worker_admission import Admission, Admit, ReadHeader
from jobengine.wire.engine_messages import ErrorFrame
from jobengine.wire.frames import encode_frames

__all__ = ["TOO_MANY_FRAMES", "TOO_MANY_FRAMES_ERROR", "FrameMeter", "limited_admission"]

TOO_MANY_FRAMES: Final = "too many frames a second"
TOO_MANY_FRAMES_ERROR: Final = encode_frames(
    [
        ErrorFrame(
            code=ErrorCode.RATE_LIMITED,
            message=f"{TOO_MANY_FRAMES}; send several messages in one frame",
        )
    ]
)[0]


def limited_admission(admit: Admit, rate: Rate, clock: Clock) -> Admit:
    """The same admission, which refuses a token that connects too often."""
    attempts = RequestLimit(rate)

    async def admit_within(header: ReadHeader) -> Admission:
        admission = await admit(header)
        verdict = attempts.take(admission.bearer, clock.moment().mono)
        if not verdict.granted:
            raise refusal_of(verdict, "connections with this token")
        return admission

    return admit_within


class FrameMeter:
    """How many frames a second one peer may send (I1)."""

    __slots__ = ("_burst", "_per_s", "_since", "_tokens")

    def __init__(self, rate: Rate) -> None:
        self._per_s = rate.per_s
        self._burst = self._tokens = float(rate.burst)
        self._since = trio.current_time()

    def take(self, frames: int) -> bool:
        """Take tokens of the only bucket: the arithmetic of ``RequestLimit`` without names."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._since) * self._per_s)
        self._since = now
        if self._tokens < frames:
            return False
        self._tokens -= frames
        return True
