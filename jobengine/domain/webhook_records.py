"""What the store and the ledger are told of a webhook: its row, and the entries of a pause by the
engine and of the incident that is opened with it.

I1  An entry shows where a URL leads to and no more of it: credentials, path and query often are
    what lets one in.
I2  An incident is named after the webhook and the revision that is paused, so that it is the same
    one however often it is told of.
"""

import base64
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import WebhookRow
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.webhook import PAUSED_BY_FAILURES, Webhook, WebhookState, Wrapping

__all__ = [
    "INCIDENT_CLOSED",
    "INCIDENT_OPENED",
    "WEBHOOK_PAUSED",
    "closed_data",
    "incident_of",
    "opened_data",
    "paused_by_engine",
    "paused_data",
    "to_row",
    "to_webhook",
]

INCIDENT_CLOSED: Final = "incident.closed"
INCIDENT_OPENED: Final = "incident.opened"
WEBHOOK_PAUSED: Final = "webhook.paused"
_INCIDENT_KIND: Final = "webhook_paused"


def to_row(webhook: Webhook) -> WebhookRow:
    """What a commit writes of a webhook."""
    return WebhookRow(
        tenant_id=webhook.tenant_id,
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        types=list(webhook.types),
        description=webhook.description,
        wrapping=webhook.wrapping,
        secret=base64.b64encode(webhook.secret).decode(),
        state=webhook.state,
        reason=webhook.reason,
        begins_after_seq=webhook.begins_after_seq,
        created_at=webhook.created_at,
        created_by=webhook.created_by,
        changed_at=webhook.changed_at,
        revision=webhook.revision,
    )


def to_webhook(row: WebhookRow) -> Webhook:
    """The webhook that a row makes."""
    return Webhook(
        tenant_id=row.tenant_id,
        webhook_id=row.webhook_id,
        url=row.url,
        types=tuple(row.types),
        description=row.description,
        wrapping=Wrapping(row.wrapping),
        secret=base64.b64decode(row.secret),
        state=WebhookState(row.state),
        reason=row.reason,
        begins_after_seq=row.begins_after_seq,
        created_at=row.created_at,
        created_by=row.created_by,
        changed_at=row.changed_at,
        revision=row.revision,
    )


def paused_by_engine(webhook: Webhook, revision: int, now_at: int) -> Webhook:
    """A webhook to which deliveries have failed, in the revision that is paused for it."""
    return msgspec.structs.replace(
        webhook,
        state=WebhookState.PAUSED,
        reason=PAUSED_BY_FAILURES,
        changed_at=now_at,
        revision=revision,
    )


def incident_of(webhook_id: str, revision: int) -> str:
    """The name of the incident that is opened when this revision of a webhook is paused (I2)."""
    return f"webhook-{webhook_id}-{revision}"


def paused_data(webhook: Webhook, error: str) -> bytes:
    return _data(webhook, reason=webhook.reason, revision=webhook.revision, error=error)


def opened_data(webhook: Webhook, error: str, failures: int, since_at: int, now_at: int) -> bytes:
    """Of a webhook as it is paused. ``error`` is the last failure, in one line; ``since_at`` the
    instant of the first of ``failures``."""
    return _incident(
        webhook,
        webhook.revision,
        reason=webhook.reason,
        error=error,
        failures=failures,
        since=to_rfc3339(since_at),
        openedAt=to_rfc3339(now_at),
    )


def closed_data(webhook: Webhook, revision: int, now_at: int) -> bytes:
    """Of the incident that was opened for an earlier ``revision`` of the webhook."""
    return _incident(webhook, revision, closedAt=to_rfc3339(now_at))


def _incident(webhook: Webhook, revision: int, **more: Any) -> bytes:
    name = incident_of(webhook.webhook_id, revision)
    return _data(webhook, incidentId=name, kind=_INCIDENT_KIND, **more)


def _data(webhook: Webhook, **more: Any) -> bytes:
    parts = urlsplit(webhook.url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return canonical_of({"webhookId": webhook.webhook_id, "url": origin, **more})
