"""Adaptive concurrency: how many jobs of one source may run, learned from its latency and errors.

Nothing is limited until a source pushes back; then the limit is lowered by a factor, raised again
step by step while it is used, and lifted once it is no longer needed. The lease shard tells every
end of a lease, asks ``admits`` as one of its gates, and records each ``LimitChange``.

Definitions. A *window* is a stretch of time in which ends are gathered; it lasts at least
``window_us`` and one average run, so that most of what it sees was started under the limit of now,
and until it has seen as many outcomes as jobs may run at once (at most ``samples``). *Pushback* is
a window in which ``errors_percent`` of the outcomes were bad, or in which the average run of the
good ones climbed over ``tolerance_percent`` of the baseline and by ``slack_us`` at least. The
*baseline* is the long-term average run.

I1  One decision a window, so the limit is lowered at most once in it.
I2  The limit never goes below 1: a source is never cut off here. That is the breaker's task.
I3  The limit is raised only when it was really used, so it stays near what has been tried.
I4  Equal latency without errors never limits. Once errors and latency are back to normal the limit
    goes away: when it has grown past what ran before it was first lowered, or after ``stale_us``
    without pushback, used or not.
I5  The baseline follows quickly what jobs take that ran one at a time, and slowly what they take
    beside others; but it climbs by the latter only while nothing is limited, for it may be the
    load's doing, and a baseline that followed it would creep until nothing was limited. So a source
    that stays slower is brought down to single jobs once, is believed, and gets its load back.
I6  Memory is constant. Integers only, so any replay agrees.

A single long job in a full window lowers nothing, for a run counts at most ``OUTLIER`` baselines.
Ends that do not speak of the source tell only how many were running.

Not here: the share of each worker or job type; rates (the bucket), which a 429 lowers as well.
Sources: additive increase, multiplicative decrease as in Chiu and Jain, "Analysis of the Increase
and Decrease Algorithms for Congestion Avoidance" (1989); the latency gradient as in Netflix's
concurrency-limits, which compares a short with a long average.
"""

from enum import StrEnum
from math import isqrt
from typing import Final

import attrs
import msgspec

from jobengine.domain.instant import HOUR, MILLISECOND, MINUTE, SECOND
from jobengine.domain.outcome import Outcome

__all__ = [
    "KEPT_PERCENT_MAX",
    "KEPT_PERCENT_MIN",
    "OUTLIER",
    "AdaptiveConcurrency",
    "ConcurrencyPolicy",
    "ConcurrencyState",
    "LimitCause",
    "LimitChange",
]

OUTLIER: Final = 8
"""A run counts at most so many times the baseline."""
# Bound once: an enum looks its members up by name each time.
_GOOD: Final = Outcome.GOOD

_SURE_SHARE: Final = 4
_SLOW_SHARE: Final = 16
KEPT_PERCENT_MIN: Final = 50
KEPT_PERCENT_MAX: Final = 90


class LimitCause(StrEnum):
    """Why the limit moved, and what ``observed`` and ``threshold`` of the change count."""

    ERRORS = "errors"  # percent of the window's outcomes that were bad
    LATENCY = "latency"  # microseconds of an average run
    USED = "used"  # the most that ran at once, and the limit that allowed
    OUTGROWN = "outgrown"  # the next limit, and what ran before the first was set
    STALE = "stale"  # microseconds since the last pushback


@attrs.frozen
class ConcurrencyPolicy:
    window_us: int = 10 * SECOND
    window_us_max: int = 10 * MINUTE
    samples: int = 20
    errors_percent: int = 20
    tolerance_percent: int = 200
    slack_us: int = 50 * MILLISECOND
    stale_us: int = HOUR


class ConcurrencyState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is stored, and what a person sees. ``limit`` is None while nothing is limited.

    ``needed`` is the most that ran at once in any window that pushed back since there is a limit;
    ``pushed_at`` is when the last of them ended; ``baseline_us`` is 0 until something was measured.
    """

    limit: int | None = None
    needed: int = 0
    pushed_at: int = 0
    baseline_us: int = 0
    cause: LimitCause | None = None
    observed: int = 0
    threshold: int = 0


class LimitChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One move of the limit: what it was, and the state it is in from now on."""

    at: int
    limit_before: int | None
    state: ConcurrencyState


@attrs.define
class _Window:
    began_at: int
    wait_us: int
    good: int = 0
    bad: int = 0
    good_us: int = 0
    running_max: int = 1


@attrs.define(eq=False)
class AdaptiveConcurrency:
    """One source's limit.

    ``state`` may be stored at any time; restored with it, only the window under way is forgotten.
    """

    policy: ConcurrencyPolicy = attrs.field(factory=ConcurrencyPolicy)
    state: ConcurrencyState = attrs.field(factory=ConcurrencyState)
    _window: _Window | None = attrs.field(init=False, default=None)

    @property
    def limit(self) -> int | None:
        return self.state.limit

    def admits(self, running: int) -> bool:
        """Whether one more may start beside ``running`` jobs of this source."""
        limit = self.state.limit
        return limit is None or running < limit

    def ended(
        self, at: int, run_us: int, running: int, outcome: Outcome | None
    ) -> LimitChange | None:
        """A job of this source is over after ``run_us``; ``running`` counts it as well."""
        policy, state, window = self.policy, self.state, self._window
        if window is None or at < window.began_at:
            window = self._window = _Window(at, self._wait_us(0))
        if running > window.running_max:
            window.running_max = running
        if outcome is _GOOD:
            window.good += 1
            if run_us > 0:
                baseline_us = state.baseline_us
                longest_us = baseline_us * OUTLIER
                window.good_us += longest_us if baseline_us and run_us > longest_us else run_us
        elif outcome is not None:
            window.bad += 1
        if at - window.began_at < window.wait_us:
            return None
        wanted = policy.samples if state.limit is None else min(state.limit, policy.samples)
        if window.good + window.bad < wanted:
            return None
        return self._decide(at, window)

    def _wait_us(self, short_us: int) -> int:
        run_us = max(short_us, self.state.baseline_us)
        return max(self.policy.window_us, min(run_us, self.policy.window_us_max))

    def _decide(self, at: int, window: _Window) -> LimitChange | None:
        policy = self.policy
        short_us = window.good_us // window.good if window.good else 0
        base_us = self.state.baseline_us or short_us
        threshold_us = max(base_us * policy.tolerance_percent // 100, base_us + policy.slack_us)
        self._window = _Window(at, self._wait_us(short_us))
        if window.good:
            followed_us = self._follow(base_us, min(short_us, threshold_us), window.running_max)
            self.state = msgspec.structs.replace(self.state, baseline_us=followed_us)
        errors = window.bad * 100 // (window.good + window.bad)
        if errors >= policy.errors_percent:
            cause, seen, threshold = LimitCause.ERRORS, errors, policy.errors_percent
            return self._lower(at, window, KEPT_PERCENT_MIN, cause, seen, threshold)
        if short_us > threshold_us:
            kept = max(KEPT_PERCENT_MIN, min(threshold_us * 100 // short_us, KEPT_PERCENT_MAX))
            return self._lower(at, window, kept, LimitCause.LATENCY, short_us, threshold_us)
        return None if self.state.limit is None else self._raise(at, window, self.state.limit)

    def _follow(self, base_us: int, short_us: int, running_max: int) -> int:
        """I5; rounding down lets a fall arrive."""
        if running_max == 1:
            return base_us + (short_us - base_us) // _SURE_SHARE
        if short_us < base_us or self.state.limit is None:
            return base_us + (short_us - base_us) // _SLOW_SHARE
        return base_us

    def _lower(
        self,
        at: int,
        window: _Window,
        kept_percent: int,
        cause: LimitCause,
        observed: int,
        threshold: int,
    ) -> LimitChange | None:
        """By a factor of what really ran, which may be less than what was allowed."""
        before, ran = self.state, window.running_max
        lowered = min(ran, before.limit or ran) * kept_percent // 100
        return self._set(
            at,
            ConcurrencyState(
                limit=max(1, lowered),
                needed=max(before.needed, ran),
                pushed_at=at,
                baseline_us=before.baseline_us,
                cause=cause,
                observed=observed,
                threshold=threshold,
            ),
        )

    def _raise(self, at: int, window: _Window, limit: int) -> LimitChange | None:
        state, stale_us = self.state, self.policy.stale_us
        quiet_us = at - state.pushed_at
        if not 0 <= quiet_us < stale_us:
            return self._lift(at, LimitCause.STALE, quiet_us, stale_us)
        if window.running_max < limit:
            return None
        raised = limit + isqrt(limit)
        if raised > state.needed:
            return self._lift(at, LimitCause.OUTGROWN, raised, state.needed)
        return self._set(
            at,
            msgspec.structs.replace(
                state,
                limit=raised,
                cause=LimitCause.USED,
                observed=window.running_max,
                threshold=limit,
            ),
        )

    def _lift(self, at: int, cause: LimitCause, observed: int, threshold: int) -> LimitChange:
        before = self.state.limit
        self.state = ConcurrencyState(
            baseline_us=self.state.baseline_us, cause=cause, observed=observed, threshold=threshold
        )
        return LimitChange(at=at, limit_before=before, state=self.state)

    def _set(self, at: int, state: ConcurrencyState) -> LimitChange | None:
        before, self.state = self.state.limit, state
        if state.limit == before:
            return None
        return LimitChange(at=at, limit_before=before, state=state)
