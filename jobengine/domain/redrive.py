"""A redrive: the replay of many dead letters, newest first, at a rate and up to a cap.

It is about the dead letters that are open and match when it begins; what dies after that is none of
its business, so a replay that fails again is not replayed for ever.

I1  ``stopped`` and ``completed`` are final.
I2  ``RedriveOrder`` stands in the sorted order of its stored names and holds no floats, so the
    encoder's output is canonical JSON.

Not here: who carries it out (``core/redriver``), how a letter is replayed (``core/lease_shard``).
"""

from enum import StrEnum
from typing import Final

import msgspec

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = ["UNFINISHED", "Redrive", "RedriveOrder", "RedriveState", "refuse_redrive"]


class RedriveState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    COMPLETED = "completed"


UNFINISHED: Final = frozenset({RedriveState.RUNNING, RedriveState.PAUSED})

_ALLOWED: Final = {
    RedriveState.RUNNING: (RedriveState.PAUSED, RedriveState.STOPPED),
    RedriveState.PAUSED: (RedriveState.RUNNING, RedriveState.STOPPED),
    RedriveState.STOPPED: (),
    RedriveState.COMPLETED: (),
}
"""What an operator may ask for; to complete is the redrive's own."""


class RedriveOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What was asked for, by whom; never changes. ``spacing_us`` lies between two letters at least,
    ``matched`` counts the letters at the beginning, as far as they were counted."""

    class_: str | None = msgspec.field(name="class", default=None)
    created_at: int
    created_by: str
    job_type: str | None = None
    letters_max: int | None = None
    matched: int
    queue: str | None = None
    reason: str | None = None
    signature: str | None = None
    spacing_us: int
    ticket: str | None = None


class Redrive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Where a redrive stands. Letters that sort at or before ``after``, by (at, id) descending,
    have been tried; ``failed`` ones are open still, and ``last_error`` is of the latest."""

    tenant_id: str
    redrive_id: str
    order: RedriveOrder
    state: str = RedriveState.RUNNING
    replayed: int = 0
    failed: int = 0
    after: tuple[int, str] | None = None
    last_error: str | None = None
    changed_at: int

    @property
    def tried(self) -> int:
        return self.replayed + self.failed

    @property
    def exhausted(self) -> bool:
        """Whether the cap is reached."""
        cap = self.order.letters_max
        return cap is not None and self.tried >= cap

    @property
    def left(self) -> int:
        """Letters still to be tried, as far as was counted at the beginning."""
        if self.state == RedriveState.COMPLETED:
            return 0
        cap = self.order.letters_max
        due = self.order.matched if cap is None else min(cap, self.order.matched)
        return max(0, due - self.tried)


def refuse_redrive(redrive: Redrive, target: RedriveState) -> Refusal | None:
    """The answer to an operator who asks for what the state does not allow; None where it does."""
    allowed = _ALLOWED[RedriveState(redrive.state)]
    if target in allowed:
        return None
    legal = f"it can become {', '.join(allowed)}" if allowed else "that state is final"
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"redrive {redrive.redrive_id} is {redrive.state} and cannot become {target}; {legal}",
        {
            "redriveId": redrive.redrive_id,
            "from": str(redrive.state),
            "to": str(target),
            "allowed": [str(each) for each in allowed],
        },
    )
