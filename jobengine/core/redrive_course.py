"""A redrive under way: what the redriver remembers of it, and what is recorded of its changes.

Definitions. The *flight* of a course is the one command of it that is under way. It is *unsettled*
while what became of a command is unknown. Its *cursor* is the last letter that was tried, in
descending order of (at, id).

Not here: what happens when (``redriver``).
"""

from collections import deque
from typing import Any, Final

import attrs
import msgspec

from jobengine.domain.change import RedriveRow
from jobengine.domain.redrive import Redrive, RedriveState
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.messages.redriver import ChangeRedrive, Letter, StartRedrive

__all__ = ["Course", "Recording", "beginning", "completion", "failure", "movement"]

_KINDS: Final = {
    RedriveState.PAUSED: "deadletter.redrive_paused",
    RedriveState.RUNNING: "deadletter.redrive_resumed",
    RedriveState.STOPPED: "deadletter.redrive_stopped",
}
_encode: Final = msgspec.json.Encoder().encode


@attrs.frozen(kw_only=True)
class Recording:
    """A change of a redrive: ``after`` is the redrive once it is committed; ``kind`` and ``data``
    are of its entry; who asked for it, if anybody did, waits under ``ask_id``."""

    after: Redrive
    actor: Actor
    kind: str
    data: dict[str, Any]
    row: RedriveRow
    ask_id: int | None = None
    claim: IdempotencyClaim | None = None


@attrs.define(eq=False)
class Course:
    """``again_mono``: nothing before then, after something failed; ``next_mono``: no letter before
    then. ``all_read``: no letters are left but those here."""

    redrive: Redrive
    cursor: tuple[int, str]
    flight: tuple[int, Any] | None = None
    unsettled: bool = False
    again_mono: float = 0.0
    next_mono: float = 0.0
    letters: deque[Letter] = attrs.field(factory=deque)
    all_read: bool = False
    changes: deque[ChangeRedrive] = attrs.field(factory=deque)

    @property
    def key(self) -> tuple[str, str]:
        return self.redrive.tenant_id, self.redrive.redrive_id

    @property
    def due_mono(self) -> float | None:
        """When it may do its next thing by itself; None while it may not."""
        running = self.redrive.state == RedriveState.RUNNING
        if self.flight is not None or not (self.unsettled or running):
            return None
        if self.unsettled or self.redrive.exhausted or not self.letters:
            return self.again_mono
        return max(self.again_mono, self.next_mono)

    def tried(self) -> None:
        """The first letter is behind us, whatever became of it."""
        letter = self.letters.popleft()
        self.cursor = (letter.at, letter.dead_letter_id)

    def settle(self, redrive: Redrive) -> None:
        """Go on from what the store holds."""
        self.redrive = redrive
        self.cursor = min(self.cursor, redrive.after or self.cursor)
        self.letters.clear()
        self.all_read = False


def beginning(message: StartRedrive) -> Recording:
    order = message.order
    redrive = Redrive(
        tenant_id=message.tenant_id,
        redrive_id=message.redrive_id,
        order=order,
        changed_at=order.created_at,
    )
    row = RedriveRow(
        tenant_id=message.tenant_id,
        redrive_id=message.redrive_id,
        state=redrive.state,
        changed_at=redrive.changed_at,
        order=msgspec.Raw(_encode(order)),
    )
    return Recording(
        after=redrive,
        actor=message.actor,
        kind="deadletter.redrive_started",
        data={"order": msgspec.to_builtins(order), "redriveId": message.redrive_id},
        row=row,
        ask_id=message.ask_id,
        claim=message.claim,
    )


def movement(redrive: Redrive, message: ChangeRedrive, now_at: int) -> Recording:
    """To the state that was asked for."""
    after = msgspec.structs.replace(redrive, state=message.target, changed_at=now_at)
    return Recording(
        after=after,
        actor=message.actor,
        kind=_KINDS[message.target],
        data=_standing(after),
        row=_state_row(after),
        ask_id=message.ask_id,
        claim=message.claim,
    )


def completion(redrive: Redrive, now_at: int) -> Recording:
    """Nothing is left to do."""
    after = msgspec.structs.replace(redrive, state=RedriveState.COMPLETED, changed_at=now_at)
    return Recording(
        after=after,
        actor=_engine(redrive),
        kind="deadletter.redrive_completed",
        data=_standing(after),
        row=_state_row(after),
    )


def failure(redrive: Redrive, letter: Letter, why: str) -> Recording:
    """A letter that cannot be replayed."""
    after = msgspec.structs.replace(
        redrive,
        failed=redrive.failed + 1,
        after=(letter.at, letter.dead_letter_id),
        last_error=why,
    )
    row = RedriveRow(
        tenant_id=redrive.tenant_id,
        redrive_id=redrive.redrive_id,
        failed=after.failed,
        after_at=letter.at,
        after_id=letter.dead_letter_id,
        last_error=why,
    )
    data = {
        "deadLetterId": letter.dead_letter_id,
        "error": why,
        "jobId": letter.job_id,
        "redriveId": redrive.redrive_id,
    }
    kind = "deadletter.redrive_letter_failed"
    return Recording(after=after, actor=_engine(redrive), kind=kind, data=data, row=row)


def _state_row(after: Redrive) -> RedriveRow:
    return RedriveRow(
        tenant_id=after.tenant_id,
        redrive_id=after.redrive_id,
        state=after.state,
        changed_at=after.changed_at,
    )


def _standing(redrive: Redrive) -> dict[str, Any]:
    return {
        "failed": redrive.failed,
        "redriveId": redrive.redrive_id,
        "replayed": redrive.replayed,
    }


def _engine(redrive: Redrive) -> Actor:
    """The engine, for the reason and under the ticket that the redrive was begun with."""
    return Actor("engine", redrive.order.reason, redrive.order.ticket)
