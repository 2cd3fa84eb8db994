"""A batch on its way: the changes it carries, their numbers and links, and what became of it.

I1  A tenant's entries are numbered from its head, in the order of the changes, without a gap.
I2  Numbers are given once: a batch that is sent again is the same batch.

Not here: which changes a batch holds (``commit_queue``), when it is sent (``ledger``).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import GENESIS, Block, Entry, Head, encode_entries, next_link
from jobengine.messages.ledger import Append

__all__ = ["NEW", "Flight"]

NEW: Final = Head(1, GENESIS)
"""The head of a tenant without entries."""


@attrs.define(eq=False)
class Flight:
    """``stamp`` is that of the command under way for it, 0 while it waits to be tried again.

    ``batch`` is there, with ``first_seqs`` of its requests and the ``heads`` it leaves behind, once
    it is numbered. It is ``unknown`` when it was sent and may have taken effect, and ``troubled``
    from when the store could not be asked about it until the store answers again.
    """

    requests: Sequence[Append]
    stamp: int = 0
    batch: CommitBatch | None = None
    first_seqs: list[int] = attrs.field(factory=list)
    heads: dict[str, Head] = attrs.field(factory=dict)
    unknown: bool = False
    troubled: bool = False

    @property
    def tenant_ids(self) -> list[str]:
        """Each once, in order."""
        return sorted({request.changes.tenant_id for request in self.requests})

    @property
    def entries(self) -> int:
        return sum(len(request.changes.entries) for request in self.requests)

    def number(self, known: Mapping[str, Head]) -> CommitBatch:
        """Number what it carries from the heads of its tenants, all of which are ``known``."""
        by_tenant: dict[str, list[Entry]] = {}
        for request in self.requests:
            changes = request.changes
            entries = by_tenant.get(changes.tenant_id)
            if entries is None:
                entries = by_tenant[changes.tenant_id] = []
            first_seq = known[changes.tenant_id].next_seq + len(entries)
            for seq, entry in enumerate(changes.entries, first_seq):
                entry.seq = seq
            for row, (start, count) in zip(changes.rows, changes.spans, strict=True):
                row.seqs = list(range(first_seq + start, first_seq + start + count))
            entries.extend(changes.entries)
            self.first_seqs.append(first_seq)
        blocks = [
            _block(tenant_id, known[tenant_id], by_tenant[tenant_id])
            for tenant_id in sorted(by_tenant)
            if by_tenant[tenant_id]
        ]
        self.heads = {b.tenant_id: Head(b.last_seq + 1, b.link) for b in blocks}
        self.batch = CommitBatch(
            batch_id=blocks[0].link.hex()[:32] if blocks else "",
            blocks=tuple(blocks),
            changes=tuple(request.changes for request in self.requests),
        )
        return self.batch

    def took_effect(self, heads: Mapping[str, Head]) -> bool | None:
        """What the store's heads say of it; None when they stand neither before nor after it."""
        assert self.batch is not None
        if all(heads.get(tenant_id) == head for tenant_id, head in self.heads.items()):
            return True
        before = {b.tenant_id: Head(b.first_seq, b.previous) for b in self.batch.blocks}
        if all(heads.get(tenant_id, NEW) == head for tenant_id, head in before.items()):
            return False
        return None


def _block(tenant_id: str, head: Head, entries: Sequence[Entry]) -> Block:
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
