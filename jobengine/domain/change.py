"""What a commit does: entries for the ledger, and the projections that follow from them.

A ``JobRow`` is the whole mutable projection of one job after the change; with ``from_state`` it
replaces a row that must be in that state, without it is new. Two tables follow from the state and
are never named apart: ``waiting`` holds a row for each job that is pending or scheduled,
``leases`` one for each that is running. So occupancy, backlog and state cannot disagree.

I1  A job stands in at most one row of a commit (its owner has one change of it in flight at most).
I2  ``spans[i]`` names the entries of ``rows[i]`` as (first index, count) in ``entries``; the ledger
    turns them into the row's ``seqs``.

The stored names are short because they travel once per job and commit as JSON.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from jobengine.domain.cohort import Cohort
from jobengine.domain.control import ControlKind
from jobengine.domain.entry import NO_DATA, Block, Entry

__all__ = [
    "ApiKeyRow",
    "ArtifactRow",
    "ChangeSet",
    "CommitBatch",
    "ControlRow",
    "DeadLetterRow",
    "DeadLetterState",
    "GateStateRow",
    "IdempotencyRow",
    "JobRow",
    "LogRow",
    "RedriveRow",
    "RegistryRow",
    "RevocationRow",
    "RunPartRow",
    "RunRow",
    "UniqueRow",
    "WebhookRow",
]


class JobRow(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One job's row after a change. Immutable columns are given on creation only.

    ``queue`` and ``job_type`` are also given when the job is put (back) into ``waiting``. A change
    of a running job says since when it runs: by ``started_at`` its lease is found.
    """

    tenant_id: str = msgspec.field(name="t")
    shard: int = msgspec.field(name="s")
    job_id: str = msgspec.field(name="i")
    state: str = msgspec.field(name="st")
    from_state: str | None = msgspec.field(name="f", default=None)
    seqs: Sequence[int] = msgspec.field(name="q", default=())
    reason: str | None = msgspec.field(name="re", default=None)
    attempt: int = msgspec.field(name="a", default=0)
    failures: int = msgspec.field(name="fa", default=0)
    crashes: int = msgspec.field(name="cr", default=0)
    due_at: int = msgspec.field(name="du", default=0)
    scheduled_at: int | None = msgspec.field(name="sc", default=None)
    started_at: int | None = msgspec.field(name="sa", default=None)
    finished_at: int | None = msgspec.field(name="fi", default=None)
    cancel_requested_at: int | None = msgspec.field(name="ca", default=None)
    cancel_reason: str | None = msgspec.field(name="cz", default=None)
    result: msgspec.Raw = msgspec.field(name="rs", default=NO_DATA)
    error: msgspec.Raw = msgspec.field(name="er", default=NO_DATA)
    progress: msgspec.Raw = msgspec.field(name="pg", default=NO_DATA)
    # waiting
    rank: int | None = msgspec.field(name="rk", default=None)
    delayed: bool = msgspec.field(name="dl", default=False)
    expires_at: int | None = msgspec.field(name="ex", default=None)
    # leases
    worker_id: str | None = msgspec.field(name="w", default=None)
    task_runner_id: str | None = msgspec.field(name="tr", default=None)
    # immutable
    queue: str | None = msgspec.field(name="qu", default=None)
    job_type: str | None = msgspec.field(name="jt", default=None)
    project_id: str | None = msgspec.field(name="pr", default=None)
    run_id: str | None = msgspec.field(name="rn", default=None)
    source_id: str | None = msgspec.field(name="so", default=None)
    definition: msgspec.Raw = msgspec.field(name="d", default=NO_DATA)
    payload: msgspec.Raw = msgspec.field(name="p", default=NO_DATA)
    created_at: int | None = msgspec.field(name="c", default=None)


class DeadLetterState:
    OPEN = "open"
    REPLAYED = "replayed"
    RETRIED = "retried"
    DISCARDED = "discarded"


class DeadLetterRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A dead letter; with ``from_state`` only ``state`` and ``replayed_as`` change."""

    tenant_id: str = msgspec.field(name="t")
    dead_letter_id: str = msgspec.field(name="id")
    job_id: str = msgspec.field(name="i")
    state: str = msgspec.field(name="st", default=DeadLetterState.OPEN)
    from_state: str | None = msgspec.field(name="f", default=None)
    replayed_as: str | None = msgspec.field(name="ra", default=None)
    job_type: str | None = msgspec.field(name="jt", default=None)
    queue: str | None = msgspec.field(name="qu", default=None)
    class_: str | None = msgspec.field(name="cl", default=None)
    signature: str | None = msgspec.field(name="sg", default=None)
    error: msgspec.Raw = msgspec.field(name="er", default=NO_DATA)
    attempts: int | None = msgspec.field(name="n", default=None)
    worker_id: str | None = msgspec.field(name="w", default=None)
    at: int | None = None


class ArtifactRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An artifact an attempt has named; the bytes live where ``uri`` or ``digest`` says."""

    tenant_id: str = msgspec.field(name="t")
    job_id: str = msgspec.field(name="i")
    attempt: int = msgspec.field(name="a")
    name: str = msgspec.field(name="n")
    uri: str | None = msgspec.field(name="u", default=None)
    digest: str | None = msgspec.field(name="dg", default=None)
    mime: str = msgspec.field(name="m", default="application/octet-stream")
    size_bytes: int = msgspec.field(name="z", default=0)
    at: int


class LogRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Log lines of one attempt, as one JSON array of {at, level, text}, in the order given."""

    tenant_id: str = msgspec.field(name="t")
    job_id: str = msgspec.field(name="i")
    attempt: int = msgspec.field(name="a")
    at: int
    lines: msgspec.Raw = msgspec.field(name="l")


class UniqueRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A unique key held by a job. With ``dropped`` the job gives it up.

    ``until_at`` ends a key of scope ``window``; None means until the job is final.
    """

    tenant_id: str = msgspec.field(name="t")
    key: str = msgspec.field(name="k")
    job_id: str = msgspec.field(name="i")
    until_at: int | None = msgspec.field(name="u", default=None)
    dropped: bool = msgspec.field(name="dp", default=False)


class IdempotencyRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The first answer to a request, stored in the commit of its effect."""

    tenant_id: str = msgspec.field(name="t")
    key: str = msgspec.field(name="k")
    path: str = msgspec.field(name="pa")
    body_digest: str = msgspec.field(name="b")
    answer: msgspec.Raw = msgspec.field(name="an")
    at: int


class ApiKeyRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An API key, by its public prefix. A row without ``digest`` only revokes the key it names,
    and leaves an earlier ``revoked_at`` as it is.

    ``last_used_day_at``, the start of a day, is no part of a commit.
    """

    tenant_id: str = msgspec.field(name="t")
    prefix: str = msgspec.field(name="p")
    digest: str | None = msgspec.field(name="dg", default=None)
    label: str = msgspec.field(name="lb", default="")
    scopes: list[str] = msgspec.field(name="sc", default_factory=list)
    created_at: int = msgspec.field(name="c", default=0)
    created_by: str = msgspec.field(name="by", default="")
    expires_at: int | None = msgspec.field(name="ex", default=None)
    revoked_at: int | None = msgspec.field(name="rv", default=None)
    last_used_day_at: int | None = msgspec.field(name="lu", default=None)


class RevocationRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A token that counts no more for a tenant; the row may go when the token has expired at
    ``until_at``, None when nobody knows when that is."""

    tenant_id: str = msgspec.field(name="t")
    token_id: str = msgspec.field(name="i")
    until_at: int | None = msgspec.field(name="u", default=None)
    at: int


class RedriveRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A redrive, new where ``order`` (canonical JSON) is given. Else a change of it: ``replayed``
    adds to the count, what is None stays as it is, and a redrive that has ended stays ended. A
    batch may hold several changes of one redrive, of which one names a ``state``."""

    tenant_id: str = msgspec.field(name="t")
    redrive_id: str = msgspec.field(name="id")
    state: str | None = msgspec.field(name="st", default=None)
    replayed: int = msgspec.field(name="n", default=0)
    failed: int | None = msgspec.field(name="fa", default=None)
    after_at: int | None = msgspec.field(name="ca", default=None)
    after_id: str | None = msgspec.field(name="ci", default=None)
    last_error: str | None = msgspec.field(name="le", default=None)
    changed_at: int | None = msgspec.field(name="at", default=None)
    order: msgspec.Raw = msgspec.field(name="o", default=NO_DATA)


class ControlRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A control from now on; ``dropped`` takes it away. ``revision`` counts its changes."""

    tenant_id: str = msgspec.field(name="t")
    shard: int = msgspec.field(name="s")
    kind: ControlKind = msgspec.field(name="k")
    name: str = msgspec.field(name="n")
    body: msgspec.Raw = msgspec.field(name="b", default=NO_DATA)
    revision: int = msgspec.field(name="rv", default=0)
    at: int
    dropped: bool = msgspec.field(name="dp", default=False)


class GateStateRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a gate remembers across a restart: tokens of a bucket, the state of a breaker.

    ``name`` is the kind of gate and its key: ``rate:host:registry.example``, ``breaker:osv``.
    Without a body it is forgotten. The last one of a commit counts.
    """

    tenant_id: str = msgspec.field(name="t")
    shard: int = msgspec.field(name="s")
    name: str = msgspec.field(name="n")
    body: msgspec.Raw = msgspec.field(name="b", default=NO_DATA)


class RunRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run. Without ``from_state`` it is new; else a change of the run that must be in that state,
    in which ``state``, what is an instant, ``nodes`` (added to the count) and ``rolled`` are given
    and what is None stays as it is. Columns from ``run_token`` on are given on creation only.

    ``inputs`` and ``rolled`` (a ``RollUp``) are canonical JSON. ``pack`` says of which pack the run
    is: {packId, version, digest, planHash}. ``kept`` counts nodes whose results an earlier run has.
    """

    tenant_id: str = msgspec.field(name="t")
    shard: int = msgspec.field(name="s")
    run_id: str = msgspec.field(name="i")
    state: str = msgspec.field(name="st")
    from_state: str | None = msgspec.field(name="f", default=None)
    nodes: int = msgspec.field(name="n", default=0)
    started_at: int | None = msgspec.field(name="sa", default=None)
    finished_at: int | None = msgspec.field(name="fi", default=None)
    cancel_requested_at: int | None = msgspec.field(name="ca", default=None)
    rolled: msgspec.Raw = msgspec.field(name="ro", default=NO_DATA)
    # immutable
    run_token: str | None = msgspec.field(name="k", default=None)
    created_at: int | None = msgspec.field(name="c", default=None)
    created_by: str | None = msgspec.field(name="cb", default=None)
    project_id: str | None = msgspec.field(name="pr", default=None)
    dag_id: str | None = msgspec.field(name="di", default=None)
    dag_version: int | None = msgspec.field(name="dv", default=None)
    fail_fast: bool = msgspec.field(name="ff", default=False)
    inputs: msgspec.Raw = msgspec.field(name="in", default=NO_DATA)
    inputs_hash: str | None = msgspec.field(name="ih", default=None)
    traceparent: str | None = msgspec.field(name="tp", default=None)
    correlation_id: str | None = msgspec.field(name="ci", default=None)
    replay_of: str | None = msgspec.field(name="rp", default=None)
    parent_run: str | None = msgspec.field(name="pi", default=None)
    parent_key: str | None = msgspec.field(name="pk", default=None)
    pack: msgspec.Raw = msgspec.field(name="pa", default=NO_DATA)


class RunPartRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Nodes and edges that a run was created with, or grew by; parts are numbered by the store from
    0 in the order in which they come. ``body`` is a ``domain.run_part.RunPart``."""

    tenant_id: str = msgspec.field(name="t")
    run_id: str = msgspec.field(name="i")
    body: msgspec.Raw = msgspec.field(name="b")


class RegistryRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a registered document; ``kind`` says whether a DAG template or a pack. ``body``
    is canonical JSON, ``digest`` its sha256. A row without ``digest`` only disables the version, or
    enables it with ``disabled_at`` 0."""

    tenant_id: str = msgspec.field(name="t")
    kind: str = msgspec.field(name="k")
    name: str = msgspec.field(name="n")
    version: int = msgspec.field(name="v")
    digest: str | None = msgspec.field(name="dg", default=None)
    body: msgspec.Raw = msgspec.field(name="b", default=NO_DATA)
    created_at: int | None = msgspec.field(name="c", default=None)
    created_by: str | None = msgspec.field(name="cb", default=None)
    disabled_at: int | None = msgspec.field(name="da", default=None)


class WebhookRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A webhook as it is from now on; ``dropped`` takes it away, whatever its revision. Revision 1
    makes it; a higher one changes it where the store has a lower one, and nothing where the store
    has none. ``secret`` is sealed, in base64."""

    tenant_id: str = msgspec.field(name="t")
    webhook_id: str = msgspec.field(name="i")
    url: str = msgspec.field(name="u", default="")
    types: list[str] = msgspec.field(name="ty", default_factory=list)
    description: str = msgspec.field(name="d", default="")
    wrapping: str = msgspec.field(name="wr", default="none")
    secret: str = msgspec.field(name="se", default="")
    state: str = msgspec.field(name="st", default="active")
    reason: str | None = msgspec.field(name="re", default=None)
    begins_after_seq: int = msgspec.field(name="b", default=0)
    created_at: int = msgspec.field(name="c", default=0)
    created_by: str = msgspec.field(name="cb", default="")
    changed_at: int = msgspec.field(name="at", default=0)
    revision: int = msgspec.field(name="rv", default=1)
    dropped: bool = msgspec.field(name="dp", default=False)


class ChangeSet(msgspec.Struct, kw_only=True):
    """One tenant's change, all or nothing. Consumed by the ledger, which numbers it.

    ``cohorts`` are entries and rows of many jobs each; they stand behind ``entries`` and ``rows``.
    """

    tenant_id: str
    entries: list[Entry] = []
    rows: list[JobRow] = []
    spans: list[tuple[int, int]] = []
    cohorts: list[Cohort] = []
    dead_letters: list[DeadLetterRow] = []
    artifacts: list[ArtifactRow] = []
    logs: list[LogRow] = []
    unique: list[UniqueRow] = []
    idempotency: list[IdempotencyRow] = []
    api_keys: list[ApiKeyRow] = []
    revocations: list[RevocationRow] = []
    redrives: list[RedriveRow] = []
    controls: list[ControlRow] = []
    gate_states: list[GateStateRow] = []
    runs: list[RunRow] = []
    run_parts: list[RunPartRow] = []
    registry: list[RegistryRow] = []
    webhooks: list[WebhookRow] = []

    def entries_total(self) -> int:
        return len(self.entries) + sum(cohort.entries for cohort in self.cohorts)

    def kinds(self) -> Counter[str]:
        """How many entries there are of each kind."""
        counted = Counter([entry.kind for entry in self.entries])
        for cohort in self.cohorts:
            for kind in cohort.kinds:
                counted[kind] += cohort.size
        return counted

    def job_rows(self) -> list[JobRow]:
        """All rows, those of cohorts included, once the entries are numbered."""
        rows = list(self.rows)
        for cohort in self.cohorts:
            rows += cohort.rows()
        return rows


class CommitBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one transaction does; blocks stand in the order of their tenants' ids.

    One without blocks is stored ``again`` when it may have been before: rows of logs that are there
    as they are in it stay the only ones.
    """

    batch_id: str
    blocks: tuple[Block, ...]
    changes: tuple[ChangeSet, ...]
    again: bool = False
