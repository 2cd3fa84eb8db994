"""Answers about webhooks, as whoever asks may see them.

I1  Whoever may not say where events go does not learn the paths and queries of URLs: they often are
    all that a receiver asks for.
I2  A secret is in the answer to the request that set it, and in no repeat of that.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.webhook import Webhook
from jobengine.http.answer import Answer
from jobengine.http.controls import tag
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call
from jobengine.http.webhook_changes import Changed
from jobengine.http.webhook_requests import newest_seq
from jobengine.http.webhook_views import cut_url, delivery_view, webhook_view
from jobengine.wire.webhooks import WebhookView, WebhookWithSecret

__all__ = ["changed_answer", "read_views", "secret_answer"]


async def read_views(
    call: Call[Any, Any], webhooks: Sequence[Webhook], *, recent: bool
) -> list[WebhookView]:
    """Webhooks with how far they have come."""
    gateway, ids = call.front.gateway, [webhook.webhook_id for webhook in webhooks]
    newest = await newest_seq(call)
    deliveries = await gateway.webhook_deliveries(call.tenant_id, ids) if ids else {}
    views = []
    for webhook in webhooks:
        view = _for(call, webhook_view(webhook))
        if webhook.webhook_id in deliveries:
            found = deliveries[webhook.webhook_id]
            view.delivery = delivery_view(found, newest, recent=recent)
        views.append(view)
    return views


def _for(call: Call[Any, Any], view: WebhookView) -> WebhookView:
    """A view as the caller may see it (I1)."""
    if Scope.ADMIN not in call.identity.scopes:
        view.url = cut_url(view.url)
    return view


def changed_answer(call: Call[Any, Any], done: Changed) -> Answer:
    view = _for(call, done.view)
    return json_answer(view, replayed=done.replayed, ETag=tag(view.revision))


def secret_answer(
    call: Call[Any, Any], done: Changed, secret: str, status: int, **headers: str
) -> Answer:
    if done.replayed:
        status = 200
    shown = WebhookWithSecret(**msgspec.structs.asdict(_for(call, done.view)))
    if not done.replayed:
        shown.secret = secret
    return json_answer(
        shown,
        status,
        replayed=done.replayed,
        ETag=tag(shown.revision),
        Cache_Control="no-store",
        **headers,
    )
