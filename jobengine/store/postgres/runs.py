"""Runs, their nodes and registered documents on PostgreSQL, read as they stand.

Not here: their changes, which are part of a commit (``encode``).
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec

from jobengine.domain.change import ArtifactRow, LogRow, RegistryRow
from jobengine.domain.entry import NO_DATA
from jobengine.domain.run import RollUp, RunState
from jobengine.domain.run_part import RunPart, decode_part
from jobengine.domain.run_record import NodeRecord, PackOrigin, RunRecord
from jobengine.store.log_pages import LOG_BYTES_MAX
from jobengine.store.postgres.fetching import Rows
from jobengine.store.postgres.rows import job_ids_of, to_artifact
from jobengine.store.runs import RunFilter

__all__ = ["PostgresRuns"]

_BIGINT_MIN: Final = -(2**63)
_BIGINT_MAX: Final = 2**63 - 1
_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_roll_up: Final = msgspec.json.Decoder(RollUp).decode
_pack: Final = msgspec.json.Decoder(PackOrigin).decode


class _About(msgspec.Struct, kw_only=True, rename="camel", gc=False):
    """What a node tells of its definition."""

    payload_digest: str
    node_key: str = ""


_about: Final = msgspec.json.Decoder(_About).decode


class PostgresRuns(Rows, Protocol):
    """`jobengine.store.runs.RunStore`, for a store that can fetch."""

    async def run(self, tenant_id: str, run_id: str) -> RunRecord | None:
        if not job_ids_of([run_id]):
            return None
        rows = await self._fetch_of(tenant_id, "run_by_id", run_id=run_id)
        return _to_run(rows[0]) if rows else None

    async def run_by_token(self, tenant_id: str, run_token: str) -> RunRecord | None:
        rows = await self._fetch_of(tenant_id, "run_by_token", run_token=run_token)
        return _to_run(rows[0]) if rows else None

    async def run_list(
        self, tenant_id: str, wanted: RunFilter, after: tuple[int, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        before_at, before_id = after or (_BIGINT_MAX, _LAST_ID)
        rows = await self._fetch_of(
            tenant_id,
            "run_list",
            before_at=before_at,
            before_id=before_id,
            runs_max=runs_max,
            states=sorted(wanted.states) or None,
            dag_id=wanted.dag_id,
            project_id=wanted.project_id,
            pack_id=wanted.pack_id,
            packs=wanted.packs,
            created_from_at=_given(wanted.created_from_at, _BIGINT_MIN),
            created_before_at=_given(wanted.created_before_at, _BIGINT_MAX),
        )
        return [_to_run(row) for row in rows]

    async def run_export(
        self,
        tenant_id: str,
        from_at: int,
        before_at: int,
        after: tuple[int, str] | None,
        runs_max: int,
    ) -> Sequence[RunRecord]:
        after_at, after_id = after or (_BIGINT_MIN, _FIRST_ID)
        rows = await self._fetch_of(
            tenant_id,
            "run_export",
            from_at=from_at,
            before_at=before_at,
            after_at=after_at,
            after_id=after_id,
            runs_max=runs_max,
        )
        return [_to_run(row) for row in rows]

    async def runs_live(
        self, shard: int, after: tuple[str, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        after_tenant, after_id = after or ("", _FIRST_ID)
        rows = await self._fetch(
            "runs_live",
            shard=shard,
            after_tenant=after_tenant,
            after_id=after_id,
            runs_max=runs_max,
        )
        return [_to_run(row) for row in rows]

    async def run_parts(self, tenant_id: str, run_id: str) -> Sequence[RunPart]:
        if not job_ids_of([run_id]):
            return []
        rows = await self._fetch_of(tenant_id, "parts_of_run", run_id=run_id)
        return [decode_part(body) for (body,) in rows]

    async def run_nodes(
        self, tenant_id: str, run_id: str, after: str | None, nodes_max: int
    ) -> Sequence[NodeRecord]:
        rows = await self._fetch_of(
            tenant_id,
            "nodes_of_run",
            run_id=run_id,
            after_id=after or _FIRST_ID,
            nodes_max=nodes_max,
        )
        return _to_nodes(rows)

    async def node_records(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[NodeRecord]:
        wanted = list(dict.fromkeys(job_ids_of(job_ids)))
        rows = await self._fetch_of(tenant_id, "nodes_by_id", job_ids=wanted)
        return _to_nodes(rows)

    async def run_logs(
        self,
        tenant_id: str,
        run_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogRow]]:
        if not job_ids_of([run_id]):
            return []
        rows = await self._fetch_of(
            tenant_id,
            "logs_of_run",
            run_id=run_id,
            after=after,
            rows_max=rows_max,
            bytes_max=bytes_max,
        )
        return [
            (
                position,
                LogRow(
                    tenant_id=tenant_id,
                    job_id=job_id,
                    attempt=attempt,
                    at=at,
                    lines=msgspec.Raw(lines),
                ),
            )
            for position, job_id, attempt, at, lines in rows
        ]

    async def run_artifacts(
        self, tenant_id: str, run_id: str, after: tuple[str, int, str] | None, rows_max: int
    ) -> Sequence[tuple[str, ArtifactRow]]:
        after_key, after_attempt, after_name = after or ("", -1, "")
        rows = await self._fetch_of(
            tenant_id,
            "artifacts_of_run",
            run_id=run_id,
            after_key=after_key,
            after_attempt=after_attempt,
            after_name=after_name,
            rows_max=rows_max,
        )
        return [(key, to_artifact(tenant_id, job_id, row)) for key, job_id, *row in rows]

    async def typical_durations(self, tenant_id: str, jobs_max: int) -> Mapping[str, int]:
        return dict(await self._fetch_of(tenant_id, "typical_durations", jobs_max=jobs_max))

    async def registered(
        self, tenant_id: str, kind: str, name: str, version: int | None
    ) -> RegistryRow | None:
        rows = await self._fetch_of(
            tenant_id, "document_by_name", kind=kind, document_name=name, version=version
        )
        return _to_document(*rows[0]) if rows else None

    async def registered_digest(self, tenant_id: str, kind: str, digest: str) -> RegistryRow | None:
        rows = await self._fetch_of(tenant_id, "document_by_digest", kind=kind, digest=digest)
        return _to_document(*rows[0]) if rows else None

    async def registry_list(
        self,
        tenant_id: str,
        kind: str,
        name: str | None,
        after: tuple[str, int] | None,
        rows_max: int,
    ) -> Sequence[RegistryRow]:
        after_name, after_version = after or ("", 0)
        if name is None:
            rows = await self._fetch_of(
                tenant_id,
                "document_list",
                kind=kind,
                after_name=after_name,
                after_version=after_version,
                rows_max=rows_max,
            )
        elif after is not None and after_name > name:
            return []
        else:
            rows = await self._fetch_of(
                tenant_id,
                "document_versions",
                kind=kind,
                document_name=name,
                after_version=after_version if after_name == name else 0,
                rows_max=rows_max,
            )
        return [_to_document(*row) for row in rows]


def _given(at: int | None, else_at: int) -> int:
    return else_at if at is None else at


def _to_run(row: Sequence[Any]) -> RunRecord:
    (
        tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
        cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs,
        inputs_hash, traceparent, correlation_id, replay_of, parent_run, parent_key, pack,
    ) = row  # fmt: skip
    return RunRecord(
        tenant_id=tenant_id,
        run_id=run_id,
        run_token=run_token,
        state=RunState(state),
        nodes=nodes,
        created_at=created_at,
        created_by=created_by,
        started_at=started_at,
        finished_at=finished_at,
        cancel_requested_at=cancel_requested_at,
        rolled=None if rolled is None else _roll_up(rolled),
        project_id=project_id,
        dag_id=dag_id,
        dag_version=dag_version,
        fail_fast=fail_fast,
        inputs=inputs,
        inputs_hash=inputs_hash,
        traceparent=traceparent,
        correlation_id=correlation_id,
        replay_of=replay_of,
        parent_run=parent_run,
        parent_key=parent_key,
        pack=None if pack is None else _pack(pack),
    )


def _to_nodes(rows: Iterable[Sequence[Any]]) -> list[NodeRecord]:
    """Made by the thousand, so they are made in C: by the order of their fields."""
    return [msgspec.convert(_node_fields(*row), NodeRecord) for row in rows]


def _node_fields(
    job_id: str,
    definition: bytes,
    job_type: str,
    queue: str,
    state: str,
    reason: str | None,
    attempt: int,
    failures: int,
    created_at: int,
    due_at: int,
    scheduled_at: int | None,
    started_at: int | None,
    finished_at: int | None,
    cancel_requested_at: int | None,
    result: bytes | None,
    result_digest: str | None,
    *others: Any,
) -> tuple[Any, ...]:
    about = _about(definition)
    if result is not None:
        result_digest = sha256(result).hexdigest()
    return (
        job_id, about.node_key, job_type, queue, state, reason, attempt, failures, created_at,
        due_at, scheduled_at, started_at, finished_at, cancel_requested_at, about.payload_digest,
        result_digest, *others,
    )  # fmt: skip


def _to_document(
    tenant_id: str,
    kind: str,
    name: str,
    version: int,
    digest: str,
    created_at: int,
    created_by: str,
    disabled_at: int | None,
    body: bytes | None = None,
) -> RegistryRow:
    return RegistryRow(
        tenant_id=tenant_id,
        kind=kind,
        name=name,
        version=version,
        digest=digest,
        body=NO_DATA if body is None else msgspec.Raw(body),
        created_at=created_at,
        created_by=created_by,
        disabled_at=disabled_at,
    )
