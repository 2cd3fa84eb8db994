"""A webhook: a tenant's subscription to its own events, delivered by POST.

I1  A webhook that is paused is delivered nothing; its cursor stays, so that nothing is missed when
    it is resumed, as far as the ledger reaches back.
I2  `revision` grows by one with every change, so that of two versions the later can be told. The
    first version of a webhook, and only that, has 1.

Not here: what is due when (`core/notifier`), what the ledger says of it (`webhook_records`), the
request and its signature (`http/webhook_delivery`).
"""

from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "FEED_PREFIX",
    "PAUSED_BY_FAILURES",
    "PAUSED_BY_OPERATOR",
    "Webhook",
    "WebhookState",
    "Wrapping",
    "feed_of",
]

FEED_PREFIX: Final = "webhook:"
PAUSED_BY_OPERATOR: Final = "paused_by_operator"
PAUSED_BY_FAILURES: Final = "deliveries_failed"


class WebhookState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class Wrapping(StrEnum):
    """Whether the body is the envelope itself, or a DSSE envelope of it that the engine signs."""

    NONE = "none"
    DSSE = "dsse"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """`types` as in the query of a stream: names of events, or `job.*`; empty lets through all.
    `secret` is sealed. `reason` says why it is paused."""

    tenant_id: str
    webhook_id: str
    url: str
    types: tuple[str, ...] = ()
    description: str = ""
    wrapping: Wrapping = Wrapping.NONE
    secret: bytes
    state: WebhookState = WebhookState.ACTIVE
    reason: str | None = None
    begins_after_seq: int = 0
    created_at: int
    created_by: str
    changed_at: int
    revision: int = 1


def feed_of(webhook_id: str) -> str:
    """The name under which the store keeps its cursor."""
    return FEED_PREFIX + webhook_id
