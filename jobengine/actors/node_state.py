"""What every part of a node may look at and one part writes: the ledger's and the load's state."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import attrs

from jobengine.actors.activity import Activity
from jobengine.actors.store_trouble import Trouble
from jobengine.messages.load import Cause, LoadLevel

__all__ = ["SHED_REASONS", "LedgerState", "LoadState", "ShedReason"]

ShedReason = Literal["backlog", "load", "mailbox"]

SHED_REASONS: Final[tuple[ShedReason, ...]] = ("backlog", "load", "mailbox")
"""The tenant has too many jobs that wait; the node is shedding; an actor's mailbox is full."""


@attrs.define
class LedgerState:
    """Whether commits go through; written by the ledger's shell, read by doors and readiness.

    ``why`` and ``trouble`` say what keeps them, in the server's words and for tenants; they follow
    what the last try met, but that a commit in doubt stays in doubt until it is settled.
    ``committing_since_mono``: since when the store has owed the answer to a commit, in monotonic
    seconds; None while it owes none. ``waiting_since_mono``: since when changes have waited to be
    committed, or since the database is back.
    """

    away_since_mono: float | None = None
    why: str = ""
    trouble: Trouble | None = None
    commits_total: int = 0
    commits_s_total: float = 0.0
    entries_total: int = 0
    last_commit_s: float = 0.0
    committing_since_mono: float | None = None
    waiting_since_mono: float | None = None
    activity: Activity = attrs.field(factory=Activity)

    @property
    def behind_since_mono(self) -> float | None:
        """Since when the change or commit has waited that waits longest."""
        since = (self.committing_since_mono, self.waiting_since_mono)
        return min((mono for mono in since if mono is not None), default=None)


@attrs.define
class LoadState:
    """How busy the node is; written by the load meter, read by doors, shards and readiness.

    ``sheds`` counts what doors refused for want of room; they write it themselves.
    """

    level: LoadLevel = "normal"
    causes: Sequence[Cause] = ()
    changes_total: int = 0
    sheds: Counter[ShedReason] = attrs.field(factory=Counter)
