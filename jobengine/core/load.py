"""The load meter: decides how busy the node is, and so whether it takes new work.

Definitions. A *measure* is a number of a sample: how full the fullest mailbox is, how long commits
take, how long changes have waited for one, memory. Each *asks for* a level by two thresholds; the
node is asked for the highest of them. A *cause* is a measure that asks for more than ``normal``.

I1  The level rises to what has been asked for in two samples in a row, so a burst between two
    samples changes nothing.
I2  It falls by one step, after less has been asked for without a break for ``fall_s``; so each
    level holds that long, and a full swing takes several times that.
I3  A measure that asks for a level goes on asking until it is below its threshold by a margin of
    its own. The margin of memory is narrow, since a process gives little of it back.
I4  What commits took is averaged over samples, not over commits, and nothing counts as 0. So a
    level that keeps new work away, and with it commits, does not uphold itself.
I5  A node without work or cause is looked at seldom; nobody is told what has not changed.

Not here: what a level does (``gateway`` refuses, ``lease_shard`` defers), where the numbers come
from (``actors/load_meter``).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from jobengine.domain.instant import Moment
from jobengine.messages.load import (
    LEVELS,
    Cause,
    CauseName,
    ChangeLevel,
    LoadLevel,
    Sample,
    Sampled,
    ShowLoad,
)
from jobengine.messages.wake import Wake

__all__ = ["LoadLimits", "LoadMeter"]

_ELEVATED: Final = 1
_SHEDDING: Final = 2
_WEIGHT: Final = 0.4
"""Of the newest sample in the average of commits: half of it is of the last second and a half."""


@attrs.frozen
class _Thresholds:
    """Where a measure asks for a level; it stops below ``release`` times that."""

    elevated: float
    shedding: float
    release: float


@attrs.frozen(kw_only=True)
class LoadLimits:
    """Shares of a mailbox's capacity, seconds of a commit, shares of ``memory_bytes_max`` (0: not
    known, so not judged). ``interval_s`` is between samples; ``idle_interval_s`` without work."""

    mailbox_elevated: float = 0.5
    mailbox_shedding: float = 0.9
    commit_s_elevated: float = 1.0
    commit_s_shedding: float = 5.0
    memory_elevated: float = 0.75
    memory_shedding: float = 0.9
    memory_bytes_max: int = 0
    fall_s: float = 5.0
    interval_s: float = 1.0
    idle_interval_s: float = 2.0


class LoadMeter:
    """``handle`` is the only verb; see ``core/machine.py``.

    ``level`` is that of an earlier life, which holds until there is reason for another; ``mono``
    when this life begins.
    """

    def __init__(self, limits: LoadLimits, level: LoadLevel, mono: float) -> None:
        self.wakeup_at: float | None = mono
        self._limits = limits
        self._level = LEVELS.index(level)
        self._asked = 0
        self._upheld_mono = mono
        self._held: dict[str, int] = {}
        self._commit_s = 0.0
        self._shown: tuple[int, Sequence[Cause]] | None = None

    def handle(
        self, message: Sampled | Wake, now: Moment
    ) -> Sequence[Sample | ShowLoad | ChangeLevel]:
        match message:
            case Wake():
                self.wakeup_at = None
                return (Sample(),)
            case Sampled():
                commands = self._judge(message, now)
                limits = self._limits
                watched = message.busy or self._level or self._asked
                pause_s = limits.interval_s if watched else limits.idle_interval_s
                self.wakeup_at = now.mono + pause_s
                return commands

    def _judge(self, sample: Sampled, now: Moment) -> Sequence[ShowLoad | ChangeLevel]:
        causes = tuple(self._causes(sample))
        asked = max((LEVELS.index(cause.level) for cause in causes), default=0)
        before = self._level
        self._move(asked, now.mono)
        shown = (self._level, causes)
        if shown == self._shown:
            return ()
        self._shown = shown
        level = LEVELS[self._level]
        show = ShowLoad(level=level, causes=causes)
        if self._level == before:
            return (show,)
        return (show, ChangeLevel(before=LEVELS[before], level=level, causes=causes, at=now.at))

    def _move(self, asked: int, mono: float) -> None:
        agreed, self._asked = min(asked, self._asked), asked
        if agreed > self._level:  # I1
            self._level = agreed
            self._upheld_mono = mono
        elif asked >= self._level:
            self._upheld_mono = mono
        elif mono - self._upheld_mono >= self._limits.fall_s:  # I2
            self._level -= 1
            self._upheld_mono = mono

    def _causes(self, sample: Sampled) -> Iterator[Cause]:
        limits = self._limits
        latest_s = sample.commits_s / sample.commits if sample.commits else 0.0
        self._commit_s += _WEIGHT * (latest_s - self._commit_s)  # I4
        fill = _Thresholds(limits.mailbox_elevated, limits.mailbox_shedding, 0.5)
        took = _Thresholds(limits.commit_s_elevated, limits.commit_s_shedding, 0.5)
        yield from self._cause(
            "mailbox", sample.mailbox_fill, fill, f"{{:.0%}} of {sample.mailbox}"
        )
        yield from self._cause("commit_latency", self._commit_s, took, "{:.1f} s")
        yield from self._cause("commits_waiting", sample.waiting_s, took, "{:.1f} s")
        if limits.memory_bytes_max:
            share = sample.memory_bytes / limits.memory_bytes_max
            size = _Thresholds(limits.memory_elevated, limits.memory_shedding, 0.95)
            mib = limits.memory_bytes_max >> 20
            yield from self._cause("memory", share, size, f"{{:.0%}} of {mib} MiB")

    def _cause(
        self, name: CauseName, value: float, thresholds: _Thresholds, form: str
    ) -> Iterator[Cause]:
        held = self._held.get(name, 0)
        self._held[name] = 0
        for level in (_SHEDDING, _ELEVATED):
            limit = thresholds.shedding if level == _SHEDDING else thresholds.elevated
            if value >= limit * (thresholds.release if level <= held else 1.0):  # I3
                self._held[name] = level
                yield Cause(
                    name=name,
                    level=LEVELS[level],
                    observed=form.format(value),
                    limit=form.format(limit),
                )
                return
