"""Runs, their nodes and registered documents in memory: what the database is held against."""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from jobengine.domain.change import ArtifactRow, LogRow, RegistryRow
from jobengine.domain.entry import NO_DATA
from jobengine.domain.job import Job, State
from jobengine.domain.run import ENDED
from jobengine.domain.run_part import RunPart, decode_part
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.store.log_pages import LOG_BYTES_MAX, within_bytes
from jobengine.store.memory.tables import Tables
from jobengine.store.port import LogLines
from jobengine.store.runs import RunFilter

__all__ = ["MemoryRuns"]

_decode: Final = msgspec.json.decode


class MemoryRuns:
    """`jobengine.store.runs.RunStore` over the tables of a memory store."""

    _tables: Tables

    async def run(self, tenant_id: str, run_id: str) -> RunRecord | None:
        await trio.lowlevel.checkpoint()
        found = self._tables.planned.runs.get((tenant_id, run_id))
        return None if found is None else found.record

    async def run_by_token(self, tenant_id: str, run_token: str) -> RunRecord | None:
        await trio.lowlevel.checkpoint()
        run_id = self._tables.planned.tokens.get((tenant_id, run_token))
        return None if run_id is None else self._tables.planned.runs[tenant_id, run_id].record

    async def run_list(
        self, tenant_id: str, wanted: RunFilter, after: tuple[int, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        await trio.lowlevel.checkpoint()
        found = [
            run
            for run in self._runs_of(tenant_id)
            if _matches(run, wanted)
            if after is None or (run.created_at, run.run_id) < after
        ]
        found.sort(key=lambda run: (run.created_at, run.run_id), reverse=True)
        return found[:runs_max]

    async def run_export(
        self,
        tenant_id: str,
        from_at: int,
        before_at: int,
        after: tuple[int, str] | None,
        runs_max: int,
    ) -> Sequence[RunRecord]:
        await trio.lowlevel.checkpoint()
        ended = [(_at(run), run) for run in self._runs_of(tenant_id) if run.state in ENDED]
        found = [
            (at, run.run_id, run)
            for at, run in ended
            if from_at <= at < before_at and (after is None or (at, run.run_id) > after)
        ]
        found.sort(key=lambda each: each[:2])
        return [run for _, _, run in found[:runs_max]]

    async def runs_live(
        self, shard: int, after: tuple[str, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        await trio.lowlevel.checkpoint()
        found = sorted(
            key
            for key, run in self._tables.planned.runs.items()
            if run.shard == shard and run.record.state not in ENDED
            if after is None or key > after
        )
        return [self._tables.planned.runs[key].record for key in found[:runs_max]]

    async def run_parts(self, tenant_id: str, run_id: str) -> Sequence[RunPart]:
        await trio.lowlevel.checkpoint()
        parts = self._tables.planned.parts.get((tenant_id, run_id), ())
        return [decode_part(body) for body in parts]

    async def run_nodes(
        self, tenant_id: str, run_id: str, after: str | None, nodes_max: int
    ) -> Sequence[NodeRecord]:
        await trio.lowlevel.checkpoint()
        job_ids = self._tables.run_jobs.get((tenant_id, run_id), [])
        start = 0 if after is None else bisect_right(job_ids, after)
        page = job_ids[start : start + nodes_max]
        return [_to_node(self._tables.jobs[tenant_id, job_id]) for job_id in page]

    async def node_records(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[NodeRecord]:
        await trio.lowlevel.checkpoint()
        known = self._tables.jobs
        return [
            _to_node(known[tenant_id, job_id])
            for job_id in sorted(set(job_ids))
            if (tenant_id, job_id) in known
        ]

    async def run_logs(
        self,
        tenant_id: str,
        run_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogRow]]:
        await trio.lowlevel.checkpoint()
        found = []
        for job_id in self._tables.run_jobs.get((tenant_id, run_id), []):
            for position, row in self._tables.logs.get((tenant_id, job_id), []):
                if position > after:
                    found.append((position, _to_log(tenant_id, job_id, row)))
        found.sort(key=lambda each: each[0])
        return within_bytes(found[:rows_max], bytes_max)

    async def run_artifacts(
        self, tenant_id: str, run_id: str, after: tuple[str, int, str] | None, rows_max: int
    ) -> Sequence[tuple[str, ArtifactRow]]:
        await trio.lowlevel.checkpoint()
        found = []
        for row in self._tables.artifacts.values():
            job = self._tables.jobs.get((tenant_id, row.job_id))
            if row.tenant_id != tenant_id or job is None or job.definition.run_id != run_id:
                continue
            place = (job.definition.node_key or "", row.attempt, row.name)
            if after is None or place > after:
                found.append((place, msgspec.structs.replace(row)))
        found.sort(key=lambda each: each[0])
        return [(place[0], row) for place, row in found[:rows_max]]

    async def typical_durations(self, tenant_id: str, jobs_max: int) -> Mapping[str, int]:
        await trio.lowlevel.checkpoint()
        job_ids = self._tables.job_ids.get(tenant_id, [])
        took: defaultdict[str, list[int]] = defaultdict(list)
        for job_id in job_ids[max(0, len(job_ids) - jobs_max) :]:
            job = self._tables.jobs[tenant_id, job_id]
            if job.state is State.COMPLETED and None not in (job.started_at, job.finished_at):
                assert job.started_at is not None
                assert job.finished_at is not None
                took[job.definition.job_type].append(job.finished_at - job.started_at)
        return {name: sorted(each)[(len(each) - 1) // 2] for name, each in took.items()}

    async def registered(
        self, tenant_id: str, kind: str, name: str, version: int | None
    ) -> RegistryRow | None:
        await trio.lowlevel.checkpoint()
        versions = [
            row
            for row in self._documents(tenant_id, kind)
            if row.name == name and version in (None, row.version)
        ]
        newest = max(versions, key=lambda row: row.version, default=None)
        return None if newest is None else msgspec.structs.replace(newest)

    async def registered_digest(self, tenant_id: str, kind: str, digest: str) -> RegistryRow | None:
        await trio.lowlevel.checkpoint()
        equal = [row for row in self._documents(tenant_id, kind) if row.digest == digest]
        oldest = min(
            equal, key=lambda row: (row.created_at or 0, row.name, row.version), default=None
        )
        return None if oldest is None else msgspec.structs.replace(oldest)

    async def registry_list(
        self,
        tenant_id: str,
        kind: str,
        name: str | None,
        after: tuple[str, int] | None,
        rows_max: int,
    ) -> Sequence[RegistryRow]:
        await trio.lowlevel.checkpoint()
        found = [
            row
            for row in self._documents(tenant_id, kind)
            if name in (None, row.name) and (after is None or (row.name, row.version) > after)
        ]
        found.sort(key=lambda row: (row.name, row.version))
        return [msgspec.structs.replace(row, body=NO_DATA) for row in found[:rows_max]]

    def _runs_of(self, tenant_id: str) -> Iterable[RunRecord]:
        return (run.record for (of, _), run in self._tables.planned.runs.items() if of == tenant_id)

    def _documents(self, tenant_id: str, kind: str) -> Iterable[RegistryRow]:
        return (
            row
            for (of, found, *_), row in self._tables.planned.registry.items()
            if (of, found) == (tenant_id, kind)
        )


def _at(run: RunRecord) -> int:
    """The instant that an ended run is exported under."""
    at = run.finished_at if run.started_at is None else run.started_at
    assert at is not None
    return at


def _matches(run: RunRecord, wanted: RunFilter) -> bool:
    pack_id = None if run.pack is None else run.pack.pack_id
    return (
        (not wanted.states or run.state in wanted.states)
        and wanted.dag_id in (None, run.dag_id)
        and wanted.project_id in (None, run.project_id)
        and wanted.pack_id in (None, pack_id)
        and (not wanted.packs or run.pack is not None)
        and (wanted.created_from_at is None or run.created_at >= wanted.created_from_at)
        and (wanted.created_before_at is None or run.created_at < wanted.created_before_at)
    )


def _to_log(tenant_id: str, job_id: str, row: LogLines) -> LogRow:
    return LogRow(
        tenant_id=tenant_id,
        job_id=job_id,
        attempt=row.attempt,
        at=row.at,
        lines=msgspec.Raw(row.lines),
    )


def _to_node(job: Job) -> NodeRecord:
    error: Any = None if job.error is None else _decode(job.error)
    error = error if isinstance(error, dict) else {}
    retryable = error.get("retryable")
    return NodeRecord(
        job_id=job.job_id,
        node_key=job.definition.node_key or "",
        job_type=job.definition.job_type,
        queue=job.definition.queue,
        state=job.state,
        reason=job.reason,
        attempt=job.attempt,
        failures=job.failures,
        created_at=job.created_at,
        due_at=job.due_at,
        scheduled_at=job.scheduled_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        cancel_requested_at=job.cancel_requested_at,
        payload_digest=job.definition.payload_digest,
        result_digest=None if job.result is None else hashlib.sha256(job.result).hexdigest(),
        error_class=error.get("class"),
        error_retryable=retryable if isinstance(retryable, bool) else None,
        progress=job.progress,
        seqs=tuple(job.seqs),
    )
