"""Upstreams with a limit that their callers do not know, in virtual time, for tests of learning.

Each answers a call at an instant (microseconds, never going back) with None, or with how long its
Retry-After says to wait. ``per_minute`` may be changed at any time.
"""

from collections import deque
from typing import Protocol

import attrs

from jobengine.domain.instant import MINUTE, SECOND

__all__ = ["FixedWindow", "SlidingWindow", "TokenBucket", "Upstream"]


class Upstream(Protocol):
    per_minute: int

    def call(self, at: int) -> int | None:
        """Microseconds to stay away, or None when it was served."""
        ...


@attrs.define
class TokenBucket:
    per_minute: int
    burst: int = 10
    _tokens: float = attrs.field(init=False, default=0.0)
    _at: int = 0

    def call(self, at: int) -> int | None:
        per_us = self.per_minute / MINUTE
        self._tokens = min(self.burst, self._tokens + (at - self._at) * per_us)
        self._at = at
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return int((1 - self._tokens) / per_us) + 1


@attrs.define
class FixedWindow:
    per_minute: int
    window_us: int = MINUTE
    _window: int = -1
    _served: int = 0

    def call(self, at: int) -> int | None:
        window, passed = divmod(at, self.window_us)
        if window != self._window:
            self._window, self._served = window, 0
        if self._served < self.per_minute * self.window_us // MINUTE:
            self._served += 1
            return None
        return self.window_us - passed


@attrs.define
class SlidingWindow:
    per_minute: int
    window_us: int = MINUTE
    _served: deque[int] = attrs.field(factory=deque)

    def call(self, at: int) -> int | None:
        served = self._served
        while served and served[0] <= at - self.window_us:
            served.popleft()
        served_max = self.per_minute * self.window_us // MINUTE
        if len(served) < served_max:
            served.append(at)
            return None
        return served[len(served) - served_max] + self.window_us - at


def whole_seconds(wait_us: int) -> int:
    """As a Retry-After header can say it."""
    return -(-wait_us // SECOND) * SECOND
