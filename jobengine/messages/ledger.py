"""The alphabet of the ledger actor."""

from collections.abc import Sequence

import msgspec

from jobengine.domain.change import ChangeSet, CommitBatch
from jobengine.domain.entry import Block, Head

__all__ = [
    "Abandon",
    "Append",
    "BatchCommitted",
    "BatchRefused",
    "BatchUnavailable",
    "Confirm",
    "Deny",
    "Fence",
    "HeadsLoaded",
    "HeadsUnavailable",
    "LoadHeads",
    "Message",
    "Publish",
    "ReportAway",
    "ReportBack",
    "Write",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Append(_Message, frozen=True, kw_only=True):
    """Request: commit a change; answered to ``sender`` under its own ``stamp``. ``life`` is that of
    the ledger which its sender is told of by its ``Fence``; any other drops it."""

    life: int
    sender: int
    stamp: int
    changes: ChangeSet


class Fence(_Message, frozen=True, kw_only=True):
    """Request: answered by the life of the ledger, when everything appended before it has been
    settled."""

    ask_id: int


class LoadHeads(_Message, frozen=True, kw_only=True):
    """Command: ends in ``HeadsLoaded`` or ``HeadsUnavailable``."""

    stamp: int
    tenant_ids: Sequence[str]


class HeadsLoaded(_Message, frozen=True, kw_only=True):
    """``heads`` holds those of ``tenant_ids`` that have any entry, as they are once no commit that
    had ended without an answer is under way."""

    stamp: int
    tenant_ids: Sequence[str]
    heads: dict[str, Head]


class HeadsUnavailable(_Message, frozen=True, kw_only=True):
    stamp: int


class Write(_Message, frozen=True, kw_only=True):
    """Command: one transaction; ends in one of the three ``Batch…`` messages."""

    stamp: int
    batch: CommitBatch


class BatchCommitted(_Message, frozen=True, kw_only=True):
    """``took_s`` is from its sending to the store's answer."""

    stamp: int
    took_s: float = 0.0


class BatchUnavailable(_Message, frozen=True, kw_only=True):
    """The store did not take it for now; ``unknown`` when it may have taken effect.

    ``tried`` when a server was there and did not come through with it: it said so, or let its time
    pass.
    """

    stamp: int
    unknown: bool
    why: str
    tried: bool = False


class BatchRefused(_Message, frozen=True, kw_only=True):
    """The store will never take it as it is."""

    stamp: int
    why: str


class Confirm(_Message, frozen=True, kw_only=True):
    """Command: tell a sender that its change is durable, with its first sequence number."""

    sender: int
    stamp: int
    first_seq: int


class Deny(_Message, frozen=True, kw_only=True):
    """Command: tell a sender that its change was refused for good."""

    sender: int
    stamp: int
    why: str


class Publish(_Message, frozen=True, kw_only=True):
    """Command: these blocks are durable, with the changes whose entries they hold; whoever follows
    the ledger may see them. Without blocks log lines alone became durable."""

    blocks: Sequence[Block]
    changes: Sequence[ChangeSet] = ()


class ReportAway(_Message, frozen=True, kw_only=True):
    """Command: the database is away since now."""

    why: str


class ReportBack(_Message, frozen=True, kw_only=True):
    pass


class Abandon(_Message, frozen=True, kw_only=True):
    """Command: memory and store disagree; start anew from the store."""

    why: str


Message = (
    Append
    | Fence
    | HeadsLoaded
    | HeadsUnavailable
    | BatchCommitted
    | BatchUnavailable
    | BatchRefused
)
"""What the ledger may be told."""
