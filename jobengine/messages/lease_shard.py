"""What doors ask a lease shard, and what it answers them.

An *ask* is the number of somebody who waits for an ``Answer``. Here too stand who asks, and the
claim to an idempotency key, which all requests share.

Not here: what workers and their sessions tell a shard (``worker_reports``), what a shard commands
and what comes of it (``shard_commands``), what it tells a session (``session``).
"""

from collections.abc import Sequence

import msgspec

from jobengine.domain.change import ApiKeyRow, RedriveRow, RevocationRow, WebhookRow
from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job
from jobengine.domain.records import NewJob

__all__ = [
    "Actor",
    "AdministerAnswer",
    "AdministerTenant",
    "CancelJob",
    "DiscardDeadLetter",
    "DrainWorker",
    "IdempotencyClaim",
    "JobOutcome",
    "ListWorkers",
    "OperateAnswer",
    "Operation",
    "PrioritizeJob",
    "ReleaseJob",
    "ReplayJob",
    "RetryJob",
    "SubmitAnswer",
    "SubmitJobs",
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
    answer they are all there is. ``backlog`` is how many jobs of the tenant wait now.
    """

    outcomes: Sequence[JobOutcome]
    jobs: Sequence[Job | None]
    backlog: int = 0
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

    ``kind`` and ``data`` (canonical JSON) become the ledger entry, ``also`` more of them behind it
    in the same commit, ``facts`` what is kept under the idempotency key. Rows are additions, or
    changes that can be repeated.
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
    webhooks: Sequence[WebhookRow] = ()
    also: Sequence[tuple[str, bytes]] = ()
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
