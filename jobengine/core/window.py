"""A window: the bounded in-memory prefix of an ordered set whose whole lives in the store.

Definitions. Items are ordered by a *key* (an integer, then the job id). The *horizon* is the key up
to which memory is complete: every item of the store with a key at or before it is here, unless its
owner took it out. ``None`` means that memory holds everything.

I1  Nothing at or before the horizon is missing. So the first item here is the first of all.
I2  At most ``items_max`` items and ``bytes_max`` bytes are held; what does not fit lowers the
    horizon and stays in the store.
I3  One refill at a time. What changed while it was read is settled when it arrives: an item that
    came in meanwhile is not missed and not replaced by an older reading of it, one that left
    meanwhile does not come back.
I4  What is remembered of a refill under way is bounded too: past ``items_max`` its rows are dropped
    and read again. The heap holds at most about twice as many keys as there are items.
I5  ``on_change`` is called when another item may stand first, or ``wants_refill`` say otherwise.

Not here: who asks the store, what an item means. Used for ready lanes (by rank), delayed jobs (by
due instant) and expiries.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

__all__ = ["BEFORE_ALL", "Key", "Tally", "Window"]

T = TypeVar("T")
Key = tuple[int, str]

BEFORE_ALL: Final[Key] = (-(2**63), "")
"""A horizon before every key: memory holds nothing and the store may hold anything."""

_KEPT_OF_MAX: Final = 3 / 4
_LOW_OF_MAX: Final = 1 / 2
_HEAP_SLACK: Final = 64


class Tally:
    """How many items several windows hold together."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items = 0


class Window(Generic[T]):
    """Items by key. ``stamp`` is set while a refill is being read; ``tally`` counts its items with
    those of other windows."""

    __slots__ = (
        "_bytes",
        "_heap",
        "_items",
        "_late",
        "_late_floor",
        "_outdated",
        "_tally",
        "_void",
        "bytes_max",
        "horizon",
        "items_max",
        "on_change",
        "stamp",
    )

    def __init__(
        self,
        items_max: int,
        bytes_max: int,
        *,
        horizon: Key | None = None,
        tally: Tally | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._tally = Tally() if tally is None else tally
        self.on_change = on_change
        self.items_max = items_max
        self.bytes_max = bytes_max
        self.horizon = horizon
        self.stamp: int | None = None
        self._heap: list[Key] = []
        self._items: dict[str, tuple[Key, T, int]] = {}
        self._bytes = 0
        self._outdated: set[str] = set()
        self._late: dict[str, tuple[Key, T, int]] = {}
        self._late_floor: Key | None = None
        self._void = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def drained(self) -> bool:
        """Nothing here, nothing in the store, nothing under way: the window can be forgotten."""
        return not self._items and self.horizon is None and self.stamp is None

    @property
    def wants_refill(self) -> bool:
        """Memory runs low while the store may hold more."""
        return (
            self.horizon is not None
            and self.stamp is None
            and len(self._items) <= self.items_max * _LOW_OF_MAX
            and self._bytes <= self.bytes_max * _LOW_OF_MAX
        )

    def admits(self, key: Key) -> bool:
        """Whether an item of this key belongs in memory."""
        return self.horizon is None or key <= self.horizon

    def offer(self, key: Key, item: T, size: int) -> None:
        """Take in an item that the store holds; ``size`` is its weight in bytes."""
        self._note_change(key[1])
        if self.horizon is None or key <= self.horizon:
            self._insert(key, item, size)
            self._trim()
        elif self.stamp is not None:
            self._late[key[1]] = (key, item, size)
            if len(self._late) > self.items_max:
                self._drop_latest()

    def first(self) -> Key | None:
        """The lowest key, or None when memory is empty."""
        heap, items = self._heap, self._items
        while heap:
            held = items.get(heap[0][1])
            if held is not None and held[0] == heap[0]:
                return heap[0]
            heappop(heap)
        return None

    def peek(self) -> T:
        """The item with the lowest key; there must be one (see ``first``)."""
        key = self.first()
        assert key is not None
        return self._items[key[1]][1]

    def all_keys(self) -> Iterable[Key]:
        """The keys in memory, in no order."""
        return (held[0] for held in self._items.values())

    def pop(self) -> T:
        """Take out the item with the lowest key; there must be one (see ``first``)."""
        key = self.first()
        assert key is not None
        heappop(self._heap)
        _, item, size = self._items.pop(key[1])
        self._tally.items -= 1
        self._bytes -= size
        self._note_change(key[1])
        self.on_change()
        return item

    def take_while(self, accept: Callable[[T], bool], items_max: int) -> list[T]:
        """Take out the items with the lowest keys, up to the first that is not accepted."""
        taken: list[T] = []
        while len(taken) < items_max and self.first() is not None:
            if not accept(self._items[self._heap[0][1]][1]):
                break
            _, job_id = heappop(self._heap)
            _, item, size = self._items.pop(job_id)
            self._bytes -= size
            self._note_change(job_id)
            taken.append(item)
        self._tally.items -= len(taken)
        self.on_change()
        return taken

    def discard(self, job_id: str) -> None:
        """Take out an item wherever it is; without effect when it is not here."""
        held = self._items.pop(job_id, None)
        if held is not None:
            self._tally.items -= 1
            self._bytes -= held[2]
            self._compact()
            self.on_change()
        self._late.pop(job_id, None)
        self._note_change(job_id)

    def evict(self) -> None:
        """Forget what is here; the store still holds it."""
        self._heap.clear()
        self._tally.items -= len(self._items)
        self._items.clear()
        self._bytes = 0
        self.horizon = BEFORE_ALL
        self._void = self.stamp is not None
        self.on_change()

    def begin_refill(self, stamp: int) -> Key | None:
        """Note that a read after the returned key is under way."""
        self.stamp = stamp
        return None if self.horizon == BEFORE_ALL else self.horizon

    def finish_refill(
        self,
        rows: Sequence[tuple[Key, T, int]],
        *,
        complete: bool,
        busy: Collection[str] = (),
    ) -> None:
        """Take in what was read, in key order; ``complete`` when the store had no more.

        Jobs in ``busy`` are left out: whoever made them so brings them back. Memory that shrank
        meanwhile ends before the rows begin: they are dropped, to be read again.
        """
        if self._void:
            self._forget_refill()
            return
        late = list(self._late.values())
        horizon = self._horizon_after(rows, late, complete=complete)
        outdated = self._outdated
        self._forget_refill()
        self.horizon = horizon
        for key, item, size in rows:
            if key[1] not in outdated and key[1] not in busy and self.admits(key):
                self._insert(key, item, size)
        for key, item, size in late:
            if self.admits(key):
                self._insert(key, item, size)
        self._trim()

    def _horizon_after(
        self,
        rows: Sequence[tuple[Key, T, int]],
        late: Sequence[tuple[Key, T, int]],
        *,
        complete: bool,
    ) -> Key | None:
        """Up to where memory is complete once rows and late arrivals are in."""
        floor = self._late_floor
        if complete and floor is None:
            return None
        last = rows[-1][0] if rows else self.horizon
        if complete:
            last = max((row[0] for row in (*rows, *late)), default=self.horizon)
        if floor is None or last is None or last < floor:
            return last
        below = [row[0] for row in (*rows, *late) if row[0] < floor]
        return max(below, default=self.horizon)

    def abandon_refill(self) -> None:
        """The read failed; the horizon stays where it was."""
        self._forget_refill()

    def _forget_refill(self) -> None:
        self.stamp = None
        self._outdated = set()
        self._late = {}
        self._late_floor = None
        self._void = False
        self.on_change()

    def _note_change(self, job_id: str) -> None:
        """What a refill under way reads of this item is older than what is known here."""
        if self.stamp is None or self._void:
            return
        self._outdated.add(job_id)
        if len(self._outdated) > self.items_max:
            self._void = True

    def _drop_latest(self) -> None:
        latest = max(self._late.values(), key=lambda held: held[0])[0]
        del self._late[latest[1]]
        if self._late_floor is None or latest < self._late_floor:
            self._late_floor = latest

    def _insert(self, key: Key, item: T, size: int) -> None:
        held = self._items.get(key[1])
        if held is None:
            self._tally.items += 1
        else:
            self._bytes -= held[2]
        self._items[key[1]] = (key, item, size)
        self._bytes += size
        if held is None or held[0] != key:
            heappush(self._heap, key)
            self._compact()
            if held is not None or self.first() == key:
                self.on_change()

    def _compact(self) -> None:
        """Drop the keys of what has left from the middle of the heap, once they outnumber."""
        if len(self._heap) > 2 * len(self._items) + _HEAP_SLACK:
            self._heap = [held[0] for held in self._items.values()]
            heapify(self._heap)

    def _trim(self) -> None:
        if len(self._items) <= self.items_max and self._bytes <= self.bytes_max:
            return
        ordered = sorted(self._items.values(), key=lambda held: held[0])
        kept_max = max(1, int(self.items_max * _KEPT_OF_MAX))
        bytes_kept_max = self.bytes_max * _KEPT_OF_MAX
        kept: list[tuple[Key, T, int]] = []
        total = 0
        for held in ordered:
            if kept and (len(kept) == kept_max or total + held[2] > bytes_kept_max):
                break
            kept.append(held)
            total += held[2]
        self._items = {held[0][1]: held for held in kept}
        self._tally.items -= len(ordered) - len(kept)
        self._bytes = total
        self._heap = [held[0] for held in kept]
        heapify(self._heap)
        if len(kept) < len(ordered):
            self.horizon = kept[-1][0]
            self._void = self.stamp is not None
