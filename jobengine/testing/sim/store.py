"""The memory store with faults: what a database far away does to its callers.

A fault befalls one call: it is slow, it fails before it took effect, or it took effect and its
answer is lost, maybe with the ledger that waits for it. An *outage* befalls every call for a while.
`NthCall` fails one call of one verb, for going through all of them one after the other.

I1  What a call did or did not do is exact: `StoreUnavailableError.may_have_committed` is set where
    a commit took effect and its answer was lost, and also now and then where it did not.
I2  A call that is cancelled while it waits for its answer has taken effect, like a real one.

Not here: which faults there are (`faults`), what is stored (`store/memory`).
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
import trio

from jobengine.domain.change import CommitBatch
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.memory import MemoryStore
from jobengine.testing.sim.faults import Faults
from jobengine.testing.sim.virtual_time import sleep

__all__ = ["SPARED", "NthCall", "SimulatedStore"]

_PAUSES_S: Final = (0.001, 0.02, 0.3, 4.0)
_OUTAGES_S: Final = (0.5, 5.0, 40.0)
_ORPHANED_S: Final = 1.0
SPARED: Final = frozenset({"prepare"})
"""Called once, before there is anybody who could wait for it."""


@attrs.frozen
class NthCall:
    """The n-th call (from 1) of a verb fails, before or after it took effect."""

    verb: str
    number: int
    when: Literal["before", "after"]


class SimulatedStore:
    """Any method of the port. `calls` counts them by verb; `inner` has the truth. `committed`
    has, by tenant, when which seq was the ledger's last, in virtual seconds."""

    def __init__(
        self, faults: Faults, inner: MemoryStore | None = None, nth: NthCall | None = None
    ) -> None:
        self.inner = inner or MemoryStore()
        self.calls: Counter[str] = Counter()
        self.committed: dict[str, list[tuple[float, int]]] = {}
        self._faults = faults
        self._nth = nth
        self._away_until = 0.0
        self.kill_ledger: Callable[[], None] | None = None
        """Lets the one who commits fail; None while there is none."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in SPARED:
                return await method(*args, **named)
            site = "store.commit" if name == "commit" else "store.read"
            state = _state(name, args)
            await self._before(name, site, state)
            result = await method(*args, **named)
            if name == "commit":
                self._date(args[0])
            await self._after(name, site, state)
            return result

        return call

    def _date(self, batch: CommitBatch) -> None:
        heads, now = self.inner.tables.heads, trio.current_time()
        for change in batch.changes:
            head = heads.get(change.tenant_id)
            if head is not None:
                dates = self.committed.setdefault(change.tenant_id, [])
                dates.append((now, head.next_seq - 1))

    async def _before(self, name: str, site: str, state: str) -> None:
        faults = self._faults
        if faults.strike("store.outage", state):
            self._away_until = trio.current_time() + faults.pause_s("store.outage", *_OUTAGES_S)
        if trio.current_time() < self._away_until and not faults.healed:
            await sleep(0.01)
            raise StoreUnavailableError("an outage", may_have_committed=False)
        if faults.strike(f"{site}.slow", state):
            await sleep(faults.pause_s(f"{site}.slow", *_PAUSES_S))
        if faults.strike(f"{site}.away", state) or self._is_nth(name, "before"):
            raise StoreUnavailableError("away", may_have_committed=False)
        if name == "commit" and faults.strike("store.commit.unknown", state):
            raise StoreUnavailableError("away", may_have_committed=True)

    async def _after(self, name: str, site: str, state: str) -> None:
        faults = self._faults
        kill = self.kill_ledger if name == "commit" else None
        if kill is not None and faults.strike("store.commit.orphaned", state):
            kill()
            await sleep(_ORPHANED_S)
        if faults.strike(f"{site}.lost", state) or self._is_nth(name, "after"):
            await sleep(faults.pause_s(f"{site}.lost", *_PAUSES_S))
            raise StoreUnavailableError("lost", may_have_committed=name == "commit")

    def _is_nth(self, name: str, when: str) -> bool:
        nth = self._nth
        if nth is None or (nth.verb, nth.when, nth.number) != (name, when, self.calls[name]):
            return False
        self._faults.note("store.nth", f"{name} {when}")
        return True


def _state(name: str, args: tuple[Any, ...]) -> str:
    """What a call is about: the verb, of a commit the kind of its first entry."""
    if name != "commit" or not args or not isinstance(args[0], CommitBatch):
        return name
    for change in args[0].changes:
        for kind in change.kinds():
            return kind
    return name
