"""Webhooks as they are answered."""

from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from jobengine.domain.instant import MILLISECOND, to_rfc3339
from jobengine.domain.webhook import Webhook
from jobengine.http.times import instant
from jobengine.messages.notifier import Attempt, Delivery
from jobengine.wire.webhooks import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookTest,
    WebhookView,
)

__all__ = ["attempt_view", "cut_url", "delivery_view", "origin_of", "tested_view", "webhook_view"]

_CUT: Final = "/…"
_TOOK_DIGITS: Final = 1


def origin_of(url: str) -> str:
    """Scheme, host and port: what may be told of a URL whose path or query can be a credential."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def cut_url(url: str) -> str:
    """A URL for whoever may not post to it."""
    origin = origin_of(url)
    return url if url.removeprefix(origin) in ("", "/") else origin + _CUT


def webhook_view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        webhook_id=webhook.webhook_id,
        tenant_id=webhook.tenant_id,
        url=webhook.url,
        types=list(webhook.types),
        wrapping=cast(Any, webhook.wrapping.value),
        description=webhook.description,
        state=cast(Any, webhook.state.value),
        reason=webhook.reason,
        begins_after_seq=webhook.begins_after_seq,
        created_at=to_rfc3339(webhook.created_at),
        created_by=webhook.created_by,
        changed_at=to_rfc3339(webhook.changed_at),
        revision=webhook.revision,
    )


def delivery_view(delivery: Delivery, newest_seq: int, *, recent: bool) -> WebhookDelivery:
    """`newest_seq` may have been read before the delivery; a lag is never negative."""
    view = WebhookDelivery(
        delivered_seq=delivery.delivered_seq,
        delivered_at=instant(delivery.delivered_at),
        delivered_total=delivery.delivered_total,
        lag=max(0, newest_seq - delivery.delivered_seq),
        failures=delivery.failures,
        failing_since=instant(delivery.failing_since_at),
        next_at=instant(delivery.next_at),
    )
    if recent:
        view.recent = [attempt_view(attempt) for attempt in delivery.recent]
    return view


def attempt_view(attempt: Attempt) -> WebhookAttempt:
    return WebhookAttempt(
        at=to_rfc3339(attempt.at),
        seq=attempt.seq,
        event_type=attempt.event_type,
        number=attempt.number,
        http_status=attempt.status or None,
        took_ms=round(attempt.took_us / MILLISECOND, _TOOK_DIGITS),
        error=attempt.error,
    )


def tested_view(attempt: Attempt) -> WebhookTest:
    seen = msgspec.structs.asdict(attempt_view(attempt))
    return WebhookTest(delivered=attempt.error is None, **seen)
