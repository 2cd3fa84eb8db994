"""What a client can ask about webhooks: where a tenant's events are posted.

Secrets are made here where none is given, so that a repeat whose first answer was lost still knows
the one that counts. A change that names the `revision` it was made from raises `ApiError` 412 when
there is another by now. Fields are those of the wire types (`jobengine.wire.webhooks`).
"""

import secrets
from collections.abc import Iterable
from typing import Any, Final, Literal

import attrs
import msgspec
from msgspec import UNSET

from jobengine.sdk.exchange import Exchange, Operation, named, query_of, signed
from jobengine.wire.controls import Removed
from jobengine.wire.jobs import Page
from jobengine.wire.webhooks import (
    WebhookPatch,
    WebhookRequest,
    WebhookResume,
    WebhookSecret,
    WebhookTest,
    WebhookView,
    WebhookWithSecret,
)

__all__ = ["WebhookOperations"]

_SECRET_BYTES: Final = 32
_SECRET_PREFIX: Final = "jws_"


@attrs.frozen
class WebhookOperations(Exchange):
    def create_webhook(
        self,
        url: str,
        *,
        reason: str,
        ticket: str,
        types: Iterable[str] = (),
        secret: str | None = None,
        wrapping: Literal["none", "dsse"] = "none",
        description: str = "",
        after: int | Literal["begin"] | None = None,
    ) -> Operation[WebhookWithSecret]:
        """Post events to a URL: those of `types` (`job.*`), of every type when empty, from behind
        the seq `after` on, or from now. The answer has the secret, which nothing else shows."""
        body = WebhookRequest(
            url=url,
            types=list(types),
            secret=secret or _new_secret(),
            wrapping=wrapping,
            description=description,
            after=after,
        )
        path, kind = "/webhooks", WebhookWithSecret
        return _known((yield from self._operate(path, kind, reason, ticket, body)), body.secret)

    def webhooks_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[WebhookView]]:
        """One page of the webhooks, newest first, and how far each has come."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/webhooks", Page[WebhookView], query))

    def webhook(self, webhook_id: str) -> Operation[WebhookView]:
        """One webhook, how far it has come, and its last attempts."""
        return (yield from self._get(named("webhooks", webhook_id), WebhookView))

    def update_webhook(
        self,
        /,
        webhook_id: str,
        *,
        reason: str,
        ticket: str,
        revision: int | None = None,
        **fields: Any,
    ) -> Operation[WebhookView]:
        """Change the `fields` (WebhookPatch's) of a webhook."""
        path, body = named("webhooks", webhook_id), WebhookPatch(**fields)
        headers = signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, WebhookView, headers, body))

    def delete_webhook(
        self, webhook_id: str, *, reason: str, ticket: str, revision: int | None = None
    ) -> Operation[Removed]:
        """Take a webhook away; again what was taken away raises 404, also where the first answer
        was lost."""
        path, headers = named("webhooks", webhook_id), signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, headers))

    def pause_webhook(self, webhook_id: str, *, reason: str, ticket: str) -> Operation[WebhookView]:
        """Post nothing until it is resumed."""
        path = f"{named('webhooks', webhook_id)}:pause"
        return (yield from self._operate(path, WebhookView, reason, ticket))

    def resume_webhook(
        self,
        webhook_id: str,
        *,
        reason: str,
        ticket: str,
        after: int | Literal["now"] | None = None,
    ) -> Operation[WebhookView]:
        """Go on where it was paused; with `after`, leave out for good what lies up to there."""
        path, body = f"{named('webhooks', webhook_id)}:resume", WebhookResume(after=after)
        return (yield from self._operate(path, WebhookView, reason, ticket, body))

    def test_webhook(self, webhook_id: str, *, reason: str, ticket: str) -> Operation[WebhookTest]:
        """Post an event of the type `webhook.test` now and say how that went, `delivered` or not;
        also of a webhook that is paused."""
        path = f"{named('webhooks', webhook_id)}:test"
        return (yield from self._operate(path, WebhookTest, reason, ticket))

    def rotate_webhook_secret(
        self, webhook_id: str, *, reason: str, ticket: str, secret: str | None = None
    ) -> Operation[WebhookWithSecret]:
        """Sign with another secret from now on; the answer has it, which nothing else shows."""
        path = f"{named('webhooks', webhook_id)}:rotateSecret"
        body = WebhookSecret(secret=secret or _new_secret())
        answer = yield from self._operate(path, WebhookWithSecret, reason, ticket, body)
        return _known(answer, body.secret)


def _new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _known(answer: WebhookWithSecret, secret: str | None) -> WebhookWithSecret:
    """The answer, with the secret that was sent: a repeat of it is without."""
    if answer.secret is UNSET and secret is not None:
        return msgspec.structs.replace(answer, secret=secret)
    return answer
