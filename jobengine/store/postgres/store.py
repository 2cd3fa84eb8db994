"""The store on PostgreSQL: one named statement a question, one statement a commit.

I1  A commit is one statement outside of a transaction: it happens wholly or not at all. Where its
    outcome is unknown (`may_have_committed`) the error is passed on; nothing is tried again here.
I2  Commits have connections of their own, which what they need to know is read on too, so that no
    other read delays one; those of one tenant are sent behind each other (`driver/line.py`).
I3  What is asked for one tenant is read as a role that sees this tenant alone, by the tenant set in
    the transaction of the read, and takes a share of their connections (`read_shares`); the
    questions of shards and of the ledger span tenants.
I4  Nothing waits for ever: whatever is sent has a deadline (`opening.py`).

Not here: the statements (``sql/``), the schema (``migrations/``), how connections are opened and
set up (``opening.py``); artifacts, admission, commits, credentials, feeds, dead letters, runs and
webhooks, each in its own module.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from jobengine.domain.change import ArtifactRow
from jobengine.domain.entry import Block, Entry, Head, decode_entries
from jobengine.domain.instant import HOUR
from jobengine.domain.job import Job, State
from jobengine.domain.stored_definitions import StoredDefinitions
from jobengine.store.errors import StoreUnavailableError, TransactionConflictError
from jobengine.store.log_pages import LOG_BYTES_MAX
from jobengine.store.port import (
    Claims,
    DueJob,
    JobFilter,
    JobPage,
    Lane,
    LeasedJob,
    LogLines,
    Ranked,
    StoreHealth,
)
from jobengine.store.postgres.admission import PostgresAdmission
from jobengine.store.postgres.artifacts import PostgresArtifacts
from jobengine.store.postgres.commits import PostgresCommits, to_heads
from jobengine.store.postgres.credentials import PostgresCredentials
from jobengine.store.postgres.driver.line import Lines
from jobengine.store.postgres.driver.pool import Pool
from jobengine.store.postgres.encode import COMMITS
from jobengine.store.postgres.feeds import PostgresFeeds
from jobengine.store.postgres.letters import PostgresLetters
from jobengine.store.postgres.migrate import status
from jobengine.store.postgres.read_shares import ReadShares
from jobengine.store.postgres.rows import (
    job_ids_of,
    to_answer,
    to_artifact,
    to_block,
    to_job,
)
from jobengine.store.postgres.runs import PostgresRuns
from jobengine.store.postgres.statements import Statement, load_statements
from jobengine.store.postgres.webhooks import PostgresWebhooks

__all__ = ["PostgresStore"]

_BIGINT_MIN: Final = -(2**63)
_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_LIVE: Final = frozenset({State.PENDING, State.SCHEDULED, State.RUNNING})
_ANSWERS_KEPT_US: Final = 24 * HOUR
_DAYS_AHEAD: Final = 7
_HEALTH_S: Final = 1.5
"""Who asks for health waits two seconds, and should hear why a connection cannot be had."""
_BEFORE_FIRST: Final = (_BIGINT_MIN, _FIRST_ID)


class PostgresStore(
    PostgresArtifacts,
    PostgresAdmission,
    PostgresCommits,
    PostgresCredentials,
    PostgresFeeds,
    PostgresLetters,
    PostgresRuns,
    PostgresWebhooks,
):
    """`jobengine.store.port.Store` over three pools; `open_postgres_store` makes them.

    `tenants` connects as jobengine_api, `shards` and `commits` as jobengine_ledger;
    `rows_per_page_max` bounds the rows that one page of `job_list` looks at.
    """

    def __init__(
        self, tenants: Pool, shards: Pool, commits: Pool, *, rows_per_page_max: int = 2_000
    ) -> None:
        self._tenants = tenants
        self._shares = ReadShares(tenants.size_max, tenants.acquire_timeout_s)
        self._shards = shards
        self._commits = commits
        self._rows_per_page_max = rows_per_page_max
        self._statements: Mapping[str, Statement] = load_statements()
        self._lines = Lines(commits, [self._statements[name] for name in COMMITS])
        self._definitions = StoredDefinitions()
        self._tenant_set = self._statements["tenant_set"]

    async def heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        return to_heads(await self._fetch("ledger_heads", tenant_ids=list(tenant_ids)))

    async def leased(self, shard: int) -> Sequence[LeasedJob]:
        rows = await self._fetch("leased", shard=shard)
        return [
            LeasedJob(to_job(job), worker_id, task_runner_id, granted_at)
            for worker_id, task_runner_id, granted_at, *job in rows
        ]

    async def lanes(self, shard: int, now_at: int) -> Sequence[Lane]:
        rows = await self._fetch("lanes", shard=shard, now_at=now_at)
        return [Lane(*row) for row in rows]

    async def ready(
        self, lane: Lane, after: tuple[int, str] | None, now_at: int, jobs_max: int, bytes_max: int
    ) -> Sequence[Ranked]:
        after_rank, after_id = after or _BEFORE_FIRST
        rows = await self._fetch(
            "ready",
            tenant_id=lane.tenant_id,
            queue=lane.queue,
            job_type=lane.job_type,
            source_id=lane.source_id,
            after_rank=after_rank,
            after_id=after_id,
            now_at=now_at,
            jobs_max=jobs_max,
            bytes_max=bytes_max,
        )
        return [Ranked(rank, to_job(job, self._definitions)) for rank, *job in rows]

    async def delayed(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[Ranked]:
        after_at, after_id = after or _BEFORE_FIRST
        rows = await self._fetch(
            "delayed", shard=shard, after_at=after_at, after_id=after_id, jobs_max=jobs_max
        )
        return [Ranked(rank, to_job(job)) for rank, *job in rows]

    async def expiring(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[DueJob]:
        after_at, after_id = after or _BEFORE_FIRST
        rows = await self._fetch(
            "expiring", shard=shard, after_at=after_at, after_id=after_id, jobs_max=jobs_max
        )
        return [DueJob(*row) for row in rows]

    async def jobs(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[Job]:
        wanted = list(dict.fromkeys(job_ids_of(job_ids)))
        rows = await self._fetch_of(tenant_id, "jobs_by_id", job_ids=wanted)
        return [to_job(row) for row in rows]

    async def job_list(
        self, tenant_id: str, wanted: JobFilter, after: str | None, jobs_max: int
    ) -> JobPage:
        live = bool(wanted.states) and wanted.states <= _LIVE
        rows_max = max(self._rows_per_page_max, jobs_max)
        name, value = wanted.label or (None, None)
        rows = await self._fetch_of(
            tenant_id,
            "job_list_live" if live else "job_list",
            before_id=after or _LAST_ID,
            rows_max=rows_max,
            jobs_max=jobs_max,
            states=sorted(wanted.states) or None,
            job_type=wanted.job_type,
            queue=wanted.queue,
            run_id=wanted.run_id,
            source_id=wanted.source_id,
            project_id=wanted.project_id,
            label_name=name,
            label_value=value,
            created_from_at=wanted.created_from_at,
            created_before_at=wanted.created_before_at,
        )
        looked_at, last_id = rows[0][:2]
        jobs = [to_job(job) for _, _, *job in rows if job[0] is not None]
        if len(jobs) == jobs_max:
            return JobPage(jobs, jobs[-1].job_id)
        return JobPage(jobs, last_id if looked_at == rows_max else None)

    async def job_counts(self, tenant_id: str) -> dict[State, int]:
        rows = await self._fetch_of(tenant_id, "job_counts")
        counts = dict.fromkeys((State.PENDING, State.SCHEDULED, State.RUNNING), 0)
        return counts | {State(state): count for state, count in rows}

    async def oldest_due(self, tenant_id: str) -> int | None:
        [(due_at,)] = await self._fetch_of(tenant_id, "oldest_due")
        return None if due_at is None else int(due_at)

    async def claims(
        self,
        tenant_id: str,
        unique_keys: Sequence[str],
        idempotency: Sequence[tuple[str, str]],
        now_at: int,
    ) -> Claims:
        claims = Claims({}, {})
        if unique_keys:
            keys = list(dict.fromkeys(unique_keys))
            rows = await self._fetch_of(tenant_id, "key_holders", keys=keys, now_at=now_at)
            claims.holders.update((key, to_job(job)) for key, *job in rows)
        if idempotency:
            pairs = list(dict.fromkeys(idempotency))
            rows = await self._fetch_of(
                tenant_id,
                "idempotency_answers",
                keys=[key for key, _ in pairs],
                paths=[path for _, path in pairs],
                since_at=now_at - _ANSWERS_KEPT_US,
            )
            claims.answers.update(((row[0], row[1]), to_answer(tenant_id, row)) for row in rows)
        return claims

    async def entries(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[Entry]:
        wanted = set(seqs)
        rows = await self._fetch_of(tenant_id, "ledger_blocks_holding", seqs=sorted(wanted))
        blocks = [to_block(tenant_id, row) for row in rows]
        entries = (entry for block in blocks for entry in decode_entries(block.body))
        return [entry for entry in entries if entry.seq in wanted]

    async def blocks(
        self, tenant_id: str, after_seq: int, blocks_max: int, bytes_max: int
    ) -> Sequence[Block]:
        rows = await self._fetch_of(
            tenant_id,
            "ledger_blocks_after",
            after_seq=after_seq,
            blocks_max=blocks_max,
            bytes_max=bytes_max,
        )
        return [to_block(tenant_id, row) for row in rows]

    async def artifacts(self, tenant_id: str, job_id: str) -> Sequence[ArtifactRow]:
        if not job_ids_of([job_id]):
            return []
        rows = await self._fetch_of(tenant_id, "artifacts_of_job", job_id=job_id)
        return [to_artifact(tenant_id, job_id, row) for row in rows]

    async def logs(
        self,
        tenant_id: str,
        job_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        return await self._logs(tenant_id, "logs_of_job", job_id, after, rows_max, bytes_max)

    async def logs_back(
        self,
        tenant_id: str,
        job_id: str,
        before: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        return await self._logs(tenant_id, "logs_of_job_back", job_id, before, rows_max, bytes_max)

    async def _logs(
        self,
        tenant_id: str,
        statement: str,
        job_id: str,
        place: int,
        rows_max: int,
        bytes_max: int,
    ) -> Sequence[tuple[int, LogLines]]:
        if not job_ids_of([job_id]):
            return []
        rows = await self._fetch_of(
            tenant_id,
            statement,
            job_id=job_id,
            place=place,
            rows_max=rows_max,
            bytes_max=bytes_max,
        )
        return [
            (position, LogLines(attempt=attempt, at=at, lines=lines))
            for position, attempt, at, lines in rows
        ]

    async def prepare(self, now_at: int) -> None:
        await self._fetch("add_day_partitions", now_at=now_at, days_ahead=_DAYS_AHEAD)

    async def drop_over(self, now_at: int) -> None:
        await self._fetch("drop_revocations", before_at=now_at)
        # Where somebody reads the table, the days are dropped at the next call; `claims` does not
        # give out what is too old anyway.
        with suppress(TransactionConflictError):
            await self._fetch("drop_idempotency_partitions", before_at=now_at - _ANSWERS_KEPT_US)

    async def drop_logs(self, before_at: int) -> None:
        with suppress(TransactionConflictError):
            await self._fetch("drop_log_partitions", before_at=before_at)

    async def health(self) -> StoreHealth:
        """Never raises `StoreUnavailableError`: that is what it tells of."""
        try:
            async with self._shards.connection(timeout_s=_HEALTH_S) as connection:
                migrations = await status(connection)
                version = connection.server_version
        except StoreUnavailableError as error:
            return StoreHealth(ready=False, server_version="", schema_version=0, detail=str(error))
        odd = [each for each in migrations if each.state != "applied"]
        applied = [each.number for each in migrations if each.applied_at is not None]
        return StoreHealth(
            ready=not odd,
            server_version=f"{version // 10_000}.{version % 10_000}",
            schema_version=max(applied, default=0),
            detail="; ".join(f"migration {each.number:04} is {each.state}" for each in odd),
        )

    async def _fetch(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Across tenants."""
        async with self._shards.connection() as connection:
            return await connection.fetch(self._statements[name], parameters)

    async def _fetch_of(
        self, tenant_id: str, name: str, **parameters: Any
    ) -> list[tuple[Any, ...]]:
        """I3: of one tenant, which the statement names as well."""
        parameters["tenant_id"] = tenant_id
        async with self._shares.of(tenant_id), self._tenants.connection() as connection:
            return await connection.fetch_after(
                self._tenant_set, (tenant_id,), self._statements[name], parameters
            )
