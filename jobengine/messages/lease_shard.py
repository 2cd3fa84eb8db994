"""The alphabet of a lease shard: what it is told, what it answers, what it commands.

A *stamp* is the number a shard gives to a command whose outcome comes back later; the answer
carries it. An *ask* is the number of somebody who waits for an ``Answer``. A *ref* is whatever a
worker wants echoed. Sessions are named by number; what a shard tells one is in
``messages/session.py``.
"""

from collections.abc import Sequence

import msgspec

from jobengine.domain.change import (
    ApiKeyRow,
    ArtifactRow,
    ChangeSet,
    ControlRow,
    DeadLetterRow,
    GateStateRow,
    IdempotencyRow,
    RedriveRow,
    RevocationRow,
)
from jobengine.domain.errors import Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.job import Job
from jobengine.domain.records import DueJob, Lane, LeasedJob, NewJob, Ranked

__all__ = [
    "Abandon",
    "Actor",
    "AdministerAnswer",
    "AdministerTenant",
    "ArtifactNamed",
    "Attach",
    "Beat",
    "CancelJob",
    "ClaimsWanted",
    "Commit",
    "CommitRefused",
    "Committed",
    "Completed",
    "Detach",
    "DiscardDeadLetter",
    "Drain",
    "DrainWorker",
    "DueLoaded",
    "Failed",
    "GivenBack",
    "IdempotencyClaim",
    "JobOutcome",
    "LeaseClaim",
    "LedgerAway",
    "LedgerBack",
    "ListWorkers",
    "LoadDelayed",
    "LoadExpiring",
    "LoadLane",
    "LoadSubjects",
    "Logged",
    "NewJob",
    "OperateAnswer",
    "Operation",
    "PrioritizeJob",
    "Progressed",
    "RankedLoaded",
    "ReadFailed",
    "Recovered",
    "ReleaseJob",
    "ReplayJob",
    "Report",
    "Reports",
    "RetryJob",
    "SetCredit",
    "SubjectsLoaded",
    "SubmitAnswer",
    "SubmitJobs",
    "ThrottleSeen",
    "WatermarkMoved",
    "WorkerFacts",
    "WorkersAnswer",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Actor(msgspec.Struct, frozen=True):
    """Who caused a change, and the operator's words for it."""

    subject: str
    reason: str | None = None
    ticket: str | None = None


class IdempotencyClaim(msgspec.Struct, frozen=True):
    """The caller's key for this request; ``body_digest`` tells another request under that key."""

    key: str
    path: str
    body_digest: str


class JobOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one submitted job: ``created``, ``existing`` or ``rejected``."""

    outcome: str
    job_id: str | None = None
    refusal: Refusal | None = None


# ---- requests of doors


class SubmitJobs(_Message, frozen=True, kw_only=True):
    """Create jobs of one tenant in one commit; answered by ``SubmitAnswer`` or a ``Refusal``."""

    ask_id: int
    tenant_id: str
    actor: Actor
    jobs: Sequence[NewJob]
    claim: IdempotencyClaim | None = None


class SubmitAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes in the order submitted; ``jobs`` holds the job of each outcome that has one.

    ``stored`` are the facts kept under the idempotency key, when there is one; of a ``replayed``
    answer they are all there is.
    """

    outcomes: Sequence[JobOutcome]
    jobs: Sequence[Job | None]
    stored: bytes | None = None
    replayed: bool = False


class _Operation(_Message, frozen=True, kw_only=True):
    ask_id: int
    tenant_id: str
    job_id: str
    actor: Actor
    claim: IdempotencyClaim | None = None


class CancelJob(_Operation, frozen=True, kw_only=True):
    reason: str = "user_cancelled"


class RetryJob(_Operation, frozen=True, kw_only=True):
    """Schedule a failed job again; ``dead_letter_id`` names a letter that must be open."""

    dead_letter_id: str | None = None


class ReleaseJob(_Operation, frozen=True, kw_only=True):
    pass


class ReplayJob(_Operation, frozen=True, kw_only=True):
    """Create a copy of a finished job; an open dead letter of it becomes ``replayed``.

    ``redrive_id`` names the redrive that counts it, in the same commit.
    """

    new_job_id: str
    priority: int = 8
    dead_letter_id: str | None = None
    redrive_id: str | None = None


class PrioritizeJob(_Operation, frozen=True, kw_only=True):
    """Give a waiting job another priority."""

    priority: int


class DiscardDeadLetter(_Operation, frozen=True, kw_only=True):
    dead_letter_id: str


Operation = CancelJob | RetryJob | ReleaseJob | ReplayJob | PrioritizeJob | DiscardDeadLetter


class OperateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The changed job after the commit (the new one, for a replay); ``stored`` as for a submit."""

    job: Job | None
    stored: bytes | None = None
    replayed: bool = False


class AdministerTenant(_Message, frozen=True, kw_only=True):
    """Record a change that is of the tenant and of no job: who may act for it, or where a redrive
    stands; answered by ``AdministerAnswer`` or a ``Refusal``.

    ``kind`` and ``data`` (canonical JSON) become the ledger entry, ``facts`` what is kept under the
    idempotency key. Rows are additions, or changes that can be repeated.
    """

    ask_id: int
    tenant_id: str
    actor: Actor
    kind: str
    data: bytes
    facts: bytes
    api_keys: Sequence[ApiKeyRow] = ()
    revocations: Sequence[RevocationRow] = ()
    redrives: Sequence[RedriveRow] = ()
    claim: IdempotencyClaim | None = None


class AdministerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """After the commit; ``stored`` are the facts of the first request when this is ``replayed``, or
    those that its maker could not know before."""

    stored: bytes | None = None
    replayed: bool = False


class ListWorkers(_Message, frozen=True, kw_only=True):
    """Which workers of a tenant are attached; answered by ``WorkersAnswer``.

    Up to ``workers_max`` of them after ``after``, by worker id; with ``worker_id`` that one alone.
    """

    ask_id: int
    tenant_id: str
    worker_id: str | None = None
    after: str = ""
    workers_max: int = 1


class WorkerFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An attached worker, all of its sessions together; instants in UTC microseconds.

    ``slots`` is how many more leases it would be given now.
    """

    worker_id: str
    task_runner_id: str
    queues: Sequence[str]
    job_types: Sequence[str]
    capacity: int
    leases: int
    slots: int
    draining: bool
    sessions: int
    connected_at: int
    heard_at: int


class WorkersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """By worker id."""

    workers: Sequence[WorkerFacts]


class DrainWorker(_Message, frozen=True, kw_only=True):
    """Grant a worker no more leases and tell it so; answered by ``AdministerAnswer``, whose
    ``stored`` are the worker's facts as JSON, or a ``Refusal``.

    A drain holds for the sessions that the worker has now, as long as they last.
    """

    ask_id: int
    tenant_id: str
    actor: Actor
    worker_id: str
    deadline_at: int
    claim: IdempotencyClaim | None = None


# ---- requests of sessions


class LeaseClaim(msgspec.Struct, frozen=True):
    """A lease as its holder names it."""

    lease_id: str
    token: int


class Attach(_Message, frozen=True, kw_only=True):
    """A worker session opens: no credit yet. ``resume`` names every lease the worker still holds.

    A worker takes jobs that match every filter it gives; an empty filter matches all.
    ``connected_at`` is when its connection opened, 0 where there is none to speak of.
    """

    session_id: int
    tenant_id: str
    worker_id: str
    task_runner_id: str
    queues: frozenset[str]
    job_types: frozenset[str]
    capacity: int
    auto_credit: bool = False
    connected_at: int = 0
    resume: Sequence[LeaseClaim] = ()


class SetCredit(_Message, frozen=True, kw_only=True):
    session_id: int
    slots: int


class Beat(_Message, frozen=True, kw_only=True):
    """A heartbeat: renews the named leases, or all of the session."""

    session_id: int
    ref: str | int | None = None
    leases: Sequence[LeaseClaim] | None = None
    progress: dict[str, bytes] = {}
    """Canonical progress notes by lease id."""


class Drain(_Message, frozen=True, kw_only=True):
    session_id: int
    ref: str | int | None = None


class Detach(_Message, frozen=True, kw_only=True):
    """The session is gone; its leases live until they expire or are resumed."""

    session_id: int


class _Report(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    ref: str | int | None = None
    lease_id: str
    token: int


class Completed(_Report, frozen=True, kw_only=True):
    """``result`` is canonical JSON; ``follow_ups`` are created in the same commit."""

    result: bytes
    artifacts: Sequence[ArtifactRow] = ()
    follow_ups: Sequence[NewJob] = ()


class Failed(_Report, frozen=True, kw_only=True):
    error: Failure
    retry_after_us: int | None = None


class GivenBack(_Report, frozen=True, kw_only=True):
    delay_us: int = 0
    reason: str = ""


class Progressed(_Report, frozen=True, kw_only=True):
    note: bytes


class Logged(_Report, frozen=True, kw_only=True):
    lines: bytes


class ArtifactNamed(_Report, frozen=True, kw_only=True):
    artifact: ArtifactRow


class ThrottleSeen(_Report, frozen=True, kw_only=True):
    """An upstream pushed back; ``lease_id`` is empty when only the source is named."""

    http_status: int
    source_id: str | None = None
    retry_after_us: int | None = None


class WatermarkMoved(_Report, frozen=True, kw_only=True):
    source_id: str


Report = (
    Completed
    | Failed
    | GivenBack
    | Progressed
    | Logged
    | ArtifactNamed
    | ThrottleSeen
    | WatermarkMoved
)


class Reports(_Message, frozen=True, kw_only=True):
    """What one frame of a worker reports, in order."""

    session_id: int
    reports: Sequence[Report]


# ---- commands, and what comes of them


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
    """The database does not answer: commits wait, and lease clocks stand still."""


class LedgerBack(_Message, frozen=True, kw_only=True):
    pass


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


class LoadSubjects(_Message, frozen=True, kw_only=True):
    """Command: read what a decision is about; ends in ``SubjectsLoaded``.

    The latest dead letter of each job is read too; ``with_keys_of_jobs`` adds the holders of the
    unique keys that the jobs' definitions name.
    """

    stamp: int
    tenant_id: str
    job_ids: Sequence[str] = ()
    claims: ClaimsWanted = ClaimsWanted()
    with_keys_of_jobs: bool = False
    now_at: int


class SubjectsLoaded(_Message, frozen=True, kw_only=True):
    stamp: int
    jobs: dict[str, Job] = {}
    dead_letters: dict[str, DeadLetterRow] = {}
    """By job id."""
    holders: dict[str, Job] = {}
    answers: dict[tuple[str, str], IdempotencyRow] = {}


class ReadFailed(_Message, frozen=True, kw_only=True):
    """A read did not succeed; the store is away for now."""

    stamp: int


class Recovered(_Message, frozen=True, kw_only=True):
    """First message of every life of a shard: what the store holds for it."""

    leased: Sequence[LeasedJob]
    lanes: Sequence[Lane]
    controls: Sequence[ControlRow] = ()
    gate_states: Sequence[GateStateRow] = ()


class Abandon(_Message, frozen=True, kw_only=True):
    """Command: this shard's memory and the store disagree; rebuild it from the store."""

    why: str
