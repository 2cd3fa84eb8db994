"""Shapes of webhooks: where a tenant's events are posted, and how far that has come.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A patch is a JSON merge patch: what it leaves out stays, `null` takes away.
I3  A mutation answers with what it set and nothing that moves by itself, so that its repetition
    under an idempotency key is the same answer. A secret is in the first answer alone.

Source: RFC 7396.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobengine.wire.controls import Request, Shown
from jobengine.wire.fields import INT64_MAX, Instant

__all__ = [
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookPatch",
    "WebhookRequest",
    "WebhookResume",
    "WebhookSecret",
    "WebhookTest",
    "WebhookView",
    "WebhookWithSecret",
]

_Url = Annotated[str, Meta(min_length=1, max_length=2048)]
_Type = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9_.]*\*?$(?!\n)")]
_Types = Annotated[list[_Type], Meta(max_length=64)]
_Description = Annotated[str, Meta(max_length=512)]
_Secret = Annotated[str, Meta(min_length=16, max_length=256, pattern=r"^[\x21-\x7e]+$(?!\n)")]
_Seq = Annotated[int, Meta(ge=0, le=INT64_MAX)]
_Wrapping = Literal["none", "dsse"]
_State = Literal["active", "paused"]


class WebhookRequest(Request, kw_only=True):
    """Where events are posted. `types` are names of events or `job.*`; without them all are sent.
    `secret` keys the signature, and is made when absent. `after` is the seq to begin behind, or
    `begin` for all that the ledger has; without it the webhook begins now."""

    url: _Url
    types: _Types = msgspec.field(default_factory=list)
    secret: _Secret | None = None
    wrapping: _Wrapping = "none"
    description: _Description = ""
    after: _Seq | Literal["begin"] | None = None


class WebhookPatch(Request, kw_only=True):
    """A JSON merge patch of a webhook."""

    url: _Url | UnsetType = UNSET
    types: _Types | UnsetType | None = UNSET
    wrapping: _Wrapping | UnsetType | None = UNSET
    description: _Description | UnsetType | None = UNSET


class WebhookResume(Request, kw_only=True):
    """With `after`, a seq or `now`, what lies up to there is left out for good."""

    after: _Seq | Literal["now"] | None = None


class WebhookSecret(Request, kw_only=True):
    """The secret from now on; made when absent."""

    secret: _Secret | None = None


class WebhookAttempt(Shown, kw_only=True):
    """One POST. Without `httpStatus` there was no answer; `error` says in one line why it counts as
    failed. `number` counts the attempts at this event."""

    at: Instant
    seq: int
    event_type: str
    number: int
    http_status: int | None = None
    took_ms: float
    error: str | None = None


class WebhookDelivery(Shown, omit_defaults=False, kw_only=True):
    """How far a webhook has come. `lag` is how many events of the tenant, of whatever type, lie
    behind `deliveredSeq`; `failures` counts attempts since the last that went through, and `nextAt`
    is when the next one is due. `recent` has the newest last, in the answer for one webhook only.
    """

    delivered_seq: int
    delivered_at: Instant | None
    delivered_total: int
    lag: int
    failures: int
    failing_since: Instant | None
    next_at: Instant | None
    recent: list[WebhookAttempt] | UnsetType = UNSET


class WebhookView(Shown, omit_defaults=False, kw_only=True):
    """A webhook without its secret. `url` is cut behind the host for a token without `orch:admin`.
    `reason` says why it is paused (`paused_by_operator`, `deliveries_failed`). `delivery` is in
    answers to reads only, and absent while the engine starts."""

    webhook_id: str
    tenant_id: str
    url: str
    types: list[str]
    wrapping: _Wrapping
    description: str
    state: _State
    reason: str | None
    begins_after_seq: int
    created_at: Instant
    created_by: str
    changed_at: Instant
    revision: int
    delivery: WebhookDelivery | UnsetType = UNSET


class WebhookWithSecret(WebhookView, kw_only=True):
    """`secret` is shown this once; a repeat under an Idempotency-Key is without it."""

    secret: str | UnsetType = UNSET


class WebhookTest(WebhookAttempt, kw_only=True):
    """How the POST of an event `webhook.test` went; its seq is 0."""

    delivered: bool
