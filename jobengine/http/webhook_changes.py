"""How the REST front changes webhooks.

I1  Changes of a tenant's webhooks are made one after another, each of what the one before has left.
    So of two patches at once both take effect, and no tenant gets more webhooks than it may have.
I2  The notifier may pause a webhook meanwhile. What is stored is read after the commit, and a
    change that was not the first of its revision is made anew.
I3  The ledger is told where a URL leads to and a digest of it: the path and query of a receiver's
    address often are what lets one in. Secrets are in no entry and in no stored answer.
I4  From its commit on a change goes through whether the client is still there or not, so that the
    notifier is told of it. It is told again by a repeat, also of a request that was not answered.

Not here: what may be asked (the routes), what a change means to deliveries (`core/notifier`).
Source: RFC 9110 §13.1.1.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio

from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import WebhookRow
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.webhook import Webhook
from jobengine.domain.webhook_records import to_row
from jobengine.http.controls import IF_MATCH, tag
from jobengine.http.first_answers import first_answer
from jobengine.http.route import Call
from jobengine.http.webhook_views import cut_url, webhook_view
from jobengine.messages.lease_shard import AdministerAnswer, AdministerTenant, IdempotencyClaim
from jobengine.wire.webhooks import WebhookView

__all__ = [
    "Changed",
    "change_webhook",
    "create_webhook",
    "drop_webhook",
    "require_webhook",
]

_TRIES: Final = 5
_ID_CHARACTERS_MAX: Final = 64
_view: Final = msgspec.json.Decoder(WebhookView)


@attrs.frozen
class Changed:
    """A webhook as a change has left it; `replayed`: as an earlier request under its key has."""

    view: WebhookView
    replayed: bool = False


async def create_webhook(call: Call[Any, Any], webhook: Webhook) -> Changed:
    """Add a webhook. Raises `RefusedError` when the tenant has as many as it may."""
    async with call.front.turns.of(call.tenant_id):
        if (first := await _first(call)) is not None:
            return first
        await _check_room(call)
        done = await _made(call, "webhook.created", webhook, call.claim)
        assert done is not None, "nobody else knows its id"
        return done


async def change_webhook(
    call: Call[Any, Any], event: str, changed: Callable[[Webhook], Webhook]
) -> Changed:
    """Put in place of the webhook that the path names what `changed` makes of it; where that is the
    same, nothing is recorded. Raises `RefusedError`, as `changed` may."""
    async with call.front.turns.of(call.tenant_id):
        if (first := await _first(call)) is not None:
            return first
        claim = call.claim
        for _ in range(_TRIES):
            present = await require_webhook(call)
            _check_revision(call, present)
            wanted = changed(present)
            if wanted == present:
                call.front.gateway.webhook_changed(present)
                return Changed(webhook_view(present))
            webhook = msgspec.structs.replace(
                wanted, changed_at=_now_at(call), revision=present.revision + 1
            )
            done = await _made(call, event, webhook, claim)
            if done is not None:
                return done
            claim = None
    message = "the webhook changes all the time; try again"
    raise RefusedError(Refusal(ErrorCode.REVISION_MISMATCH, message, {"path": "webhookId"}))


async def drop_webhook(call: Call[Any, Any]) -> int:
    """Take away the webhook that the path names; answers when. Raises `RefusedError`."""
    async with call.front.turns.of(call.tenant_id):
        present = await require_webhook(call)
        _check_revision(call, present)
        now_at = _now_at(call)
        webhook = msgspec.structs.replace(present, revision=present.revision + 1)
        row = msgspec.structs.replace(to_row(webhook), dropped=True)
        with trio.CancelScope(shield=True):
            await _commit(call, "webhook.deleted", webhook, row, None)
            call.front.gateway.webhook_dropped(call.tenant_id, webhook.webhook_id)
        return now_at


async def require_webhook(call: Call[Any, Any]) -> Webhook:
    """The webhook that the path names, as it is stored. Raises `RefusedError`."""
    name, found = call.path["webhookId"], None
    if len(name) <= _ID_CHARACTERS_MAX and name.isprintable():
        found = await call.front.gateway.store.webhook(call.tenant_id, name)
    if found is None:
        message = "no such webhook here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "webhookId"}))
    return found


async def _first(call: Call[Any, Any]) -> Changed | None:
    """What was answered to this request before."""
    stored = await first_answer(call)
    return None if stored is None else await _replayed(call, bytes(stored))


async def _replayed(call: Call[Any, Any], stored: bytes) -> Changed:
    view, gateway = _view.decode(stored), call.front.gateway
    webhook = await gateway.store.webhook(call.tenant_id, view.webhook_id)
    if webhook is not None:
        gateway.webhook_changed(webhook)
    return Changed(view, replayed=True)


async def _made(
    call: Call[Any, Any], event: str, webhook: Webhook, claim: IdempotencyClaim | None
) -> Changed | None:
    """None when something else has become of this revision (I2)."""
    gateway = call.front.gateway
    with trio.CancelScope(shield=True):
        answer = await _commit(call, event, webhook, to_row(webhook), claim)
        if answer.stored is not None:
            return await _replayed(call, answer.stored)
        if await gateway.store.webhook(call.tenant_id, webhook.webhook_id) != webhook:
            return None
        gateway.webhook_changed(webhook)
    return Changed(webhook_view(webhook))


async def _commit(
    call: Call[Any, Any],
    event: str,
    webhook: Webhook,
    row: WebhookRow,
    claim: IdempotencyClaim | None,
) -> AdministerAnswer:
    return await call.front.gateway.administer(
        call.tenant_id,
        lambda ask_id: AdministerTenant(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            kind=event,
            data=canonical_of(_entry(webhook)),
            facts=msgspec.json.encode(webhook_view(webhook)),
            webhooks=[row],
            claim=claim,
        ),
    )


async def _check_room(call: Call[Any, Any]) -> None:
    webhooks_max = call.front.limits.tenant_webhooks_max
    found = await call.front.gateway.store.webhook_list(call.tenant_id, None, webhooks_max)
    if len(found) >= webhooks_max:
        raise RefusedError(
            Refusal(
                ErrorCode.CAPACITY_EXCEEDED,
                f"the tenant has {webhooks_max} webhooks, as many as it may; delete some, or raise "
                "the setting tenant_webhooks_max",
                {"webhooksMax": webhooks_max},
            )
        )


def _check_revision(call: Call[Any, Any], present: Webhook) -> None:
    said = call.headers.get(IF_MATCH, "*").strip()
    if said == "*" or tag(present.revision) in (one.strip() for one in said.split(",")):
        return
    raise RefusedError(
        Refusal(
            ErrorCode.REVISION_MISMATCH,
            f"the webhook has revision {present.revision}; read it again and decide anew",
            {"path": IF_MATCH, "revision": present.revision},
        )
    )


def _now_at(call: Call[Any, Any]) -> int:
    return call.front.gateway.clock.moment().at


def _entry(webhook: Webhook) -> dict[str, Any]:
    """I3"""
    return {
        "webhookId": webhook.webhook_id,
        "url": cut_url(webhook.url),
        "urlDigest": "sha256:" + hashlib.sha256(webhook.url.encode()).hexdigest(),
        "types": list(webhook.types),
        "wrapping": webhook.wrapping.value,
        "state": webhook.state.value,
        "reason": webhook.reason,
        "revision": webhook.revision,
    }
