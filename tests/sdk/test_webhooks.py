"""What a client asks about webhooks, against a real HTTP server in a thread."""

import json
from typing import Any

from jobengine.sdk import Client
from tests.sdk.test_client import Door, client, door, url

__all__ = ["client", "door", "url"]

SIGNED: dict[str, Any] = {"reason": "why", "ticket": "T-1"}


def webhook(**changes: object) -> dict[str, Any]:
    return {
        "webhookId": "w1", "tenantId": "acme", "url": "https://hooks.example/in", "types": [],
        "wrapping": "none", "description": "", "state": "active", "reason": None,
        "beginsAfterSeq": 7, "createdAt": "2026-11-22T12:00:00.000Z", "createdBy": "ops",
        "changedAt": "2026-11-22T12:00:00.000Z", "revision": 1, "addedInALaterVersion": True,
        **changes,
    }  # fmt: skip


def bodies(door: Door) -> list[Any]:
    return [json.loads(body) if body else None for *_, body in door.asked]


def test_a_secret_is_known_though_the_answer_that_showed_it_was_lost(
    door: Door, client: Client
) -> None:
    door.on("/webhooks", None, (200, {"Idempotent-Replayed": "true"}, webhook()))
    made = client.create_webhook("https://hooks.example/in", types=["job.*"], **SIGNED)
    first, again = bodies(door)
    assert first == again
    assert made.secret == first["secret"]
    assert len(first["secret"]) > 32
    keys = {headers["idempotency-key"] for _, _, headers, _ in door.asked}
    assert len(keys) == 1


def test_a_secret_of_ones_own_is_sent_and_comes_back(door: Door, client: Client) -> None:
    secret = "0123456789abcdef"
    door.on("/webhooks", (201, {}, webhook(secret=secret)))
    door.on("/webhooks/w1:rotateSecret", (200, {}, webhook(secret=secret, revision=2)))
    made = client.create_webhook("https://hooks.example/in", secret=secret, after="begin", **SIGNED)
    assert made.secret == secret
    assert client.rotate_webhook_secret("w1", secret=secret, **SIGNED).secret == secret
    created, rotated = bodies(door)
    assert (created["after"], created["secret"]) == ("begin", secret)
    assert rotated == {"secret": secret}


def test_a_change_says_what_it_names_and_which_revision_it_was_made_from(
    door: Door, client: Client
) -> None:
    door.on(
        "/webhooks/w1", (200, {}, webhook(revision=4)), (200, {}, {"name": "w1", "removedAt": "t"})
    )
    changed = client.update_webhook("w1", revision=3, description=None, types=["run.*"], **SIGNED)
    assert changed.revision == 4
    assert client.delete_webhook("w1", **SIGNED).name == "w1"
    (patch, _, headers, body), (delete, *_) = door.asked
    assert (patch, delete) == ("PATCH", "DELETE")
    assert headers["if-match"] == '"3"'
    assert headers["x-stella-operator-ticket"] == "T-1"
    assert json.loads(body) == {"description": None, "types": ["run.*"]}


def test_how_far_a_webhook_has_come_is_shown(door: Door, client: Client) -> None:
    attempt = {
        "at": "2026-11-22T12:00:00.000Z", "seq": 8, "eventType": "job.created", "number": 2,
        "httpStatus": 500, "tookMs": 3.5, "error": "500 Internal Server Error",
    }  # fmt: skip
    delivery = {
        "deliveredSeq": 7, "deliveredAt": None, "deliveredTotal": 0, "lag": 3, "failures": 2,
        "failingSince": "2026-11-22T11:00:00.000Z", "nextAt": "2026-11-22T12:00:05.000Z",
        "recent": [attempt],
    }  # fmt: skip
    door.on("/webhooks", (200, {}, {"items": [webhook()], "nextPageToken": None}))
    door.on("/webhooks/w1", (200, {}, webhook(delivery=delivery)))
    door.on("/webhooks/w1:test", (200, {}, {**attempt, "delivered": False}))
    (listed,) = client.webhooks_page().items
    assert not listed.delivery
    shown = client.webhook("w1").delivery
    assert shown
    assert (shown.lag, shown.failures) == (3, 2)
    assert shown.recent
    assert shown.recent[0].http_status == 500
    tried = client.test_webhook("w1", **SIGNED)
    assert (tried.delivered, tried.took_ms) == (False, 3.5)


def test_a_webhook_is_paused_and_goes_on_further_on(door: Door, client: Client) -> None:
    door.on("/webhooks/w1:pause", (200, {}, webhook(state="paused", reason="paused_by_operator")))
    door.on("/webhooks/w1:resume", (200, {}, webhook(beginsAfterSeq=9)))
    assert client.pause_webhook("w1", **SIGNED).state == "paused"
    assert client.resume_webhook("w1", after="now", **SIGNED).begins_after_seq == 9
    assert bodies(door) == [{}, {"after": "now"}]
