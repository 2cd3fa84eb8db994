"""The alphabet of the broadcaster."""

from collections.abc import Sequence

import msgspec

from jobengine.domain.entry import Block
from jobengine.domain.event import Event

__all__ = ["Follow", "Leave", "Published", "Read", "ReadAnswer"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Follow(_Message, frozen=True, kw_only=True):
    """A reader of this tenant's events appears: keep recent ones from now on."""

    reader_id: int
    tenant_id: str


class Leave(_Message, frozen=True, kw_only=True):
    reader_id: int


class Read(_Message, frozen=True, kw_only=True):
    """Answered with the events after a cursor as soon as there is one."""

    ask_id: int
    reader_id: int
    after_seq: int


class ReadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order without a gap after the cursor; ``behind`` when only the ledger has them."""

    events: Sequence[Event] = ()
    behind: bool = False


class Published(_Message, frozen=True, kw_only=True):
    """Blocks that have just become durable, in commit order."""

    blocks: Sequence[Block]
