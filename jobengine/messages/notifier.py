"""The alphabet of the notifier: what doors ask about webhooks, and what it commands. See
`core/notifier`.

Every command that is answered carries a stamp, and its answer brings that back; a *feed* is named
by a number that no other feed of this life has.
"""

from collections.abc import Mapping, Sequence

import msgspec

from jobengine.domain.change import WebhookRow
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.domain.webhook import Webhook

__all__ = [
    "Attempt",
    "CloseFeed",
    "Command",
    "Cursor",
    "CursorsMoved",
    "CursorsUnmoved",
    "DeliveriesAnswer",
    "Delivery",
    "Fed",
    "FeedOn",
    "FeedRefused",
    "ForgetCursors",
    "Message",
    "MoveCursors",
    "OpenFeed",
    "Outcome",
    "Post",
    "Posted",
    "ReadDeliveries",
    "Record",
    "Recorded",
    "Recovered",
    "TestWebhook",
    "Unrecorded",
    "WebhookChanged",
    "WebhookDropped",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class WebhookChanged(_Message, frozen=True, kw_only=True):
    """A webhook is like this now, new or changed; told after the commit."""

    webhook: Webhook


class WebhookDropped(_Message, frozen=True, kw_only=True):
    """A webhook is no more; told after the commit."""

    tenant_id: str
    webhook_id: str


class ReadDeliveries(_Message, frozen=True, kw_only=True):
    """How far webhooks of a tenant have come; answered by `DeliveriesAnswer`."""

    ask_id: int
    tenant_id: str
    webhook_ids: Sequence[str]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One POST. `status` is 0 where there was no answer; `error` says in one line why it counts as
    failed, None where it does not. `number` counts the attempts at this event from 1."""

    at: int
    seq: int
    event_type: str
    number: int
    status: int
    took_us: int
    error: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Where a webhook stands. `failures` counts attempts since the last that went through;
    `next_at` is when the next one is due, where one waits. `recent` holds the newest last."""

    webhook_id: str
    delivered_seq: int
    delivered_at: int | None = None
    delivered_total: int = 0
    failures: int = 0
    failing_since_at: int | None = None
    next_at: int | None = None
    recent: Sequence[Attempt] = ()


class DeliveriesAnswer(msgspec.Struct, frozen=True):
    """By webhook id; those that the notifier does not know are left out."""

    deliveries: Mapping[str, Delivery]


class TestWebhook(_Message, frozen=True, kw_only=True):
    """Send an event of type `webhook.test`, which is no part of the ledger, now and once, also to a
    paused webhook; answered by an `Attempt` with seq 0, or refused (`NOT_FOUND`)."""

    ask_id: int
    tenant_id: str
    webhook_id: str


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook has confirmed all up to `seq`. `note` is what the notifier wants to find again."""

    tenant_id: str
    webhook_id: str
    seq: int
    note: bytes
    at: int


class Recovered(_Message, frozen=True, kw_only=True):
    """What the store has, at the beginning of a life. `pauses` are the keys of the `Record`s that
    took effect, of incidents that are in doubt."""

    webhooks: Sequence[Webhook]
    cursors: Sequence[Cursor]
    pauses: frozenset[str] = frozenset()


class Fed(_Message, frozen=True):
    """What comes next in a feed. No more of it comes until `FeedOn`."""

    feed_id: int
    batch: Batch


class FeedRefused(_Message, frozen=True, kw_only=True):
    """A feed has ended: the node has no room for readers, or the store did not answer."""

    feed_id: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one POST; `status` and `error` as in an `Attempt`. `retry_after_s` is what the
    answer asks for; `gone` says that it wants no more of this."""

    status: int = 0
    error: str | None = None
    took_us: int = 0
    retry_after_s: float | None = None
    gone: bool = False


class Posted(_Message, frozen=True):
    stamp: int
    outcome: Outcome


class Recorded(_Message, frozen=True, kw_only=True):
    """A `Record` is in the ledger; the webhook is as the store has it now."""

    stamp: int
    webhook: Webhook | None


class Unrecorded(_Message, frozen=True, kw_only=True):
    """Whether it took effect is unknown; it may be asked again under the same key."""

    stamp: int


class CursorsMoved(_Message, frozen=True, kw_only=True):
    stamp: int


class CursorsUnmoved(_Message, frozen=True, kw_only=True):
    stamp: int


Message = (
    WebhookChanged
    | WebhookDropped
    | ReadDeliveries
    | TestWebhook
    | Recovered
    | Fed
    | FeedRefused
    | Posted
    | Recorded
    | Unrecorded
    | CursorsMoved
    | CursorsUnmoved
)


class OpenFeed(_Message, frozen=True, kw_only=True):
    """Read a tenant's events of these types after `after_seq`, one batch at a time."""

    feed_id: int
    tenant_id: str
    after_seq: int
    types: tuple[str, ...]


class FeedOn(_Message, frozen=True, kw_only=True):
    feed_id: int


class CloseFeed(_Message, frozen=True, kw_only=True):
    feed_id: int


class Post(_Message, frozen=True, kw_only=True):
    """Send one event; answered by `Posted`. `number` counts the attempts at it from 1."""

    stamp: int
    webhook: Webhook
    event: Event
    number: int


class Record(_Message, frozen=True, kw_only=True):
    """Commit entries (the first one, and those behind it) and a row for a tenant, once for each
    `key`; answered by `Recorded` or `Unrecorded`."""

    stamp: int
    key: str
    tenant_id: str
    webhook_id: str
    entries: Sequence[tuple[str, bytes]]
    row: WebhookRow | None = None


class MoveCursors(_Message, frozen=True, kw_only=True):
    stamp: int
    cursors: Sequence[Cursor]


class ForgetCursors(_Message, frozen=True, kw_only=True):
    """Of webhooks, by tenant and id, that are no more; answered as `MoveCursors` is."""

    stamp: int
    webhooks: Sequence[tuple[str, str]]


Command = OpenFeed | FeedOn | CloseFeed | Post | Record | MoveCursors | ForgetCursors
