"""API keys and revoked tokens on PostgreSQL.

Not here: making, checking and revoking them (``jobengine.auth``, the ledger's commits).
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from jobengine.domain.change import ApiKeyRow, RevocationRow
from jobengine.store.postgres.fetching import Rows
from jobengine.store.postgres.rows import to_api_key, to_credential

__all__ = ["PostgresCredentials"]

_BIGINT_MAX: Final = 2**63 - 1
_LAST_TEXT: Final = "\U0010ffff"


class PostgresCredentials(Rows, Protocol):
    """The credentials of `jobengine.store.port.Store`, for a store that can fetch."""

    async def api_keys(
        self, tenant_id: str, after: tuple[int, str] | None, keys_max: int
    ) -> Sequence[ApiKeyRow]:
        before_at, before_prefix = after or (_BIGINT_MAX, _LAST_TEXT)
        rows = await self._fetch_of(
            tenant_id,
            "api_key_list",
            before_at=before_at,
            before_prefix=before_prefix,
            keys_max=keys_max,
        )
        return [to_api_key(row) for row in rows]

    async def api_key(self, tenant_id: str, prefix: str) -> ApiKeyRow | None:
        rows = await self._fetch_of(tenant_id, "api_key_by_prefix", prefix=prefix)
        return to_api_key(rows[0]) if rows else None

    async def credentials(
        self, after: int, rows_max: int
    ) -> Sequence[tuple[int, ApiKeyRow | RevocationRow]]:
        rows = await self._fetch("credentials_after", after=after, rows_max=rows_max)
        return [(position, to_credential(row)) for position, *row in rows]

    async def note_key_uses(self, uses: Mapping[tuple[str, str], int]) -> None:
        await self._fetch(
            "api_key_uses",
            tenant_ids=[tenant_id for tenant_id, _ in uses],
            prefixes=[prefix for _, prefix in uses],
            days_at=list(uses.values()),
        )
