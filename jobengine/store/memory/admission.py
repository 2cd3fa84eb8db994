"""Controls and states of gates in memory: what the database is held against."""

from collections.abc import Sequence

import msgspec
import trio

from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import ControlKind
from jobengine.domain.records import Lane
from jobengine.store.memory.tables import Tables

__all__ = ["MemoryAdmission"]


class MemoryAdmission:
    """`jobengine.store.admission.AdmissionStore` over the tables of a memory store."""

    _tables: Tables

    async def controls(self, shard: int) -> Sequence[ControlRow]:
        await trio.lowlevel.checkpoint()
        rows = sorted(self._tables.controls.items(), key=lambda item: item[0])
        return [msgspec.structs.replace(row) for _, row in rows if row.shard == shard]

    async def gate_states(self, shard: int) -> Sequence[GateStateRow]:
        await trio.lowlevel.checkpoint()
        rows = sorted(self._tables.gate_states.items(), key=lambda item: item[0])
        return [msgspec.structs.replace(row) for _, row in rows if row.shard == shard]

    async def backlogs(self, shard: int) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return self._tables.backlog.counts(shard)

    async def control_list(
        self, tenant_id: str, kind: ControlKind, after: str, controls_max: int
    ) -> Sequence[ControlRow]:
        await trio.lowlevel.checkpoint()
        rows = [
            row
            for (tenant, found, name), row in self._tables.controls.items()
            if (tenant, found) == (tenant_id, kind) and name > after
        ]
        rows.sort(key=lambda row: row.name)
        return [msgspec.structs.replace(row) for row in rows[:controls_max]]

    async def control(self, tenant_id: str, kind: ControlKind, name: str) -> ControlRow | None:
        await trio.lowlevel.checkpoint()
        row = self._tables.controls.get((tenant_id, kind, name))
        return None if row is None else msgspec.structs.replace(row)

    async def jobs_ahead(self, lane: Lane, key: tuple[int, str], now_at: int, jobs_max: int) -> int:
        await trio.lowlevel.checkpoint()
        return self._tables.backlog.ahead(lane, key, now_at, jobs_max)
