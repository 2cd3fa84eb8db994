"""Webhooks: written by commits, a later version over an earlier one and never the other way."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, WebhookRow
from jobengine.domain.webhook import PAUSED_BY_FAILURES, Webhook, WebhookState, Wrapping
from jobengine.domain.webhook_records import to_row
from jobengine.store.errors import StatementRefusedError
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe


def webhook(name: str = "w1", revision: int = 1, **fields: Any) -> Webhook:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "url": "https://example.com/hook",
        "secret": b"\0sealed\xff",
        "created_at": NOW,
        "created_by": "ops",
        "changed_at": NOW + revision,
    }
    return Webhook(webhook_id=name, revision=revision, **given | fields)


def dropped(name: str = "w1", tenant_id: str = TENANT, revision: int = 1) -> WebhookRow:
    return WebhookRow(tenant_id=tenant_id, webhook_id=name, revision=revision, dropped=True)


async def test_a_webhook_is_read_back_whole(store: Store, scribe: Scribe) -> None:
    whole = webhook(
        types=("job.*", "run.completed"),
        description="to the board ä",
        wrapping=Wrapping.DSSE,
        begins_after_seq=7,
    )
    await scribe.aside(webhooks=[to_row(whole), to_row(webhook("w2"))])
    assert await store.webhook(TENANT, "w1") == whole
    assert await store.webhook(TENANT, "w2") == webhook("w2")
    assert await store.webhook(TENANT, "w3") is None
    assert await store.webhook("globex", "w1") is None


async def test_a_later_version_replaces_an_earlier_one_and_never_the_other_way(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(webhooks=[to_row(webhook())])
    third = webhook(
        revision=3,
        url="https://example.com/3",
        types=("job.failed",),
        state=WebhookState.PAUSED,
        reason=PAUSED_BY_FAILURES,
        secret=b"other",
    )
    await scribe.aside(webhooks=[to_row(third)])
    for late in (webhook(revision=2), webhook(revision=3), webhook()):
        await scribe.aside(webhooks=[to_row(late)])
        assert await store.webhook(TENANT, "w1") == third


async def test_the_latest_of_several_versions_in_one_batch_stays(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(webhooks=[to_row(webhook("old"))])
    new = [to_row(webhook("new", revision)) for revision in (1, 3, 2)]
    old = [to_row(webhook("old", revision)) for revision in (4, 2)]
    going = [to_row(webhook("gone")), dropped("gone", revision=2)]
    await scribe.aside(webhooks=[*new, *old, *going])
    assert await store.webhook(TENANT, "new") == webhook("new", 3)
    assert await store.webhook(TENANT, "old") == webhook("old", 4)
    assert await store.webhook(TENANT, "gone") is None


async def test_what_is_dropped_does_not_come_back_with_a_late_change(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(webhooks=[to_row(webhook("w1", 1)), to_row(webhook("w2"))])
    await scribe.aside(webhooks=[to_row(webhook("w1", 9))])
    await scribe.aside(webhooks=[dropped("w1"), dropped("nobody's")])
    await scribe.aside(webhooks=[to_row(webhook("w1", 10))])
    assert await store.webhook(TENANT, "w1") is None
    assert await store.webhook(TENANT, "w2") is not None


async def test_a_version_that_cannot_be_applies_nothing(store: Store, scribe: Scribe) -> None:
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(webhooks=[to_row(webhook("w1")), to_row(webhook("w2", 1)), _wrong("w3")])
    assert raised.value.constraint_name == "webhooks_state_is_known"
    assert await store.webhook_list(TENANT, None, 9) == []


def _wrong(name: str) -> WebhookRow:
    return msgspec.structs.replace(to_row(webhook(name)), state="asleep")


async def test_a_tenants_webhooks_are_listed_newest_first_and_those_of_all_in_order(
    store: Store, scribe: Scribe
) -> None:
    names = [f"w{number}" for number in range(5)]
    await scribe.write(
        ChangeSet(tenant_id="a", webhooks=[to_row(webhook("w9", tenant_id="a"))]),
        ChangeSet(tenant_id=TENANT, webhooks=[to_row(webhook(name)) for name in names]),
    )
    found: list[str] = []
    while page := await store.webhook_list(TENANT, found[-1] if found else None, 2):
        found += [each.webhook_id for each in page]
    assert found == names[::-1]
    all_of_them: list[tuple[str, str]] = []
    while rows := await store.webhooks_of_all(all_of_them[-1] if all_of_them else None, 4):
        all_of_them += [(each.tenant_id, each.webhook_id) for each in rows]
    assert all_of_them == [("a", "w9"), *((TENANT, name) for name in names)]
