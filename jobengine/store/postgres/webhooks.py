"""Webhooks on PostgreSQL, read as they stand.

Not here: their changes, which are part of a commit (``encode``), and their cursors (``feeds``).
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from jobengine.domain.webhook import Webhook, WebhookState, Wrapping
from jobengine.store.postgres.fetching import Rows

__all__ = ["PostgresWebhooks"]

_LAST_TEXT: Final = "\U0010ffff"


class PostgresWebhooks(Rows, Protocol):
    """`jobengine.store.webhooks.WebhookStore`, for a store that can fetch."""

    async def webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None:
        rows = await self._fetch_of(tenant_id, "webhook_by_id", webhook_id=webhook_id)
        return _to_webhook(rows[0]) if rows else None

    async def webhook_list(
        self, tenant_id: str, after: str | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        rows = await self._fetch_of(
            tenant_id, "webhook_list", before_id=after or _LAST_TEXT, webhooks_max=webhooks_max
        )
        return [_to_webhook(row) for row in rows]

    async def webhooks_of_all(
        self, after: tuple[str, str] | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        after_tenant, after_id = after or ("", "")
        rows = await self._fetch(
            "webhooks_of_all",
            after_tenant=after_tenant,
            after_id=after_id,
            webhooks_max=webhooks_max,
        )
        return [_to_webhook(row) for row in rows]


def _to_webhook(row: Sequence[Any]) -> Webhook:
    (
        tenant_id, webhook_id, url, types, description, wrapping, secret, state, reason,
        begins_after_seq, created_at, created_by, changed_at, revision,
    ) = row  # fmt: skip
    return Webhook(
        tenant_id=tenant_id,
        webhook_id=webhook_id,
        url=url,
        types=tuple(types),
        description=description,
        wrapping=Wrapping(wrapping),
        secret=bytes(secret),
        state=WebhookState(state),
        reason=reason,
        begins_after_seq=begins_after_seq,
        created_at=created_at,
        created_by=created_by,
        changed_at=changed_at,
        revision=revision,
    )
