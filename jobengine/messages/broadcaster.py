"""The alphabet of the broadcaster.

A reader is named by a number that no other reader of this process has.
"""

from collections.abc import Sequence

import msgspec

from jobengine.domain.entry import Block
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EVERYTHING, EventFilter

__all__ = [
    "Command",
    "Deliver",
    "Doubted",
    "Follow",
    "Full",
    "Leave",
    "LedgerRead",
    "LedgerUnread",
    "Message",
    "Moved",
    "Published",
    "ReadLedger",
    "Roomy",
    "Rounded",
    "Spare",
    "TellLogged",
    "TellMoved",
    "TimeRound",
    "Unwatch",
    "Watch",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Follow(_Message, frozen=True, kw_only=True):
    """A reader appears, and gets what comes after its cursor. ``logs_of`` names the job of which it
    is told that lines were stored; ``"*"``: of any of the tenant's jobs."""

    reader_id: int
    tenant_id: str
    after_seq: int
    wanted: EventFilter = EVERYTHING
    logs_of: str | None = None


class Leave(_Message, frozen=True, kw_only=True):
    reader_id: int


class Full(_Message, frozen=True, kw_only=True):
    """The reader has kept what it was given, and can take no more until it is ``Roomy``."""

    reader_id: int


class Roomy(_Message, frozen=True, kw_only=True):
    reader_id: int


class Watch(_Message, frozen=True, kw_only=True):
    """A watcher appears: it is told how far the ledger of every tenant has come, from now on."""

    watcher_id: int


class Unwatch(_Message, frozen=True, kw_only=True):
    watcher_id: int


class Published(_Message, frozen=True, kw_only=True):
    """Blocks that have just become durable, in commit order; ``logged`` names the jobs, by tenant
    and id, of which log lines became durable with them."""

    blocks: Sequence[Block]
    logged: Sequence[tuple[str, str]] = ()


class Doubted(_Message, frozen=True, kw_only=True):
    """The ledger begins anew: blocks may have become durable that are never published."""


class LedgerRead(_Message, frozen=True, kw_only=True):
    """The blocks that end after the cursor of ``ReadLedger``, in order, as many as one read gives;
    none when the cursor is where the ledger ends."""

    stamp: int
    blocks: Sequence[Block]


class LedgerUnread(_Message, frozen=True, kw_only=True):
    """The store did not answer ``ReadLedger``."""

    stamp: int


class Rounded(_Message, frozen=True, kw_only=True):
    """A round is done; the wake-up it was part of kept the node's thread for so long. So many bytes
    that sinks had kept were sent since the last one."""

    took_s: float
    sent_bytes: int = 0


class Spare(_Message, frozen=True, kw_only=True):
    """After the round of this number, everybody else on the node came to wait for something."""

    number: int


Message = (
    Follow
    | Leave
    | Full
    | Roomy
    | Watch
    | Unwatch
    | Published
    | Doubted
    | LedgerRead
    | LedgerUnread
    | Rounded
    | Spare
)


class Deliver(_Message, frozen=True, kw_only=True):
    """Hand a batch to a reader, which keeps it; ``Full`` follows where it was the last for now."""

    reader_id: int
    batch: Batch


class TellLogged(_Message, frozen=True, kw_only=True):
    """Tell a reader that lines of a job it asked for have been stored."""

    reader_id: int


class Moved(msgspec.Struct, frozen=True):
    """A tenant's ledger ends here now."""

    tenant_id: str
    last_seq: int


class TellMoved(_Message, frozen=True, kw_only=True):
    watcher_id: int
    moved: Sequence[Moved]


class ReadLedger(_Message, frozen=True, kw_only=True):
    """Read a tenant's blocks that end after ``after_seq``."""

    stamp: int
    tenant_id: str
    after_seq: int


class TimeRound(_Message, frozen=True, kw_only=True):
    """Say how long this wake-up took, by ``Rounded``, when all else that was commanded is done; and
    by ``Spare`` when nobody else on this node has anything to do any more."""

    number: int


Command = Deliver | TellLogged | TellMoved | ReadLedger | TimeRound
