"""The ledger: everything that waits becomes one transaction, numbered and chained.

Decides the sequence numbers and chain links of every tenant, what goes into the next commit, and
what to do when a commit did not answer.

Definitions. A *batch* is one transaction. A *head* is a tenant's next sequence number and the link
to chain on. A batch is *unknown* when its commit was sent and the connection was lost.

I1  At most one batch is in flight; changes of one sender are committed in the order it sent them.
I2  A tenant's numbers have no gap: a head moves only when the batch that holds the numbers commits.
I3  A sender hears of its change exactly once: ``Confirm`` after the commit, or ``Deny``.
I4  An unknown batch is settled by the store's heads, never guessed. The compare-and-set on them
    makes sending it again safe even if the first attempt is still under way.
I5  A batch that the store refuses for its data is taken apart, so that one bad change harms nobody
    else's.
I6  A fence is answered when everything appended before it has been settled.

Not here: the bytes in the store (``store``), who may write what (``lease_shard``).
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobengine.core.machine import Answer
from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import GENESIS, Block, Entry, Head, encode_entries, next_link
from jobengine.domain.instant import Moment
from jobengine.messages.ledger import (
    Abandon,
    Append,
    BatchCommitted,
    BatchRefused,
    BatchUnavailable,
    Confirm,
    Deny,
    Fence,
    HeadsLoaded,
    HeadsUnavailable,
    LoadHeads,
    Publish,
    ReportAway,
    ReportBack,
    Write,
)
from jobengine.messages.wake import Wake

__all__ = ["LedgerCore", "LedgerLimits"]

_NEW: Final = Head(1, GENESIS)
_BACKOFF_FIRST_S: Final = 0.05
_INCARNATION_SHIFT: Final = 40


@attrs.frozen(kw_only=True)
class LedgerLimits:
    """Bounds of one batch, and how long to wait for a database that is away."""

    backoff_s_max: float = 2.0
    batch_entries_max: int = 12_000
    batch_requests_max: int = 2_000
    heads_max: int = 100_000


@attrs.define(eq=False)
class _Flight:
    """A batch under way and, in order, the requests it carries with their first numbers."""

    batch: CommitBatch
    requests: list[tuple[Append, int]]
    heads: dict[str, Head]


class LedgerCore:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: LedgerLimits, incarnation: int = 1) -> None:
        self._limits = limits
        self._waiting: deque[Append | Fence] = deque()
        self._alone: deque[Append] = deque()
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._flight: _Flight | None = None
        self._stamp = incarnation << _INCARNATION_SHIFT
        self._reading = False
        self._checking = False
        self._away = False
        self._failures = 0
        self._retry_at: float | None = None

    @property
    def wakeup_at(self) -> float | None:
        return self._retry_at

    @property
    def waiting(self) -> int:
        """Requests that no batch carries yet."""
        return len(self._waiting) + len(self._alone)

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        match message:
            case Append() | Fence():
                self._waiting.append(message)
                return self._next() if self._flight is None else ()
            case BatchCommitted():
                return self._committed() if message.stamp == self._stamp else ()
            case BatchUnavailable():
                return self._unavailable(message, now) if message.stamp == self._stamp else ()
            case BatchRefused():
                return self._refused(message) if message.stamp == self._stamp else ()
            case HeadsLoaded():
                return self._heads_loaded(message) if message.stamp == self._stamp else ()
            case HeadsUnavailable():
                return self._heads_unavailable(now) if message.stamp == self._stamp else ()
            case Wake():
                return self._again(now)
            case _:
                raise TypeError(f"the ledger does not understand {type(message).__name__}")

    # ---- making a batch

    def _next(self) -> list[Any]:
        """Send the next batch, if anything waits and nothing is under way."""
        commands: list[Any] = []
        if self._flight is not None or self._reading or self._retry_at is not None:
            return commands
        while self._waiting and not self._alone and isinstance(self._waiting[0], Fence):
            commands.append(Answer(self._waiting[0].ask_id, None))
            self._waiting.popleft()
        requests = self._gather()
        if not requests:
            return commands
        unknown = sorted({r.changes.tenant_id for r in requests} - self._heads.keys())
        if unknown:
            self._put_back(requests)
            self._reading = True
            self._stamp += 1
            commands.append(LoadHeads(stamp=self._stamp, tenant_ids=unknown))
            return commands
        self._flight = self._build(requests)
        self._stamp += 1
        commands.append(Write(stamp=self._stamp, batch=self._flight.batch))
        return commands

    def _gather(self) -> list[Append]:
        """Everything that waits, up to the bounds or the next fence; suspects go alone."""
        if self._alone:
            return [self._alone.popleft()]
        limits = self._limits
        gathered: list[Append] = []
        entries = 0
        waiting = self._waiting
        while waiting and len(gathered) < limits.batch_requests_max:
            request = waiting[0]
            if isinstance(request, Fence):
                break
            entries += len(request.changes.entries)
            if gathered and entries > limits.batch_entries_max:
                break
            gathered.append(request)
            waiting.popleft()
        return gathered

    def _put_back(self, requests: list[Append]) -> None:
        (self._alone or self._waiting).extendleft(reversed(requests))

    def _build(self, requests: list[Append]) -> _Flight:
        by_tenant: dict[str, list[Entry]] = {}
        carried: list[tuple[Append, int]] = []
        for request in requests:
            changes = request.changes
            entries = by_tenant.get(changes.tenant_id)
            if entries is None:
                entries = by_tenant[changes.tenant_id] = []
            first_seq = self._heads[changes.tenant_id].next_seq + len(entries)
            for seq, entry in enumerate(changes.entries, first_seq):
                entry.seq = seq
            for row, (start, count) in zip(changes.rows, changes.spans, strict=True):
                row.seqs = list(range(first_seq + start, first_seq + start + count))
            entries.extend(changes.entries)
            carried.append((request, first_seq))
        blocks, heads = [], {}
        for tenant_id in sorted(by_tenant):
            if by_tenant[tenant_id]:
                block = self._block(tenant_id, by_tenant[tenant_id])
                blocks.append(block)
                heads[tenant_id] = Head(block.last_seq + 1, block.link)
        batch = CommitBatch(
            batch_id=blocks[0].link.hex()[:32] if blocks else "",
            blocks=tuple(blocks),
            changes=tuple(request.changes for request in requests),
        )
        return _Flight(batch, carried, heads)

    def _block(self, tenant_id: str, entries: list[Entry]) -> Block:
        head = self._heads[tenant_id]
        body = encode_entries(entries)
        return Block(
            tenant_id=tenant_id,
            first_seq=head.next_seq,
            last_seq=head.next_seq + len(entries) - 1,
            at=entries[-1].at,
            previous=head.link,
            link=next_link(head.link, body),
            body=body,
        )

    # ---- what became of it

    def _committed(self) -> list[Any]:
        flight = self._flight
        assert flight is not None
        self._flight = None
        self._remember(flight.heads)
        commands: list[Any] = self._back()
        commands.extend(
            Confirm(sender=request.sender, stamp=request.stamp, first_seq=first_seq)
            for request, first_seq in flight.requests
        )
        if flight.batch.blocks:
            commands.append(Publish(blocks=flight.batch.blocks))
        commands.extend(self._next())
        return commands

    def _refused(self, message: BatchRefused) -> list[Any]:
        flight = self._flight
        assert flight is not None
        self._flight = None
        commands: list[Any] = self._back()
        requests = [request for request, _ in flight.requests]
        if len(requests) == 1:
            request = requests[0]
            commands.append(Deny(sender=request.sender, stamp=request.stamp, why=message.why))
        else:
            self._alone.extend(requests)
        commands.extend(self._next())
        return commands

    def _unavailable(self, message: BatchUnavailable, now: Moment) -> list[Any]:
        self._checking = self._checking or message.unknown
        return self._wait(now, message.why)

    def _heads_unavailable(self, now: Moment) -> list[Any]:
        self._reading = False
        return self._wait(now, "heads could not be read")

    def _heads_loaded(self, message: HeadsLoaded) -> list[Any]:
        self._reading = False
        if self._checking:
            return self._settle_unknown(message.heads)
        commands: list[Any] = self._back()
        missing = dict.fromkeys(message.tenant_ids, _NEW)
        self._remember(missing | message.heads)
        commands.extend(self._next())
        return commands

    def _settle_unknown(self, heads: dict[str, Head]) -> list[Any]:
        """Whether the batch in flight took effect is told by where its heads stand."""
        flight = self._flight
        assert flight is not None
        self._checking = False
        if all(heads.get(tenant_id) == head for tenant_id, head in flight.heads.items()):
            return self._committed()
        before = {
            block.tenant_id: Head(block.first_seq, block.previous) for block in flight.batch.blocks
        }
        if all(heads.get(tenant_id, _NEW) == head for tenant_id, head in before.items()):
            commands: list[Any] = self._back()
            self._stamp += 1
            commands.append(Write(stamp=self._stamp, batch=flight.batch))
            return commands
        return [Abandon(why="another writer has moved the heads of tenants that are ours")]

    def _again(self, now: Moment) -> list[Any]:
        if self._retry_at is None or now.mono < self._retry_at:
            return []
        self._retry_at = None
        flight = self._flight
        if flight is None:
            return self._next()
        self._stamp += 1
        if self._checking and flight.heads:
            self._reading = True
            return [LoadHeads(stamp=self._stamp, tenant_ids=sorted(flight.heads))]
        self._checking = False
        return [Write(stamp=self._stamp, batch=flight.batch)]

    def _wait(self, now: Moment, why: str) -> list[Any]:
        delay_s = min(self._limits.backoff_s_max, _BACKOFF_FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = now.mono + delay_s
        if self._away:
            return []
        self._away = True
        return [ReportAway(why=why)]

    def _back(self) -> list[Any]:
        self._failures = 0
        if not self._away:
            return []
        self._away = False
        return [ReportBack()]

    def _remember(self, heads: dict[str, Head]) -> None:
        for tenant_id, head in heads.items():
            self._heads[tenant_id] = head
            self._heads.move_to_end(tenant_id)
        while len(self._heads) > self._limits.heads_max:
            self._heads.popitem(last=False)
