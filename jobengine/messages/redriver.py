"""The alphabet of the redriver: what doors ask of it, what it commands, what comes of that."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.change import RedriveRow
from jobengine.domain.errors import Refusal
from jobengine.domain.redrive import Redrive, RedriveOrder, RedriveState
from jobengine.messages.lease_shard import Actor, AdministerAnswer, IdempotencyClaim

__all__ = [
    "Busy",
    "ChangeRedrive",
    "Found",
    "Letter",
    "LettersRead",
    "ReadFailed",
    "ReadLetters",
    "Record",
    "Recorded",
    "Recovered",
    "RedriveAnswer",
    "RedriverMessage",
    "Refused",
    "ReplayLetter",
    "Replayed",
    "Settle",
    "Settled",
    "StartRedrive",
    "Unsettled",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


# ---- requests of doors


class StartRedrive(_Message, frozen=True, kw_only=True):
    """Begin a redrive under a fresh id; answered by ``RedriveAnswer`` or a ``Refusal``."""

    ask_id: int
    tenant_id: str
    actor: Actor
    redrive_id: str
    order: RedriveOrder
    claim: IdempotencyClaim | None = None


class ChangeRedrive(_Message, frozen=True, kw_only=True):
    """Pause (``paused``), resume (``running``) or stop a redrive; answered as a start is."""

    ask_id: int
    tenant_id: str
    actor: Actor
    redrive_id: str
    target: RedriveState
    claim: IdempotencyClaim | None = None


class RedriveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """After the commit. Without a redrive: it has ended, and the store has the rest of it."""

    redrive: Redrive | None
    replayed: bool = False


# ---- commands, and what comes of them


class Letter(NamedTuple):
    """An open dead letter, by what it is found again by."""

    at: int
    dead_letter_id: str
    job_id: str


class Record(_Message, frozen=True, kw_only=True):
    """Command: commit where a redrive stands, with its entry; ends in ``Recorded``, ``Refused``,
    ``Busy`` or ``Unsettled``."""

    stamp: int
    tenant_id: str
    actor: Actor
    kind: str
    data: bytes
    facts: bytes
    row: RedriveRow
    claim: IdempotencyClaim | None = None


class Recorded(_Message, frozen=True, kw_only=True):
    stamp: int
    answer: AdministerAnswer


class ReplayLetter(_Message, frozen=True, kw_only=True):
    """Command: replay one letter, counted in the same commit; ends in ``Replayed``, ``Refused``,
    ``Busy`` or ``Unsettled``."""

    stamp: int
    tenant_id: str
    redrive_id: str
    actor: Actor
    letter: Letter


class Replayed(_Message, frozen=True, kw_only=True):
    stamp: int


class Refused(_Message, frozen=True, kw_only=True):
    """It was decided against: nothing has changed."""

    stamp: int
    refusal: Refusal


class Busy(_Message, frozen=True, kw_only=True):
    """It was not even asked for, since too much waits already."""

    stamp: int


class Unsettled(_Message, frozen=True, kw_only=True):
    """The answer is lost: it may have taken effect, or take effect yet."""

    stamp: int


class Settle(_Message, frozen=True, kw_only=True):
    """Command: read a redrive, if ``fenced`` behind everything that is under way; ends in
    ``Settled`` or ``ReadFailed``."""

    stamp: int
    tenant_id: str
    redrive_id: str
    fenced: bool


class Settled(_Message, frozen=True, kw_only=True):
    stamp: int
    redrive: Redrive | None


class ReadLetters(_Message, frozen=True, kw_only=True):
    """Command: read open letters that match, after (at, id) descending; ends in ``LettersRead`` or
    ``ReadFailed``."""

    stamp: int
    tenant_id: str
    order: RedriveOrder
    after: tuple[int, str]
    letters_max: int


class LettersRead(_Message, frozen=True, kw_only=True):
    stamp: int
    letters: Sequence[Letter]


class ReadFailed(_Message, frozen=True, kw_only=True):
    stamp: int


class Recovered(_Message, frozen=True, kw_only=True):
    """First message of every life: the redrives that have not ended."""

    redrives: Sequence[Redrive]


class Found(_Message, frozen=True, kw_only=True):
    """Redrives that had not ended when the store was looked through."""

    redrives: Sequence[Redrive]


RedriverMessage = (
    StartRedrive
    | ChangeRedrive
    | Recorded
    | Replayed
    | Refused
    | Busy
    | Unsettled
    | Settled
    | LettersRead
    | ReadFailed
    | Recovered
    | Found
)
"""What the redriver may be told."""
