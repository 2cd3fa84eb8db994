"""Which cursors are to be written, and when: many at once, now and then.

I1  One write is under way at most, so that of two cursors of a webhook the later is written last,
    and none is written after it was forgotten.
I2  What has moved is written within `pause_s`, while the store answers; what was not confirmed is
    written again.
"""

from collections.abc import Callable, Sequence
from itertools import islice

from jobengine.messages.notifier import Cursor, ForgetCursors, MoveCursors

__all__ = ["CursorBook"]

Key = tuple[str, str]


class CursorBook:
    def __init__(self, cursors_max: int, pause_s: float) -> None:
        self._cursors_max = cursors_max
        self._pause_s = pause_s
        self._moved: dict[Key, None] = {}
        self._forgotten: dict[Key, None] = {}
        self._writing: tuple[int, Sequence[Cursor], Sequence[Key]] | None = None
        self._due_mono: float | None = None

    @property
    def wakeup_at(self) -> float | None:
        return None if self._writing is not None else self._due_mono

    def move(self, key: Key, now_mono: float, *, at_once: bool = False) -> None:
        """A cursor, or the note with it, is another than was written."""
        self._moved[key] = None
        self._due_by(now_mono if at_once else now_mono + self._pause_s)

    def forget(self, key: Key, now_mono: float) -> None:
        self._moved.pop(key, None)
        self._forgotten[key] = None
        self._due_by(now_mono)

    def write(
        self, stamp: int, now_mono: float, cursor_of: Callable[[Key], Cursor]
    ) -> MoveCursors | ForgetCursors | None:
        """The write that is due, if one is and none is under way."""
        due_mono = self.wakeup_at
        if due_mono is None or due_mono > now_mono:
            return None
        if self._forgotten:
            keys = list(islice(self._forgotten, self._cursors_max))
            for key in keys:
                del self._forgotten[key]
            self._writing = (stamp, (), keys)
            return ForgetCursors(stamp=stamp, webhooks=keys)
        keys = list(islice(self._moved, self._cursors_max))
        for key in keys:
            del self._moved[key]
        cursors = [cursor_of(key) for key in keys]
        self._writing = (stamp, cursors, ())
        return MoveCursors(stamp=stamp, cursors=cursors)

    def landed(self, stamp: int, now_mono: float, *, done: bool) -> Sequence[Cursor]:
        """A write has ended; the cursors that are known to be stored now."""
        if self._writing is None or self._writing[0] != stamp:
            return ()
        _, cursors, forgotten = self._writing
        self._writing = None
        if not done:
            self._moved |= dict.fromkeys(
                key
                for key in ((each.tenant_id, each.webhook_id) for each in cursors)
                if key not in self._forgotten
            )
            self._forgotten |= dict.fromkeys(forgotten)
        if not self._moved and not self._forgotten:
            self._due_mono = None
        elif done and (self._forgotten or len(self._moved) >= self._cursors_max):
            self._due_mono = now_mono
        else:
            self._due_mono = now_mono + self._pause_s
        return cursors if done else ()

    def unwritten(self) -> list[Key]:
        """Whose cursors are not known to be stored."""
        writing = () if self._writing is None else self._writing[1]
        keys = dict.fromkeys((each.tenant_id, each.webhook_id) for each in writing)
        return [key for key in keys | self._moved if key not in self._forgotten]

    def _due_by(self, mono: float) -> None:
        if self._due_mono is None or mono < self._due_mono:
            self._due_mono = mono
