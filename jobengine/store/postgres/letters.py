"""Dead letters and redrives on PostgreSQL, read as they stand.

Not here: their changes, which are part of a commit (``encode``), and what a redrive does next.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from jobengine.domain.change import DeadLetterRow, DeadLetterState
from jobengine.domain.redrive import Redrive
from jobengine.store.port import DeadLetterFilter, LetterGroups
from jobengine.store.postgres.fetching import Rows
from jobengine.store.postgres.rows import to_dead_letter, to_letter_groups, to_redrive

__all__ = ["PostgresLetters"]

_BIGINT_MAX: Final = 2**63 - 1
_LAST_TEXT: Final = "\U0010ffff"


class PostgresLetters(Rows, Protocol):
    """Dead letters and redrives of `jobengine.store.port.Store`, for a store that can fetch."""

    async def dead_letters(
        self,
        tenant_id: str,
        wanted: DeadLetterFilter,
        after: tuple[int, str] | None,
        letters_max: int,
    ) -> Sequence[DeadLetterRow]:
        before_at, before_id = after or (_BIGINT_MAX, _LAST_TEXT)
        parameters: dict[str, Any] = {
            "before_at": before_at,
            "before_id": before_id,
            "letters_max": letters_max,
            "job_type": wanted.job_type,
            "queue": wanted.queue,
            "class": wanted.class_,
            "signature": wanted.signature,
        }
        if wanted.states == {DeadLetterState.OPEN}:
            rows = await self._fetch_of(tenant_id, "dead_letter_list_open", **parameters)
        else:
            parameters["states"] = sorted(wanted.states) or None
            rows = await self._fetch_of(tenant_id, "dead_letter_list", **parameters)
        return [to_dead_letter(row) for row in rows]

    async def dead_letter(self, tenant_id: str, dead_letter_id: str) -> DeadLetterRow | None:
        rows = await self._fetch_of(tenant_id, "dead_letter_by_id", dead_letter_id=dead_letter_id)
        return to_dead_letter(rows[0]) if rows else None

    async def dead_letter_groups(
        self, tenant_id: str, wanted: DeadLetterFilter, letters_max: int, groups_max: int
    ) -> LetterGroups:
        parameters: dict[str, Any] = {
            "letters_max": letters_max,
            "groups_max": groups_max,
            "job_type": wanted.job_type,
            "queue": wanted.queue,
            "class": wanted.class_,
            "signature": wanted.signature,
        }
        name = "dead_letter_groups_open"
        if wanted.states != {DeadLetterState.OPEN}:
            name = "dead_letter_groups"
            parameters["states"] = sorted(wanted.states) or None
        return to_letter_groups(await self._fetch_of(tenant_id, name, **parameters))

    async def redrives(
        self, tenant_id: str, after: str | None, redrives_max: int
    ) -> Sequence[Redrive]:
        rows = await self._fetch_of(
            tenant_id, "redrive_list", before_id=after or _LAST_TEXT, redrives_max=redrives_max
        )
        return [to_redrive(row) for row in rows]

    async def redrive(self, tenant_id: str, redrive_id: str) -> Redrive | None:
        rows = await self._fetch_of(tenant_id, "redrive_by_id", redrive_id=redrive_id)
        return to_redrive(rows[0]) if rows else None

    async def redrives_unfinished(
        self, after: tuple[str, str] | None, redrives_max: int
    ) -> Sequence[Redrive]:
        after_tenant, after_id = after or ("", "")
        rows = await self._fetch(
            "redrives_unfinished",
            after_tenant=after_tenant,
            after_id=after_id,
            redrives_max=redrives_max,
        )
        return [to_redrive(row) for row in rows]
