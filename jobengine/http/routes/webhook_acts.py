"""What is done to a webhook that is there: pause and resume it, try it, give it another secret."""

from typing import Final

import msgspec

from jobengine.actors.gateway import UnavailableError
from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.webhook import PAUSED_BY_OPERATOR, Webhook, WebhookState
from jobengine.http.answer import Answer
from jobengine.http.controls import CHANGED
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoBody, NoQuery, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting
from jobengine.http.webhook_answers import changed_answer, secret_answer
from jobengine.http.webhook_changes import change_webhook, require_webhook
from jobengine.http.webhook_requests import new_secret, newest_seq, seq_after
from jobengine.http.webhook_views import tested_view
from jobengine.wire.webhooks import (
    WebhookResume,
    WebhookSecret,
    WebhookTest,
    WebhookView,
    WebhookWithSecret,
)

__all__ = ["ROUTES"]

_AGAIN_S: Final = 1
_TAGGED: Final = ("ETag",)


async def pause(call: Call[NoQuery, NoBody]) -> Answer:
    def changed(present: Webhook) -> Webhook:
        if present.state is WebhookState.PAUSED:
            return present
        return msgspec.structs.replace(
            present, state=WebhookState.PAUSED, reason=PAUSED_BY_OPERATOR
        )

    return changed_answer(call, await change_webhook(call, "webhook.paused", changed))


async def resume(call: Call[NoQuery, WebhookResume]) -> Answer:
    after = call.body.after
    newest = await newest_seq(call)
    skipped_seq = 0 if after is None else seq_after(None if after == "now" else after, newest)

    def changed(present: Webhook) -> Webhook:
        if present.state is WebhookState.ACTIVE:
            if after is None:
                return present
            raise RefusedError(
                Refusal(
                    ErrorCode.ILLEGAL_TRANSITION,
                    "the webhook is active, and goes on where it is; pause it first to leave "
                    "events out",
                    {"path": "after", "state": present.state.value},
                )
            )
        return msgspec.structs.replace(
            present,
            state=WebhookState.ACTIVE,
            reason=None,
            begins_after_seq=max(present.begins_after_seq, skipped_seq),
        )

    return changed_answer(call, await change_webhook(call, "webhook.resumed", changed))


async def rotate_secret(call: Call[NoQuery, WebhookSecret]) -> Answer:
    secret = call.body.secret or new_secret()
    vault = call.front.vault

    def changed(present: Webhook) -> Webhook:
        sealed = vault.seal(present.tenant_id, present.webhook_id, secret.encode())
        return msgspec.structs.replace(present, secret=sealed)

    done = await change_webhook(call, "webhook.secret_rotated", changed)
    return secret_answer(call, done, secret, 200)


async def test(call: Call[NoQuery, NoBody]) -> Answer:
    webhook = await require_webhook(call)
    try:
        attempt = await call.front.gateway.test_webhook(call.tenant_id, webhook.webhook_id)
    except RefusedError as error:
        if error.refusal.code is not ErrorCode.NOT_FOUND:
            raise
        message = "the engine is still reading its webhooks; retry later"
        raise UnavailableError(ErrorCode.OVERLOADED, message, _AGAIN_S) from None
    return json_answer(tested_view(attempt))


ROUTES: Final = (
    acting(
        "/webhooks/{webhookId}:pause",
        "pauseWebhook",
        "Post nothing to a webhook until it is resumed; its cursor stays",
        pause,
        WebhookView,
        errors=(*CHANGED, *REPEATED),
        answer_headers=_TAGGED,
    ),
    Route(
        method="POST",
        path="/webhooks/{webhookId}:resume",
        name="resumeWebhook",
        summary="Go on where a webhook was paused, or further on",
        handler=resume,
        scopes=(Scope.OPERATE,),
        body=WebhookResume,
        body_optional=True,
        answers={200: WebhookView},
        answer_headers=_TAGGED,
        errors=(*CHANGED, ErrorCode.ILLEGAL_TRANSITION, *REPEATED),
    ),
    acting(
        "/webhooks/{webhookId}:test",
        "testWebhook",
        "Post an event of the type webhook.test now, once, and say how that went",
        test,
        WebhookTest,
        errors=MISSING,
    ),
    Route(
        method="POST",
        path="/webhooks/{webhookId}:rotateSecret",
        name="rotateWebhookSecret",
        summary="Sign with another secret from now on; it is in this answer and nowhere else",
        handler=rotate_secret,
        scopes=(Scope.ADMIN,),
        body=WebhookSecret,
        body_optional=True,
        answers={200: WebhookWithSecret},
        answer_headers=_TAGGED,
        errors=(*CHANGED, *REPEATED),
    ),
)
