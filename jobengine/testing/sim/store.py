"""The memory store with faults: what a database far away does to its callers.

A fault befalls one call: it is slow, it fails before it took effect, or it took effect and its
answer is lost, maybe with the ledger that waits for it. A commit of several changes may be refused.
An *outage* befalls every call for a while. `NthCall` fails one call of one verb, for going through
all of them one after the other.

I1  What a call did or did not do is exact: `StoreUnavailableError.may_have_committed` is set where
    a commit took effect and its answer was lost, and also now and then where it did not.
I2  A call that is cancelled while it waits for its answer has taken effect, like a real one.
I3  Commits that share a tenant take effect in the order in which they were begun. Where the answer
    to one is lost, so is the answer to the one behind it.

Not here: which faults there are (`faults`), what is stored (`store/memory`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import attrs
import trio

from jobengine.domain.change import CommitBatch
from jobengine.store.errors import StatementRefusedError, StoreSilentError, StoreUnavailableError
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
        self._last: dict[str, _Asked] = {}
        self._away_until = 0.0
        self.kill_ledger: Callable[[], None] | None = None
        """Lets the one who commits fail; None while there is none."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in SPARED:
                return await method(*args, **named)
            asked = _Asked(name, "store.read", name, self.calls[name])
            await self._before(asked)
            result = await method(*args, **named)
            await self._after(asked)
            return result

        setattr(self, name, call)
        return call

    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        self.calls["commit"] += 1
        asked = _Asked("commit", "store.commit", _kind(batch), self.calls["commit"])
        tenants = sorted({change.tenant_id for change in batch.changes})
        front = next((self._last[each] for each in tenants if each in self._last), None)
        for tenant_id in tenants:
            self._last[tenant_id] = asked
        return self._commit(batch, asked, front)

    async def _commit(self, batch: CommitBatch, asked: "_Asked", front: "_Asked | None") -> None:
        try:
            await self._before(asked)
            if front is not None:
                await front.over.wait()
            if len(batch.changes) > 1 and self._faults.strike("store.commit.refused", asked.state):
                raise StatementRefusedError("refused", sqlstate="23514")
            try:
                await self.inner.commit(batch)
            finally:
                self._date(batch)
        finally:
            asked.over.set()
            for change in batch.changes:
                if self._last.get(change.tenant_id) is asked:
                    del self._last[change.tenant_id]
        await self._after(asked)
        if front is not None and self._is_torn(front, asked):
            raise StoreUnavailableError("lost behind another", may_have_committed=True)

    def _date(self, batch: CommitBatch) -> None:
        heads, now = self.inner.tables.heads, trio.current_time()
        for change in batch.changes:
            head = heads.get(change.tenant_id)
            if head is not None:
                dates = self.committed.setdefault(change.tenant_id, [])
                dates.append((now, head.next_seq - 1))

    async def _before(self, asked: "_Asked") -> None:
        faults, site, state = self._faults, asked.site, asked.state
        if faults.strike("store.outage", state):
            self._away_until = trio.current_time() + faults.pause_s("store.outage", *_OUTAGES_S)
        if trio.current_time() < self._away_until and not faults.healed:
            await sleep(0.01)
            raise StoreUnavailableError("an outage", may_have_committed=False)
        if faults.strike(f"{site}.slow", state):
            await sleep(faults.pause_s(f"{site}.slow", *_PAUSES_S))
        if faults.strike(f"{site}.away", state) or self._is_nth(asked, "before"):
            raise StoreUnavailableError("away", may_have_committed=False)
        if asked.verb == "commit" and faults.strike("store.commit.unknown", state):
            raise StoreSilentError("silent", may_have_committed=True)

    async def _after(self, asked: "_Asked") -> None:
        faults, site, state = self._faults, asked.site, asked.state
        kill = self.kill_ledger if asked.verb == "commit" else None
        if kill is not None and faults.strike("store.commit.orphaned", state):
            kill()
            await sleep(_ORPHANED_S)
        if faults.strike(f"{site}.lost", state) or self._is_nth(asked, "after"):
            asked.torn = True
            await sleep(faults.pause_s(f"{site}.lost", *_PAUSES_S))
            raise StoreUnavailableError("lost", may_have_committed=asked.verb == "commit")

    def _is_torn(self, front: "_Asked", asked: "_Asked") -> bool:
        if front.torn:
            self._faults.note("store.commit.torn", asked.state)
        return front.torn or self._faults.strike("store.commit.torn", asked.state)

    def _is_nth(self, asked: "_Asked", when: str) -> bool:
        nth = self._nth
        if nth is None or (nth.verb, nth.when, nth.number) != (asked.verb, when, asked.number):
            return False
        self._faults.note("store.nth", f"{asked.verb} {when}")
        return True


@attrs.define(eq=False)
class _Asked:
    """A call under way; ``state`` is what it is about. It is ``over`` when it took effect or failed
    before it could, and ``torn`` when its answer is lost."""

    verb: str
    site: str
    state: str
    number: int
    over: trio.Event = attrs.field(factory=trio.Event)
    torn: bool = False


def _kind(batch: CommitBatch) -> str:
    """What a commit is about: the kind of its first entry."""
    for change in batch.changes:
        for kind in change.kinds():
            return kind
    return "commit"
