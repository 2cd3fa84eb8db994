"""What the engine asks of its store, in the words of the domain.

Two stores answer it, ``memory`` and ``postgres``, held equal by one conformance suite
(``tests/store/conformance``). Every method may raise ``StoreUnavailableError``; lists are in a
total order that the method names; ``…_at`` are integer microseconds UTC; a method that is
cancelled has had no effect, but for ``commit``, whose outcome is then unknown until
``settled_heads`` has been asked.

I1  ``commit`` is atomic: heads advanced by compare-and-set, blocks, rows and side rows, or nothing.
I2  A row with ``from_state`` that is not in that state fails the whole commit.
I3  Reads see every commit that has returned.
I4  A tenant's ledger starts at sequence number 1, chained on ``GENESIS``.
I5  Job ids are unique across tenants; cursors that name a job rely on it.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from jobengine.domain.change import (
    ApiKeyRow,
    ArtifactRow,
    CommitBatch,
    DeadLetterRow,
    IdempotencyRow,
    RevocationRow,
)
from jobengine.domain.entry import Block, Entry, Head
from jobengine.domain.job import Job, State
from jobengine.domain.records import DueJob, Lane, LeasedJob, Ranked
from jobengine.domain.redrive import Redrive
from jobengine.store.admission import AdmissionStore
from jobengine.store.artifacts import ArtifactStore
from jobengine.store.feeds import FeedStore
from jobengine.store.log_pages import LOG_BYTES_MAX, LogLines
from jobengine.store.runs import RunStore
from jobengine.store.webhooks import WebhookStore

__all__ = [
    "Claims",
    "DeadLetterFilter",
    "DueJob",
    "JobFilter",
    "JobPage",
    "Lane",
    "LeasedJob",
    "LetterGroup",
    "LetterGroups",
    "LogLines",
    "Ranked",
    "Store",
    "StoreHealth",
]


@attrs.frozen
class Claims:
    """What is taken already: unique keys by their holders, idempotency keys with answers."""

    holders: dict[str, Job]
    answers: dict[tuple[str, str], IdempotencyRow]
    """By (key, path)."""


@attrs.frozen(kw_only=True)
class JobFilter:
    states: frozenset[State] = frozenset()
    job_type: str | None = None
    queue: str | None = None
    run_id: str | None = None
    source_id: str | None = None
    project_id: str | None = None
    label: tuple[str, str] | None = None
    created_from_at: int | None = None
    created_before_at: int | None = None


@attrs.frozen
class JobPage:
    """Jobs newest first. ``next_after`` is the job id to go on after, or None at the end.

    A page may hold fewer jobs than asked for, even none, and still go on: a selective filter is
    answered within a bounded number of rows read.
    """

    jobs: Sequence[Job]
    next_after: str | None


@attrs.frozen(kw_only=True)
class DeadLetterFilter:
    states: frozenset[str] = frozenset()
    job_type: str | None = None
    queue: str | None = None
    class_: str | None = None
    signature: str | None = None


@attrs.frozen
class LetterGroup:
    """Dead letters that have one value in common. ``newest_id`` is given of a signature."""

    value: str
    letters: int
    open: int
    first_at: int
    last_at: int
    newest_id: str | None = None


@attrs.frozen(kw_only=True)
class LetterGroups:
    """Of the newest ``looked_at`` dead letters those that match, by one kind of value each, the
    largest groups first. A letter without a class or a signature counts under the empty text."""

    looked_at: int
    letters: int
    open: int
    by_state: Sequence[LetterGroup]
    by_class: Sequence[LetterGroup]
    by_job_type: Sequence[LetterGroup]
    by_queue: Sequence[LetterGroup]
    by_signature: Sequence[LetterGroup]


@attrs.frozen(kw_only=True)
class StoreHealth:
    """What ``readyz`` and ``doctor`` want to know; ``detail`` says what is wrong when not ready.

    ``server_version`` is empty when the database does not answer."""

    ready: bool
    server_version: str
    schema_version: int
    detail: str = ""


class Store(ArtifactStore, AdmissionStore, RunStore, WebhookStore, FeedStore, Protocol):
    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        """Begin to apply a batch; it is applied when what is returned has been awaited.

        A batch may go on from the heads that one under way will leave, of whose tenants it shares
        some, and of no other's: batches that share tenants take effect in the order in which they
        were begun. When the one in front fails, this one finds a head moved, or its outcome is
        unknown.

        JSON ``null`` as a result, error or progress says nothing: what was stored stays. A unique
        key whose window is over at the block's ``at``, or which its holder drops in the same batch,
        may be taken; taking a live one is refused. A batch holds at most one row and one part of a
        run.

        Raises:
            StoreUnavailableError: ``may_have_committed`` tells whether the outcome is unknown.
            StatementRefusedError: the data or a constraint refused it; nothing was applied.
            HeadMovedError: a tenant's head was not where the batch says; nothing was applied.
            StaleRowError: a job, dead letter or run was not in its ``from_state``; nothing was
                applied.
        """

    async def heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        """Heads of the tenants that have any entry."""

    async def settled_heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        """As ``heads``, for whoever commits: no commit whose call is over can take effect any more,
        whatever its outcome. Raises ``StoreUnavailableError`` also while one still may."""

    async def leased(self, shard: int) -> Sequence[LeasedJob]:
        """Every live lease of a shard, by (tenant, job id)."""

    async def lanes(self, shard: int, now_at: int) -> Sequence[Lane]:
        """The lanes of a shard that hold a scheduled job due by now, in order."""

    async def ready(
        self, lane: Lane, after: tuple[int, str] | None, now_at: int, jobs_max: int, bytes_max: int
    ) -> Sequence[Ranked]:
        """Due jobs of a lane after (rank, job id), in that order. A job that was due when it was
        put there is due, also where the clock has been set back since.

        Stops at ``jobs_max`` jobs, or past ``bytes_max`` bytes of payload (never before one job).
        """

    async def delayed(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[Ranked]:
        """Delayed scheduled jobs of a shard after (due at, job id), in that order."""

    async def expiring(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[DueJob]:
        """Waiting jobs with an expiry, after (expires at, job id), in that order."""

    async def jobs(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[Job]:
        """The jobs that exist of those named, in no order of note (key them by id)."""

    async def job_list(
        self, tenant_id: str, wanted: JobFilter, after: str | None, jobs_max: int
    ) -> JobPage:
        """Jobs of a tenant, newest first (job id descending)."""

    async def job_counts(self, tenant_id: str) -> dict[State, int]:
        """Jobs waiting and running, exactly; final states are not counted here."""

    async def oldest_due(self, tenant_id: str) -> int | None:
        """The least instant at which a scheduled job was or is due; None where none waits."""

    async def claims(
        self,
        tenant_id: str,
        unique_keys: Sequence[str],
        idempotency: Sequence[tuple[str, str]],
        now_at: int,
    ) -> Claims:
        """Holders of unique keys that still hold them at ``now_at``, and stored answers."""

    async def entries(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[Entry]:
        """The ledger entries of these sequence numbers, in order, without those past retention."""

    async def blocks(
        self, tenant_id: str, after_seq: int, blocks_max: int, bytes_max: int
    ) -> Sequence[Block]:
        """Blocks that end after ``after_seq``, in order; at least one when there is any."""

    async def dead_letters(
        self,
        tenant_id: str,
        wanted: DeadLetterFilter,
        after: tuple[int, str] | None,
        letters_max: int,
    ) -> Sequence[DeadLetterRow]:
        """Dead letters newest first, by (at, id) descending."""

    async def dead_letter(self, tenant_id: str, dead_letter_id: str) -> DeadLetterRow | None: ...

    async def dead_letter_groups(
        self, tenant_id: str, wanted: DeadLetterFilter, letters_max: int, groups_max: int
    ) -> LetterGroups:
        """Dead letters counted by what they have in common, among the newest ``letters_max``; with
        a filter on the open state, among the newest open ones. Up to ``groups_max`` of a kind, by
        (letters descending, value)."""

    async def redrives(
        self, tenant_id: str, after: str | None, redrives_max: int
    ) -> Sequence[Redrive]:
        """A tenant's redrives newest first, by id descending."""

    async def redrive(self, tenant_id: str, redrive_id: str) -> Redrive | None: ...

    async def redrives_unfinished(
        self, after: tuple[str, str] | None, redrives_max: int
    ) -> Sequence[Redrive]:
        """Redrives of every tenant that have not ended, after (tenant, id), in that order."""

    async def artifacts(self, tenant_id: str, job_id: str) -> Sequence[ArtifactRow]:
        """Artifacts of a job by (attempt, at, name)."""

    async def logs(
        self,
        tenant_id: str,
        job_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        """Stored log lines of a job as (position, lines), after a position.

        Stops at ``rows_max`` rows, or with the row that reaches ``bytes_max`` bytes of lines.
        """

    async def logs_back(
        self,
        tenant_id: str,
        job_id: str,
        before: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        """The same before a position, the last first."""

    async def api_keys(
        self, tenant_id: str, after: tuple[int, str] | None, keys_max: int
    ) -> Sequence[ApiKeyRow]:
        """A tenant's API keys newest first, by (created at, prefix) descending."""

    async def api_key(self, tenant_id: str, prefix: str) -> ApiKeyRow | None: ...

    async def credentials(
        self, after: int, rows_max: int
    ) -> Sequence[tuple[int, ApiKeyRow | RevocationRow]]:
        """API keys and revocations of every tenant as they are now, with the position of their last
        change, after a position and in that order. A change takes a position above all earlier
        ones."""

    async def note_key_uses(self, uses: Mapping[tuple[str, str], int]) -> None:
        """The days, by their start, on which keys named by (tenant, prefix) were used last.

        No part of the ledger, and no change that ``credentials`` tells of.
        """

    async def prepare(self, now_at: int) -> None:
        """Make room for the days to come (partitions)."""

    async def drop_over(self, now_at: int) -> None:
        """Drop answers past their 24 hours and revocations of tokens that have expired. What is
        being read just now may stay until the next call."""

    async def drop_logs(self, before_at: int) -> None:
        """Drop the log lines of whole days (UTC) that end at or before an instant. What is being
        read just now may stay until the next call."""

    async def health(self) -> StoreHealth: ...
