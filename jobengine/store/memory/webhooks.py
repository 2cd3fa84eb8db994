"""Webhooks in memory: what the database is held against."""

from collections.abc import Sequence

import trio

from jobengine.domain.webhook import Webhook
from jobengine.store.memory.tables import Tables

__all__ = ["MemoryWebhooks"]


class MemoryWebhooks:
    """`jobengine.store.webhooks.WebhookStore` over the tables of a memory store."""

    _tables: Tables

    async def webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None:
        await trio.lowlevel.checkpoint()
        return self._tables.webhooks.get((tenant_id, webhook_id))

    async def webhook_list(
        self, tenant_id: str, after: str | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        await trio.lowlevel.checkpoint()
        found = [
            webhook
            for (tenant, webhook_id), webhook in self._tables.webhooks.items()
            if tenant == tenant_id and (after is None or webhook_id < after)
        ]
        found.sort(key=lambda webhook: webhook.webhook_id, reverse=True)
        return found[:webhooks_max]

    async def webhooks_of_all(
        self, after: tuple[str, str] | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        await trio.lowlevel.checkpoint()
        found = sorted(item for item in self._tables.webhooks if after is None or item > after)
        return [self._tables.webhooks[key] for key in found[:webhooks_max]]
