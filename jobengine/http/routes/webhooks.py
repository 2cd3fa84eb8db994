"""Webhooks: where the tenant's events are posted.

Not here: what is done to one that is there (`webhook_acts`), how a change is made
(`webhook_changes`), how events are sent (`webhook_delivery`).
"""

from typing import Final

import msgspec
from msgspec import UNSET

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.webhook import Webhook, Wrapping
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.control_views import kept
from jobengine.http.controls import CHANGED, IF_MATCH, MERGE_PATCH, tag
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, REPEATED, reading
from jobengine.http.webhook_answers import changed_answer, read_views, secret_answer
from jobengine.http.webhook_changes import (
    change_webhook,
    create_webhook,
    drop_webhook,
    require_webhook,
)
from jobengine.http.webhook_requests import (
    checked_description,
    checked_types,
    checked_url,
    new_secret,
    newest_seq,
    seq_after,
)
from jobengine.wire.controls import Removed
from jobengine.wire.jobs import Page
from jobengine.wire.webhooks import (
    WebhookPatch,
    WebhookRequest,
    WebhookView,
    WebhookWithSecret,
)

__all__ = ["ROUTES"]

_TAGGED: Final = ("ETag",)


async def create(call: Call[NoQuery, WebhookRequest]) -> Answer:
    body, front = call.body, call.front
    newest = await newest_seq(call)
    secret = body.secret or new_secret()
    now_at, webhook_id = front.gateway.clock.moment().at, front.gateway.new_id()
    webhook = Webhook(
        tenant_id=call.tenant_id,
        webhook_id=webhook_id,
        url=checked_url(call, body.url),
        types=checked_types(body.types),
        description=checked_description(call, body.description),
        wrapping=Wrapping(body.wrapping),
        secret=front.vault.seal(call.tenant_id, webhook_id, secret.encode()),
        begins_after_seq=seq_after(0 if body.after == "begin" else body.after, newest),
        created_at=now_at,
        created_by=call.actor.subject,
        changed_at=now_at,
    )
    done = await create_webhook(call, webhook)
    location = f"{BASE}/webhooks/{done.view.webhook_id}"
    return secret_answer(call, done, secret, 201, Location=location)


async def list_webhooks(call: Call[Paging, None]) -> Answer:
    size = call.query.page_size
    found = await call.front.gateway.store.webhook_list(
        call.tenant_id, pages.after(call, str), size + 1
    )
    page, cursor = pages.cut(found, size, lambda webhook: webhook.webhook_id)
    views = await read_views(call, page, recent=False)
    return page_answer(views, pages.token(call, cursor))


async def show(call: Call[NoQuery, None]) -> Answer:
    webhook = await require_webhook(call)
    (view,) = await read_views(call, [webhook], recent=True)
    return json_answer(view, ETag=tag(webhook.revision))


async def update(call: Call[NoQuery, WebhookPatch]) -> Answer:
    patch = call.body

    def changed(present: Webhook) -> Webhook:
        return msgspec.structs.replace(
            present,
            url=present.url if patch.url is UNSET else checked_url(call, patch.url),
            types=present.types if patch.types is UNSET else checked_types(patch.types or ()),
            description=present.description
            if patch.description is UNSET
            else checked_description(call, patch.description or ""),
            wrapping=Wrapping(kept(patch.wrapping, present.wrapping.value) or Wrapping.NONE),
        )

    return changed_answer(call, await change_webhook(call, "webhook.updated", changed))


async def delete(call: Call[NoQuery, None]) -> Answer:
    at = await drop_webhook(call)
    return json_answer(Removed(name=call.path["webhookId"], removed_at=to_rfc3339(at)))


ROUTES: Final = (
    Route(
        method="POST",
        path="/webhooks",
        name="createWebhook",
        summary="Post the tenant's events to a URL; the secret is in this answer and nowhere else",
        handler=create,
        scopes=(Scope.ADMIN,),
        body=WebhookRequest,
        answers={201: WebhookWithSecret, 200: WebhookWithSecret},
        answer_headers=_TAGGED,
        location=True,
        errors=(ErrorCode.CAPACITY_EXCEEDED, *REPEATED),
    ),
    reading(
        "/webhooks",
        "listWebhooks",
        "List the webhooks, newest first, and how far each has come",
        list_webhooks,
        Page[WebhookView],
        query=Paging,
    ),
    reading(
        "/webhooks/{webhookId}",
        "getWebhook",
        "Show a webhook, how far it has come, and its last attempts",
        show,
        WebhookView,
        errors=MISSING,
        answer_headers=_TAGGED,
    ),
    Route(
        method="PATCH",
        path="/webhooks/{webhookId}",
        name="updateWebhook",
        summary="Change where events are posted, or which",
        handler=update,
        scopes=(Scope.ADMIN,),
        body=WebhookPatch,
        consumes=MERGE_PATCH,
        headers=(IF_MATCH,),
        answers={200: WebhookView},
        answer_headers=_TAGGED,
        errors=CHANGED,
    ),
    Route(
        method="DELETE",
        path="/webhooks/{webhookId}",
        name="deleteWebhook",
        summary="Take a webhook away, with its cursor",
        handler=delete,
        scopes=(Scope.ADMIN,),
        headers=(IF_MATCH,),
        answers={200: Removed},
        errors=CHANGED,
    ),
)
