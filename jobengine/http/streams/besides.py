"""What a stream sends beside the events: the first signal of a run, lines of logs.

Both are read from the store when something has moved, by a task that exists only then.

I1  Nothing is missed: what moves while it is read is read again.
I2  Reading takes a share of the time at most (`_SHARE`), however often things move.
I3  Lines go out in the order in which they were stored, each once; those of a row are put out
    when the ones before have left, and a page of rows is read then.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import trio

from jobengine.http.streams.cursors import LineId
from jobengine.http.streams.form import Ending, finished
from jobengine.wire.run_views import FirstSignalView

__all__ = ["Beside", "FirstSignals", "Lines", "ReadLines", "ReadSignal", "StoredRow", "Voice"]

_SIGNAL_PAUSE_S: Final = 0.5
_LINES_PAUSE_S: Final = 0.1
_SHARE: Final = 10
_ROWS: Final = 16

ReadSignal = Callable[[float], Awaitable[FirstSignalView | None]]
"""The first signal as it was no earlier than this instant (monotonic seconds)."""


class StoredRow(NamedTuple):
    """The lines of one stored row, as they are sent."""

    position: int
    lines: Sequence[Any]


ReadLines = Callable[[int, int], Awaitable[tuple[list[StoredRow], bool]]]
"""Rows behind a position, at most so many, in order; and whether there may be more behind them."""


class Voice(Protocol):
    """What a stream offers to what is sent beside its events."""

    def say(self, *said: tuple[str, Any, str | None]) -> None:
        """Send messages together: name, data, and the id to go on after."""
        ...

    async def drained(self) -> None:
        """Return when the peer has taken what was sent."""
        ...

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run this while the stream lasts; when the store fails, the stream ends."""
        ...

    def end(self, ending: Ending) -> None: ...


class Beside(Protocol):
    """`begin` comes first, the rest within steps of the broadcaster."""

    def begin(self, voice: Voice) -> None: ...

    def moved(self) -> None:
        """Events of the stream have gone by."""
        ...

    def logged(self) -> None:
        """Lines of a job that is followed have been stored."""
        ...


class _Errand:
    """Runs `work` whenever it was `wanted`, one at a time, with a pause behind each. `work` returns
    the seconds it spent on reading."""

    __slots__ = ("_is_running", "_is_wanted", "_pause_s", "_voice", "_work")

    def __init__(self, voice: Voice, work: Callable[[], Awaitable[float]], pause_s: float) -> None:
        self._voice = voice
        self._work = work
        self._pause_s = pause_s
        self._is_running = False
        self._is_wanted = False

    def want(self) -> None:
        self._is_wanted = True
        if not self._is_running:
            self._is_running = True
            self._voice.spawn(self._run)

    async def _run(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            took_s = await self._work()
            await trio.sleep(max(self._pause_s, _SHARE * took_s))
        self._is_running = False


class FirstSignals:
    """The first signal of a run, at the beginning and whenever it has become another one."""

    __slots__ = ("_errand", "_read", "_since_s", "_tag", "_voice")

    def __init__(self, read: ReadSignal) -> None:
        self._read = read
        self._tag = ""

    def begin(self, voice: Voice) -> None:
        self._voice = voice
        self._errand = _Errand(voice, self._tell, _SIGNAL_PAUSE_S)
        self.moved()

    def moved(self) -> None:
        self._since_s = trio.current_time()
        self._errand.want()

    def logged(self) -> None:
        pass

    async def _tell(self) -> float:
        began_s = trio.current_time()
        view = await self._read(self._since_s)
        if view is not None and view.summary_etag != self._tag:
            self._tag = view.summary_etag
            self._voice.say(("first_signal", view, None))
        return trio.current_time() - began_s


class Lines:
    """Lines of logs, those that are stored and those that come.

    `after`: the last line that the reader has. `named`: whether lines have ids to go on after.
    `over` is asked before each reading whether no more lines will come than are stored by then, and
    with which message the stream ends then; None while more may come.
    """

    __slots__ = (
        "_after",
        "_errand",
        "_is_named",
        "_name",
        "_over",
        "_position",
        "_read",
        "_voice",
    )

    def __init__(
        self,
        name: str,
        read: ReadLines,
        after: LineId,
        *,
        named: bool = False,
        over: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._name = name
        self._read = read
        self._after = after
        # All rows up to this one have been told. That of the last line may have more lines.
        self._position = after.position - 1
        self._is_named = named
        self._over = over

    def begin(self, voice: Voice) -> None:
        self._voice = voice
        self._errand = _Errand(voice, self._tell, _LINES_PAUSE_S)
        self._errand.want()

    def moved(self) -> None:
        if self._over is not None:
            self._errand.want()

    def logged(self) -> None:
        self._errand.want()

    async def _tell(self) -> float:
        last_words = None if self._over is None else await self._over()
        took_s = 0.0
        while True:
            began_s = trio.current_time()
            rows, more = await self._read(self._position, _ROWS)
            took_s += trio.current_time() - began_s
            while rows:
                # A row may be large: it is kept no longer than until it is told.
                self._tell_row(rows.pop(0))
                await self._voice.drained()
            if not more:
                break
        if last_words is not None:
            self._voice.end(finished(last_words))
        return took_s

    def _tell_row(self, row: StoredRow) -> None:
        self._position = row.position
        taken = self._after.line + 1 if row.position == self._after.position else 0
        told = [
            (self._name, line, f"{row.position}.{at}" if self._is_named else None)
            for at, line in enumerate(row.lines[taken:], taken)
        ]
        if told:
            self._voice.say(*told)
