"""Limits that callers of an upstream do not know, each of a kind that real ones have.

Each answers a call at an instant (microseconds, never going back) with None, or with how long to
stay away. ``per_minute`` may be changed at any time.
"""

from collections import deque
from typing import Final, Protocol

import attrs

__all__ = ["FixedWindow", "HiddenLimit", "SlidingWindow", "TokenBucket", "whole_seconds"]

_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND


class HiddenLimit(Protocol):
    per_minute: int

    def call(self, at: int) -> int | None:
        """Microseconds to stay away, or None when it was served."""
        ...


@attrs.define
class TokenBucket:
    """Empty at first."""

    per_minute: int
    burst: int = 10
    _tokens: float = attrs.field(init=False, default=0.0)
    _at: int | None = attrs.field(init=False, default=None)

    def call(self, at: int) -> int | None:
        per_us = self.per_minute / _MINUTE
        since = at if self._at is None else self._at
        self._tokens = min(self.burst, self._tokens + (at - since) * per_us)
        self._at = at
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return int((1 - self._tokens) / per_us) + 1


@attrs.define
class FixedWindow:
    """So many calls from one multiple of the window to the next."""

    per_minute: int
    window_us: int = _MINUTE
    _window: int = attrs.field(init=False, default=-1)
    _served: int = attrs.field(init=False, default=0)

    def call(self, at: int) -> int | None:
        window, passed = divmod(at, self.window_us)
        if window != self._window:
            self._window, self._served = window, 0
        if self._served < self.per_minute * self.window_us // _MINUTE:
            self._served += 1
            return None
        return self.window_us - passed


@attrs.define
class SlidingWindow:
    """So many calls in any span as long as the window."""

    per_minute: int
    window_us: int = _MINUTE
    _served: deque[int] = attrs.field(init=False, factory=deque)

    def call(self, at: int) -> int | None:
        served = self._served
        while served and served[0] <= at - self.window_us:
            served.popleft()
        served_max = self.per_minute * self.window_us // _MINUTE
        if len(served) < served_max:
            served.append(at)
            return None
        return served[len(served) - served_max] + self.window_us - at


def whole_seconds(wait_us: int) -> int:
    """Seconds to stay away, as a Retry-After header can say it."""
    return -(-wait_us // _SECOND)
