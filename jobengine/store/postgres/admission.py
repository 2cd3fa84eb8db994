"""Controls, states of gates, backlogs and places in a lane on PostgreSQL."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import ControlKind
from jobengine.domain.records import Lane
from jobengine.store.postgres.fetching import Rows

__all__ = ["PostgresAdmission"]


class PostgresAdmission(Rows, Protocol):
    """`jobengine.store.admission.AdmissionStore`, for a store that can fetch."""

    async def controls(self, shard: int) -> Sequence[ControlRow]:
        return [_to_control(row) for row in await self._fetch("controls_of_shard", shard=shard)]

    async def gate_states(self, shard: int) -> Sequence[GateStateRow]:
        rows = await self._fetch("gate_states_of_shard", shard=shard)
        return [
            GateStateRow(tenant_id=tenant_id, shard=shard, name=name, body=msgspec.Raw(body))
            for tenant_id, shard, name, body in rows
        ]

    async def backlogs(self, shard: int) -> dict[str, int]:
        return dict(await self._fetch("backlogs_of_shard", shard=shard))

    async def control_list(
        self, tenant_id: str, kind: ControlKind, after: str, controls_max: int
    ) -> Sequence[ControlRow]:
        rows = await self._fetch_of(
            tenant_id, "control_list", kind=kind, after_name=after, controls_max=controls_max
        )
        return [_to_control(row) for row in rows]

    async def control(self, tenant_id: str, kind: ControlKind, name: str) -> ControlRow | None:
        rows = await self._fetch_of(tenant_id, "control_by_name", kind=kind, control_name=name)
        return _to_control(rows[0]) if rows else None

    async def jobs_ahead(self, lane: Lane, key: tuple[int, str], now_at: int, jobs_max: int) -> int:
        rows = await self._fetch_of(
            lane.tenant_id,
            "jobs_ahead",
            queue=lane.queue,
            job_type=lane.job_type,
            source_id=lane.source_id,
            before_rank=key[0],
            before_id=key[1],
            now_at=now_at,
            jobs_max=jobs_max,
        )
        return int(rows[0][0])


def _to_control(row: Sequence[Any]) -> ControlRow:
    tenant_id, shard, kind, name, body, revision, changed_at = row
    return ControlRow(
        tenant_id=tenant_id,
        shard=shard,
        kind=kind,
        name=name,
        body=msgspec.Raw(body),
        revision=revision,
        at=changed_at,
    )
