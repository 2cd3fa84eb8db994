"""Readers of a tenant with one filter, grouped by how far they have come.

Definitions. A *group* holds readers with the same cursor, which get the same batch. The *live*
group of a topic is up to date but for ``pending``: the events that the filter has let through since
``after_seq``. All seqs up to the first of them, or up to the ring's front, are behind its readers.

I1  A reader with room is in exactly one group, one that is full in none.
I2  A live group without readers has nothing pending.
"""

from collections.abc import Iterator

import attrs

from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EventFilter

__all__ = ["Group", "Reader", "Topic"]


@attrs.define(eq=False)
class Reader:
    """``cursor`` is how far it had come when it was last told, or when it became full."""

    reader_id: int
    topic: "Topic"
    cursor: int
    logs_of: str | None
    group: "Group | None" = None


@attrs.define(eq=False)
class Group:
    """``batch`` is what is being handed out, while that takes more than one round. ``queued``: it
    is in line for a round; ``paged``: for what the tenant's page has; ``behind``: it waits for the
    ledger to be read."""

    topic: "Topic"
    after_seq: int
    live: bool = False
    readers: dict[int, Reader] = attrs.field(factory=dict)
    pending: list[Event] = attrs.field(factory=list)
    batch: Batch | None = None
    queued: bool = False
    paged: bool = False
    behind: bool = False


@attrs.define(eq=False)
class Topic:
    """``groups`` has those that are not live by their cursor."""

    wanted: EventFilter
    readers: int = 0
    live: Group = attrs.field(init=False)
    groups: dict[int, Group] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.live = Group(self, 0, live=True)

    def position(self, front: int) -> int:
        """How far the live group has come."""
        pending = self.live.pending
        return pending[0].seq - 1 if pending else front

    def group_at(self, seq: int) -> Group:
        """The group, new where there is none, of those that have come this far and are not live."""
        group = self.groups.get(seq)
        if group is None:
            group = self.groups[seq] = Group(self, seq)
        return group

    def is_live(self, seq: int, front: int) -> bool:
        """Whether the live group is where a reader is that has come this far."""
        live = self.live
        if not live.readers:
            return seq == front
        return live.after_seq <= seq <= self.position(front)

    def all_groups(self) -> Iterator[Group]:
        yield self.live
        yield from self.groups.values()
