"""What the engine asks of its store about webhooks. They are written by `commit`, like all else."""

from collections.abc import Sequence
from typing import Protocol

from jobengine.domain.webhook import Webhook

__all__ = ["WebhookStore"]


class WebhookStore(Protocol):
    async def webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None: ...

    async def webhook_list(
        self, tenant_id: str, after: str | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        """A tenant's webhooks newest first, by id descending."""

    async def webhooks_of_all(
        self, after: tuple[str, str] | None, webhooks_max: int
    ) -> Sequence[Webhook]:
        """Webhooks of every tenant, paused ones too, after (tenant, id), in that order."""
