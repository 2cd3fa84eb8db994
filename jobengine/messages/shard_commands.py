"""What a lease shard commands of the ledger and the store, and what comes of it.

A *stamp* is the number a shard gives to a command whose outcome comes back later; the answer
carries it. The first message of a shard's life, ``Recovered``, comes from the store too.

Not here: requests and answers (``lease_shard``), what workers report (``worker_reports``).
"""

from collections.abc import Mapping, Sequence

import msgspec

from jobengine.domain.change import (
    ChangeSet,
    ControlRow,
    DeadLetterRow,
    GateStateRow,
    IdempotencyRow,
    RegistryRow,
)
from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job
from jobengine.domain.records import DueJob, Lane, LeasedJob, Ranked
from jobengine.domain.run_record import RunRecord

__all__ = [
    "Abandon",
    "ClaimsWanted",
    "Commit",
    "CommitRefused",
    "Committed",
    "DocumentWanted",
    "DueLoaded",
    "LedgerAway",
    "LedgerBack",
    "LoadDelayed",
    "LoadExpiring",
    "LoadLane",
    "LoadSubjects",
    "RankedLoaded",
    "ReadFailed",
    "Recovered",
    "SubjectsLoaded",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Commit(_Message, frozen=True, kw_only=True):
    """Command: make this change durable; ends in ``Committed`` or ``CommitRefused``."""

    stamp: int
    changes: ChangeSet


class Committed(_Message, frozen=True, kw_only=True):
    stamp: int
    first_seq: int


class CommitRefused(_Message, frozen=True, kw_only=True):
    """The store will never take this change; ``why`` holds no value of it."""

    stamp: int
    why: str


class LedgerAway(_Message, frozen=True, kw_only=True):
    """The database does not answer: commits wait, and lease clocks stand still. ``life`` is that of
    the ledger."""

    life: int


class LedgerBack(_Message, frozen=True, kw_only=True):
    life: int


class LoadLane(_Message, frozen=True, kw_only=True):
    """Command: read due jobs of a lane after a key; ends in ``RankedLoaded``."""

    stamp: int
    lane: Lane
    after: tuple[int, str] | None
    now_at: int
    jobs_max: int
    bytes_max: int


class LoadDelayed(_Message, frozen=True, kw_only=True):
    """Command: read the next delayed jobs; ends in ``RankedLoaded``."""

    stamp: int
    after: tuple[int, str] | None
    jobs_max: int


class LoadExpiring(_Message, frozen=True, kw_only=True):
    """Command: read the next jobs that expire; ends in ``DueLoaded``."""

    stamp: int
    after: tuple[int, str] | None
    jobs_max: int


class RankedLoaded(_Message, frozen=True, kw_only=True):
    stamp: int
    rows: Sequence[Ranked]


class DueLoaded(_Message, frozen=True, kw_only=True):
    stamp: int
    rows: Sequence[DueJob]


class ClaimsWanted(msgspec.Struct, frozen=True):
    unique_keys: Sequence[str] = ()
    idempotency: Sequence[tuple[str, str]] = ()


class DocumentWanted(msgspec.Struct, frozen=True):
    """A registered document by name: its newest version, and this one where it is given."""

    kind: str
    name: str
    version: int | None = None


class LoadSubjects(_Message, frozen=True, kw_only=True):
    """Command: read what a decision is about; ends in ``SubjectsLoaded``.

    The latest dead letter of each job is read too, unless ``with_dead_letters`` is off. A run is
    read by its id or by its token.
    """

    stamp: int
    tenant_id: str
    job_ids: Sequence[str] = ()
    claims: ClaimsWanted = ClaimsWanted()
    with_dead_letters: bool = True
    run_id: str | None = None
    run_token: str | None = None
    document: DocumentWanted | None = None
    now_at: int


class SubjectsLoaded(_Message, frozen=True, kw_only=True):
    stamp: int
    tenant_id: str | None = None
    jobs: dict[str, Job] = {}
    dead_letters: dict[str, DeadLetterRow] = {}
    """By job id."""
    holders: dict[str, Job] = {}
    answers: dict[tuple[str, str], IdempotencyRow] = {}
    run: RunRecord | None = None
    newest: RegistryRow | None = None
    """The newest version of the document."""
    version: RegistryRow | None = None
    """The version that was asked for."""


class ReadFailed(_Message, frozen=True, kw_only=True):
    """A read did not succeed; the store does not serve for now. ``refusal`` says why, to whoever
    waits for what was to be read. ``tenant_id``: whose subjects."""

    stamp: int
    refusal: Refusal
    tenant_id: str | None = None


class Recovered(_Message, frozen=True, kw_only=True):
    """First message of every life of a shard: what the store holds for it.

    ``backlogs``: waiting jobs by tenant, those without any left out. ``governed``: a strategy
    across tenants is in force, so nothing starts before it is allotted. ``ledger_life``: of the
    ledger that commits for this life.
    """

    leased: Sequence[LeasedJob]
    lanes: Sequence[Lane]
    backlogs: Mapping[str, int] = {}
    controls: Sequence[ControlRow] = ()
    gate_states: Sequence[GateStateRow] = ()
    governed: bool = False
    ledger_life: int = 1


class Abandon(_Message, frozen=True, kw_only=True):
    """Command: this shard's memory and the store disagree; rebuild it from the store."""

    why: str
