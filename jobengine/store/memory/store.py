"""The model of a store: what PostgreSQL is held against, and what simulations run on.

Each method is a checkpoint first and then one step, but for ``commit``, which takes its step when
it is called: nothing is ever half done, and two runs of the same calls give the same answers.
Values handed out are the caller's own.

Not here: faults (a wrapper of the port adds them), anything that outlives the process; artifacts,
admission, credentials, feeds, dead letters, runs and webhooks, each in its own module.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Iterable, Sequence
from copy import copy
from itertools import islice
from typing import Final

import msgspec
import trio

from jobengine.domain.change import ArtifactRow, CommitBatch, RevocationRow
from jobengine.domain.entry import Block, Entry, Head, decode_entries
from jobengine.domain.instant import DAY, HOUR
from jobengine.domain.job import Job, State
from jobengine.store.errors import StoreError
from jobengine.store.log_pages import LOG_BYTES_MAX, within_bytes
from jobengine.store.memory.admission import MemoryAdmission
from jobengine.store.memory.artifacts import MemoryArtifacts
from jobengine.store.memory.constraints import refuse_or_none
from jobengine.store.memory.credentials import MemoryCredentials
from jobengine.store.memory.feeds import MemoryFeeds
from jobengine.store.memory.letters import MemoryLetters
from jobengine.store.memory.runs import MemoryRuns
from jobengine.store.memory.tables import Tables
from jobengine.store.memory.webhooks import MemoryWebhooks
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

__all__ = ["MemoryStore"]

_ANSWERS_KEPT_US: Final = 24 * HOUR


class MemoryStore(
    MemoryArtifacts,
    MemoryAdmission,
    MemoryCredentials,
    MemoryFeeds,
    MemoryLetters,
    MemoryRuns,
    MemoryWebhooks,
):
    """`jobengine.store.port.Store` in dictionaries; deterministic."""

    def __init__(self) -> None:
        super().__init__(Tables())

    @property
    def tables(self) -> Tables:
        """What is stored, for those that judge it; whoever changes it has left the model."""
        return self._tables

    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        refusal = refuse_or_none(self._tables, batch)
        if refusal is None:
            self._tables.apply(batch)
        return _answer(refusal)

    async def heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        await trio.lowlevel.checkpoint()
        heads = self._tables.heads
        return {tenant_id: heads[tenant_id] for tenant_id in tenant_ids if tenant_id in heads}

    async def settled_heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        return await self.heads(tenant_ids)

    async def leased(self, shard: int) -> Sequence[LeasedJob]:
        await trio.lowlevel.checkpoint()
        return [
            LeasedJob(self._job(*key), lease.worker_id, lease.task_runner_id, lease.granted_at)
            for key, lease in sorted(self._tables.leases.items(), key=lambda item: item[0])
            if lease.shard == shard
        ]

    async def lanes(self, shard: int, now_at: int) -> Sequence[Lane]:
        await trio.lowlevel.checkpoint()
        return self._tables.backlog.lanes(shard, now_at)

    async def ready(
        self, lane: Lane, after: tuple[int, str] | None, now_at: int, jobs_max: int, bytes_max: int
    ) -> Sequence[Ranked]:
        await trio.lowlevel.checkpoint()
        found: list[Ranked] = []
        size = 0
        for row in islice(self._tables.backlog.ready(lane, after, now_at), jobs_max):
            job = self._job(*row.key)
            size += len(job.payload)
            if found and size > bytes_max:
                break
            found.append(Ranked(row.rank, job))
        return found

    async def delayed(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[Ranked]:
        await trio.lowlevel.checkpoint()
        backlog = self._tables.backlog
        keys = [(due.tenant_id, due.job_id) for due in backlog.delayed(shard, after, jobs_max)]
        return [Ranked(backlog.rows[key].rank, self._job(*key)) for key in keys]

    async def expiring(
        self, shard: int, after: tuple[int, str] | None, jobs_max: int
    ) -> Sequence[DueJob]:
        await trio.lowlevel.checkpoint()
        return [
            DueJob(due.at, due.tenant_id, due.job_id)
            for due in self._tables.backlog.expiring(shard, after, jobs_max)
        ]

    async def jobs(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[Job]:
        await trio.lowlevel.checkpoint()
        known = self._tables.jobs
        return [
            self._job(tenant_id, job_id)
            for job_id in dict.fromkeys(job_ids)
            if (tenant_id, job_id) in known
        ]

    async def job_list(
        self, tenant_id: str, wanted: JobFilter, after: str | None, jobs_max: int
    ) -> JobPage:
        await trio.lowlevel.checkpoint()
        job_ids = self._tables.job_ids.get(tenant_id, [])
        end = len(job_ids) if after is None else bisect_left(job_ids, after)
        matching = (
            job_id
            for job_id in reversed(job_ids[:end])
            if _matches(self._tables.jobs[tenant_id, job_id], wanted)
        )
        jobs = [self._job(tenant_id, job_id) for job_id in islice(matching, jobs_max)]
        return JobPage(jobs, jobs[-1].job_id if len(jobs) == jobs_max else None)

    async def job_counts(self, tenant_id: str) -> dict[State, int]:
        await trio.lowlevel.checkpoint()
        counts = dict.fromkeys((State.PENDING, State.SCHEDULED, State.RUNNING), 0)
        for job_id in self._tables.job_ids.get(tenant_id, []):
            state = self._tables.jobs[tenant_id, job_id].state
            if state in counts:
                counts[state] += 1
        return counts

    async def oldest_due(self, tenant_id: str) -> int | None:
        await trio.lowlevel.checkpoint()
        ids = self._tables.job_ids.get(tenant_id, [])
        jobs = (self._tables.jobs[tenant_id, job_id] for job_id in ids)
        return min((job.due_at for job in jobs if job.state is State.SCHEDULED), default=None)

    async def claims(
        self,
        tenant_id: str,
        unique_keys: Sequence[str],
        idempotency: Sequence[tuple[str, str]],
        now_at: int,
    ) -> Claims:
        await trio.lowlevel.checkpoint()
        claims = Claims({}, {})
        for key in unique_keys:
            held = self._tables.keys.get((tenant_id, key))
            if held is None or (held.until_at is not None and held.until_at <= now_at):
                continue
            if (tenant_id, held.job_id) in self._tables.jobs:
                claims.holders[key] = self._job(tenant_id, held.job_id)
        for key, path in idempotency:
            answers = self._tables.answers.get((tenant_id, key, path), [])
            if answers and answers[-1].at > now_at - _ANSWERS_KEPT_US:
                claims.answers[key, path] = msgspec.structs.replace(answers[-1])
        return claims

    async def entries(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[Entry]:
        await trio.lowlevel.checkpoint()
        blocks = self._tables.blocks.get(tenant_id, [])
        wanted = sorted(set(seqs))
        places = {
            bisect_left(blocks, seq, key=lambda block: block.last_seq): None for seq in wanted
        }
        return [
            entry
            for place in places
            if place < len(blocks)
            for entry in decode_entries(blocks[place].body)
            if entry.seq in wanted
        ]

    async def blocks(
        self, tenant_id: str, after_seq: int, blocks_max: int, bytes_max: int
    ) -> Sequence[Block]:
        await trio.lowlevel.checkpoint()
        blocks = self._tables.blocks.get(tenant_id, [])
        start = bisect_left(blocks, after_seq + 1, key=lambda block: block.last_seq)
        found: list[Block] = []
        size = 0
        for block in blocks[start : start + blocks_max]:
            size += len(block.body)
            if found and size > bytes_max:
                break
            found.append(block)
        return found

    async def artifacts(self, tenant_id: str, job_id: str) -> Sequence[ArtifactRow]:
        await trio.lowlevel.checkpoint()
        rows = [
            msgspec.structs.replace(row)
            for key, row in self._tables.artifacts.items()
            if key[:2] == (tenant_id, job_id)
        ]
        return sorted(rows, key=lambda row: (row.attempt, row.at, row.name))

    async def logs(
        self,
        tenant_id: str,
        job_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        await trio.lowlevel.checkpoint()
        rows = self._tables.logs.get((tenant_id, job_id), [])
        start = bisect_left(rows, after + 1, key=lambda row: row[0])
        return within_bytes(rows[start : start + rows_max], bytes_max)

    async def logs_back(
        self,
        tenant_id: str,
        job_id: str,
        before: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogLines]]:
        await trio.lowlevel.checkpoint()
        rows = self._tables.logs.get((tenant_id, job_id), [])
        end = bisect_left(rows, before, key=lambda row: row[0])
        return within_bytes(rows[max(0, end - rows_max) : end][::-1], bytes_max)

    async def prepare(self, now_at: int) -> None:
        await trio.lowlevel.checkpoint()

    async def drop_over(self, now_at: int) -> None:
        await trio.lowlevel.checkpoint()
        for place, (_, row) in list(self._tables.credentials.items()):
            if isinstance(row, RevocationRow) and row.until_at and row.until_at <= now_at:
                del self._tables.credentials[place]
        answers = self._tables.answers
        for place in list(answers):
            answers[place] = [a for a in answers[place] if a.at > now_at - _ANSWERS_KEPT_US]
            if not answers[place]:
                del answers[place]

    async def drop_logs(self, before_at: int) -> None:
        await trio.lowlevel.checkpoint()
        first_day_at = before_at // DAY * DAY
        logs = self._tables.logs
        for place in list(logs):
            logs[place] = [row for row in logs[place] if row[1].at >= first_day_at]
            if not logs[place]:
                del logs[place]

    async def health(self) -> StoreHealth:
        await trio.lowlevel.checkpoint()
        return StoreHealth(ready=True, server_version="memory", schema_version=0)

    def _job(self, tenant_id: str, job_id: str) -> Job:
        return copy(self._tables.jobs[tenant_id, job_id])


def _matches(job: Job, wanted: JobFilter) -> bool:
    definition = job.definition
    return (
        (not wanted.states or job.state in wanted.states)
        and wanted.job_type in (None, definition.job_type)
        and wanted.queue in (None, definition.queue)
        and wanted.run_id in (None, definition.run_id)
        and wanted.source_id in (None, definition.source_id)
        and wanted.project_id in (None, definition.project_id)
        and (wanted.label is None or definition.labels.get(wanted.label[0]) == wanted.label[1])
        and (wanted.created_from_at is None or job.created_at >= wanted.created_from_at)
        and (wanted.created_before_at is None or job.created_at < wanted.created_before_at)
    )


async def _answer(refusal: StoreError | None) -> None:
    await trio.lowlevel.checkpoint()
    if refusal is not None:
        raise refusal
