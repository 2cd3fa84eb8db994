"""API keys and revoked tokens in memory: what the database is held against."""

from collections.abc import Mapping, Sequence

import msgspec
import trio

from jobengine.domain.change import ApiKeyRow, RevocationRow
from jobengine.store.memory.tables import Tables

__all__ = ["MemoryCredentials"]


class MemoryCredentials:
    """The credentials of `jobengine.store.port.Store`, over the tables of a memory store."""

    _tables: Tables

    async def api_keys(
        self, tenant_id: str, after: tuple[int, str] | None, keys_max: int
    ) -> Sequence[ApiKeyRow]:
        await trio.lowlevel.checkpoint()
        rows = [
            row
            for (tenant, _, _), (_, row) in self._tables.credentials.items()
            if tenant == tenant_id and isinstance(row, ApiKeyRow)
            if after is None or (row.created_at, row.prefix) < after
        ]
        rows.sort(key=lambda row: (row.created_at, row.prefix), reverse=True)
        return [msgspec.structs.replace(row) for row in rows[:keys_max]]

    async def api_key(self, tenant_id: str, prefix: str) -> ApiKeyRow | None:
        await trio.lowlevel.checkpoint()
        _, row = self._tables.credentials.get((tenant_id, "key", prefix), (0, None))
        return msgspec.structs.replace(row) if isinstance(row, ApiKeyRow) else None

    async def credentials(
        self, after: int, rows_max: int
    ) -> Sequence[tuple[int, ApiKeyRow | RevocationRow]]:
        await trio.lowlevel.checkpoint()
        changed = [item for item in self._tables.credentials.values() if item[0] > after]
        changed.sort(key=lambda item: item[0])
        return [(place, msgspec.structs.replace(row)) for place, row in changed[:rows_max]]

    async def note_key_uses(self, uses: Mapping[tuple[str, str], int]) -> None:
        await trio.lowlevel.checkpoint()
        for (tenant_id, prefix), day_at in uses.items():
            _, row = self._tables.credentials.get((tenant_id, "key", prefix), (0, None))
            if isinstance(row, ApiKeyRow):
                row.last_used_day_at = max(row.last_used_day_at or 0, day_at)
