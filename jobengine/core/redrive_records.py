"""What is recorded of a redrive's changes: the entry, the row, and the redrive as it is afterwards.

Not here: when a redrive changes (``redriver``).
"""

from typing import Any, Final

import attrs
import msgspec

from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import RedriveRow
from jobengine.domain.redrive import Redrive, RedriveState
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.messages.redriver import ChangeRedrive, Letter, Record, StartRedrive

__all__ = ["Recording", "beginning", "completion", "failure", "movement"]

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

    def command(self, stamp: int) -> Record:
        return Record(
            stamp=stamp,
            tenant_id=self.after.tenant_id,
            actor=self.actor,
            kind=self.kind,
            data=canonical_of(self.data),
            facts=_encode(self.after),
            row=self.row,
            claim=self.claim,
        )


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
