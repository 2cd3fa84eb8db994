"""A batch on its way: the changes it carries, their numbers and links, and what became of it.

I1  A tenant's entries are numbered from its head, in the order of the changes, without a gap.
I2  Numbers are given once: a batch that is sent again is the same batch. Only what a batch taken
    apart goes on with is numbered anew.
I3  A batch may *follow* another one: it goes on from the heads that one will leave, so it takes
    effect after that one or not at all.

Not here: which changes a batch holds (``commit_queue``), when it is sent (``ledger``).
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from jobengine.core.commit_weight import Load, octets_of
from jobengine.domain.change import ChangeSet, CommitBatch
from jobengine.domain.entry import GENESIS, Block, Head, encode_entries, next_link
from jobengine.messages.ledger import Append

__all__ = ["NEW", "Flight"]

NEW: Final = Head(1, GENESIS)
"""The head of a tenant without entries."""


@attrs.define(eq=False)
class Flight:
    """``stamp`` is that of the command under way for it, 0 while it waits to be tried again.

    ``batch`` is there, with ``first_seqs`` of its requests and the ``heads`` it leaves behind, once
    it is numbered. It is ``unknown`` when it was sent and may have taken effect, and ``troubled``
    from when the store could not be asked about it until the store answers again. It was ``tried``
    when a server was there and did not come through with it. If it moves no head it goes ``again``
    once it may have taken effect. It is ``void`` when the one that it followed will never take
    effect, and so neither will it.
    """

    requests: Sequence[Append]
    front: "Flight | None" = None
    """The one that it follows, until that is settled."""
    stamp: int = 0
    batch: CommitBatch | None = None
    first_seqs: list[int] = attrs.field(factory=list)
    heads: dict[str, Head] = attrs.field(factory=dict)
    unknown: bool = False
    again: bool = False
    troubled: bool = False
    tried: bool = False
    void: bool = False
    entries: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._count()

    def _count(self) -> None:
        self.entries = sum(request.changes.entries_total() for request in self.requests)

    @property
    def tenant_ids(self) -> list[str]:
        """Each once, in order."""
        return sorted({request.changes.tenant_id for request in self.requests})

    @property
    def load(self) -> Load:
        """What it carries; counted anew each time."""
        changes = [request.changes for request in self.requests]
        octets = sum(octets_of(each, each.entries_total()) for each in changes)
        return Load(self.entries, octets, len(changes))

    def divide(self, count: int) -> Sequence[Append]:
        """Go on with so many of the changes, not numbered; the others are given back."""
        rest = self.requests[count:]
        self.requests = self.requests[:count]
        self.batch, self.first_seqs, self.heads = None, [], {}
        self.again = self.again or self.unknown
        self.unknown = self.tried = False
        self._count()
        return rest

    def number(self, known: Mapping[str, Head]) -> CommitBatch:
        """Number what it carries from the heads of its tenants, all of which are ``known`` or left
        by the one in front."""
        if self.front is not None:
            known = ChainMap(self.front.heads, known)  # type: ignore[arg-type]
        by_tenant: dict[str, _Body] = {}
        for request in self.requests:
            changes = request.changes
            body = by_tenant.get(changes.tenant_id)
            if body is None:
                body = by_tenant[changes.tenant_id] = _Body(known[changes.tenant_id])
            self.first_seqs.append(body.next_seq)
            body.add(changes)
        blocks = [
            by_tenant[tenant_id].block(tenant_id)
            for tenant_id in sorted(by_tenant)
            if by_tenant[tenant_id].lines
        ]
        self.heads = {b.tenant_id: Head(b.last_seq + 1, b.link) for b in blocks}
        self.batch = CommitBatch(
            batch_id=blocks[0].link.hex()[:32] if blocks else "",
            blocks=tuple(blocks),
            changes=tuple(request.changes for request in self.requests),
            again=self.again and not blocks,
        )
        return self.batch

    def doubt(self) -> CommitBatch:
        """The batch, as one that may have taken effect and has no heads to tell."""
        assert self.batch is not None
        self.again = True
        self.batch = msgspec.structs.replace(self.batch, again=True)
        return self.batch

    def took_effect(self, heads: Mapping[str, Head], follower: "Flight | None") -> bool | None:
        """What the store's heads say of it; None when they stand neither before nor after it. Where
        the ``follower`` took effect, they stand after that."""
        assert self.batch is not None
        later = {} if follower is None else follower.heads
        if all(
            heads.get(tenant_id) in (head, later.get(tenant_id, head))
            for tenant_id, head in self.heads.items()
        ):
            return True
        before = {b.tenant_id: Head(b.first_seq, b.previous) for b in self.batch.blocks}
        if all(heads.get(tenant_id, NEW) == head for tenant_id, head in before.items()):
            return False
        return None


class _Body:
    """The block of one tenant that grows behind a head, change by change."""

    __slots__ = ("_at", "_head", "lines", "next_seq")

    def __init__(self, head: Head) -> None:
        self._head = head
        self._at = 0
        self.next_seq = head.next_seq
        self.lines: list[bytes] = []

    def add(self, changes: ChangeSet) -> None:
        """Number a change, and take its entries in."""
        entries, first_seq = changes.entries, self.next_seq
        for seq, entry in enumerate(entries, first_seq):
            entry.seq = seq
        for row, (start, count) in zip(changes.rows, changes.spans, strict=True):
            row.seqs = list(range(first_seq + start, first_seq + start + count))
        if entries:
            self.next_seq += len(entries)
            self._at = entries[-1].at
            self.lines.append(encode_entries(entries))
        for cohort in changes.cohorts:
            cohort.first_seq = self.next_seq
            self.next_seq += cohort.entries
            self._at = cohort.at
            self.lines.append(cohort.lines())

    def block(self, tenant_id: str) -> Block:
        body = b"".join(self.lines)
        return Block(
            tenant_id=tenant_id,
            first_seq=self._head.next_seq,
            last_seq=self.next_seq - 1,
            at=self._at,
            previous=self._head.link,
            link=next_link(self._head.link, body),
            body=body,
        )
