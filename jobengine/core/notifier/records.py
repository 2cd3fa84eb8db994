"""What the notifier has put into the ledger, pauses and incidents; and the event of a test, which
is in no ledger."""

from typing import Final

from msgspec import Raw

from jobengine.core.notifier.course import Course, incident_in_doubt
from jobengine.domain.canonical import canonical_of
from jobengine.domain.entry import GENESIS, Block, Entry, encode_entries
from jobengine.domain.event import Event, events_of
from jobengine.domain.instant import Moment
from jobengine.domain.webhook import Webhook
from jobengine.domain.webhook_records import (
    INCIDENT_CLOSED,
    INCIDENT_OPENED,
    WEBHOOK_PAUSED,
    closed_data,
    incident_of,
    opened_data,
    paused_by_engine,
    paused_data,
    to_row,
)
from jobengine.messages.notifier import Cursor, Record

__all__ = ["ENGINE", "closing", "key_of_pause", "pause_in_doubt", "pausing", "test_event"]

ENGINE: Final = "engine"
"""Who acts, in entries that nobody asked for."""


def pausing(course: Course, stamp: int, now: Moment) -> Record:
    """Pause a webhook and open its incident, in one commit."""
    assert course.incident is not None
    webhook = paused_by_engine(course.webhook, course.incident, now.at)
    since_at = course.failing_since_at or now.at
    opened = opened_data(webhook, course.error, course.failures, since_at, now.at)
    return Record(
        stamp=stamp,
        key=key_of_pause(webhook.webhook_id, course.incident),
        tenant_id=webhook.tenant_id,
        webhook_id=webhook.webhook_id,
        entries=((WEBHOOK_PAUSED, paused_data(webhook, course.error)), (INCIDENT_OPENED, opened)),
        row=to_row(webhook),
    )


def key_of_pause(webhook_id: str, incident: int) -> str:
    """The key under which a pause is recorded."""
    return f"paused-{incident_of(webhook_id, incident)}"


def pause_in_doubt(cursor: Cursor) -> str | None:
    """The key of the pause that a cursor notes without knowing whether it was recorded."""
    incident = incident_in_doubt(cursor)
    return None if incident is None else key_of_pause(cursor.webhook_id, incident)


def closing(course: Course, stamp: int, now: Moment) -> Record:
    """Close the incident of a webhook that goes on, or is no more."""
    assert course.incident is not None
    webhook = course.webhook
    return Record(
        stamp=stamp,
        key=f"closed-{incident_of(webhook.webhook_id, course.incident)}",
        tenant_id=webhook.tenant_id,
        webhook_id=webhook.webhook_id,
        entries=((INCIDENT_CLOSED, closed_data(webhook, course.incident, now.at)),),
    )


def test_event(webhook: Webhook, at: int) -> Event:
    """An event like those of the ledger, with a seq that none of them has."""
    entry = Entry(
        actor=ENGINE,
        at=at,
        data=Raw(canonical_of({"webhookId": webhook.webhook_id})),
        kind="webhook.test",
    )
    block = Block(
        tenant_id=webhook.tenant_id,
        first_seq=0,
        last_seq=0,
        at=at,
        previous=GENESIS,
        link=GENESIS,
        body=encode_entries([entry]),
    )
    (event,) = events_of(block, after_seq=-1)
    return event
