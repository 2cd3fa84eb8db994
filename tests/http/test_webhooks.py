"""Webhooks over REST: what may be said of one, what is shown, and what the ledger keeps."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
import trio

from jobengine.domain.change import WebhookRow
from jobengine.domain.webhook import PAUSED_BY_FAILURES, WebhookState
from jobengine.domain.webhook_records import to_row
from jobengine.messages.lease_shard import Actor, AdministerTenant
from tests.http.conftest import SIGNED, Rest
from tests.http.running import refused

URL = "https://hooks.example.com/in/t0ken?key=s3cret"
SECRET = "a secret of 24 octets...".replace(" ", "-")


async def create(rest: Rest, url: str = URL, **fields: Any) -> dict[str, Any]:
    answer = await post(rest, {"url": url, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def post(rest: Rest, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await rest.client.post("/webhooks", json=body, headers={**SIGNED, **headers})


async def patch(rest: Rest, webhook_id: str, body: Any, **headers: str) -> httpx.Response:
    return await rest.client.patch(
        f"/webhooks/{webhook_id}", json=body, headers={**SIGNED, **headers}
    )


async def shown_with_delivery(rest: Rest, webhook_id: str) -> dict[str, Any]:
    """The webhook, once the engine has read its webhooks and says how far it has come."""
    with trio.fail_after(30):
        while True:
            shown: dict[str, Any] = (await rest.client.get(f"/webhooks/{webhook_id}")).json()
            if "delivery" in shown:
                return shown
            await trio.lowlevel.checkpoint()


async def stored(rest: Rest, webhook_id: str) -> Any:
    return await rest.engine.store.webhook("demo", webhook_id)


async def commit(rest: Rest, *rows: WebhookRow) -> None:
    """Write webhooks as they are, past the door."""
    await rest.engine.gateway.administer(
        "demo",
        lambda ask_id: AdministerTenant(
            ask_id=ask_id,
            tenant_id="demo",
            actor=Actor("engine", None, None),
            kind="webhook.paused",
            data=b"{}",
            facts=b"{}",
            webhooks=rows,
        ),
    )


async def entries(rest: Rest) -> list[Any]:
    heads = await rest.engine.store.heads(["demo"])
    seqs = range(1, heads["demo"].next_seq) if heads else range(0)
    return list(await rest.engine.store.entries("demo", list(seqs)))


async def test_a_webhook_is_made_with_its_secret_and_shown_without(rest: Rest) -> None:
    answer = await post(rest, {"url": URL, "types": ["job.*", "run.failed", "job.*"]})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"].endswith(f"/webhooks/{made['webhookId']}")
    assert answer.headers["ETag"] == '"1"'
    assert made["secret"].startswith("jws_")
    assert made["types"] == ["job.*", "run.failed"]
    assert (made["state"], made["reason"], made["wrapping"]) == ("active", None, "none")
    shown = await shown_with_delivery(rest, made["webhookId"])
    (listed,) = (await rest.client.get("/webhooks")).json()["items"]
    assert shown["delivery"].pop("recent") == []
    assert shown["delivery"].keys() == listed["delivery"].keys()
    # How far it has come moves on by itself.
    assert {**shown, "delivery": None} == {**listed, "delivery": None}
    assert {name: v for name, v in shown.items() if name != "delivery"} == {
        name: v for name, v in made.items() if name != "secret"
    }


async def test_a_secret_is_kept_sealed_and_is_in_no_entry_and_no_repeat(rest: Rest) -> None:
    body = {"url": URL, "secret": SECRET, "description": "for the tests"}
    first = await post(rest, body, **{"Idempotency-Key": "k"})
    assert first.json()["secret"] == SECRET
    again = await post(rest, body, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == {name: v for name, v in first.json().items() if name != "secret"}
    webhook_id = first.json()["webhookId"]
    kept = (await stored(rest, webhook_id)).secret
    assert rest.front.vault.open("demo", webhook_id, kept).decode() == SECRET
    await rest.operate(f"/webhooks/{webhook_id}:rotateSecret", json={"secret": SECRET + "!"})
    blocks = await rest.engine.store.blocks("demo", 0, 10, 1 << 20)
    said = b"".join(block.body for block in blocks).decode()
    for hidden in (SECRET, base64.b64encode(kept).decode(), "t0ken", "s3cret"):
        assert hidden not in said
    assert "https://hooks.example.com/" in said
    other = await post(rest, {**body, "secret": SECRET * 2}, **{"Idempotency-Key": "k"})
    assert refused(other, 422, "IDEMPOTENCY_MISMATCH")


async def test_every_change_is_an_entry_with_actor_reason_and_ticket(rest: Rest) -> None:
    path = f"/webhooks/{(await create(rest))['webhookId']}"
    assert (await rest.operate(f"{path}:pause")).json()["reason"] == "paused_by_operator"
    assert (await rest.operate(f"{path}:resume")).json()["state"] == "active"
    await rest.client.patch(path, json={"types": ["job.failed"]}, headers=SIGNED)
    await rest.operate(f"{path}:rotateSecret")
    gone = await rest.client.delete(path, headers=SIGNED)
    assert gone.json()["name"] == path.rpartition("/")[2]
    found = await entries(rest)
    assert [entry.kind.removeprefix("webhook.") for entry in found] == [
        "created", "paused", "resumed", "updated", "secret_rotated", "deleted"
    ]  # fmt: skip
    assert {(entry.actor, entry.reason_given, entry.ticket) for entry in found} == {
        ("tester", "a test", "T-1")
    }
    assert refused(await rest.client.get(path), 404, "NOT_FOUND", "webhookId")
    assert refused(await rest.client.delete(path, headers=SIGNED), 404, "NOT_FOUND")


async def test_what_is_so_already_is_answered_and_not_recorded(rest: Rest) -> None:
    made = await create(rest)
    path = f"/webhooks/{made['webhookId']}"
    resumed = await rest.operate(f"{path}:resume")
    assert (resumed.status_code, resumed.json()["revision"]) == (200, 1)
    same = await patch(rest, made["webhookId"], {"url": URL, "description": None})
    assert same.json()["revision"] == 1
    await rest.operate(f"{path}:pause")
    assert (await rest.operate(f"{path}:pause")).json()["revision"] == 2
    assert [entry.kind for entry in await entries(rest)] == ["webhook.created", "webhook.paused"]


SENSELESS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "url", "required"),
    ({"url": "ftp://hooks.example.com"}, "url", "https://"),
    ({"url": "http://hooks.example.com"}, "url", "https://"),
    ({"url": "https://u:p@hooks.example.com"}, "url", "user or password"),
    ({"url": "https://hooks.example.com/#x"}, "url", "fragment"),
    ({"url": "https://127.0.0.1/in"}, "url", "webhook_allow"),
    ({"url": "https://[::ffff:10.0.0.1]/in"}, "url", "webhook_allow"),
    ({"url": "https://169.254.169.254/latest"}, "url", "webhook_allow"),
    ({"url": "https://2130706433/"}, "url", "no host name"),
    ({"url": "https://localhost/"}, "url", "no host name"),
    ({"url": "https://hooks..example.com/"}, "url", "empty label"),
    ({"url": "https://xn--a.com/"}, "url", "not a URL"),
    ({"url": "hooks.example.com"}, "url", "https://"),
    ({"url": "https://hooks.example.com/" + "a" * 2048}, "url", "2048"),
    ({"url": URL, "types": ["job.complete"]}, "types[0]", "job.completed"),
    ({"url": URL, "types": ["job.failed", "jobs.*"]}, "types[1]", "job.*"),
    ({"url": URL, "types": ["webhook.test"]}, "types[0]", "webhook.test"),
    ({"url": URL, "types": ["slo.*"]}, "types[0]", "slo.*"),
    ({"url": URL, "types": ["JOB"]}, "types[0]", "form"),
    ({"url": URL, "secret": "short"}, "secret", "16"),
    ({"url": URL, "secret": "a" * 257}, "secret", "256"),
    ({"url": URL, "secret": "with a blank in it"}, "secret", "form"),
    ({"url": URL, "wrapping": "jws"}, "wrapping", "jws"),
    ({"url": URL, "description": "a\nb"}, "description", "cannot be shown"),
    ({"url": URL, "after": 999}, "after", "newest event, 0"),
    ({"url": URL, "after": -1}, "after", "0"),
    ({"url": URL, "after": "now"}, "after", "now"),
    ({"url": URL, "projectId": "p"}, "projectId", "remove it"),
]
"""A body, the field that is named, and what is said of it."""


async def test_a_webhook_that_makes_no_sense_is_not_made(rest: Rest) -> None:
    for body, path, says in SENSELESS:
        answer = await post(rest, body)
        assert says in refused(answer, 400, "INVALID_FIELD", path)
        if "secret" in body:
            assert body["secret"] not in answer.text
    assert await rest.engine.store.webhook_list("demo", None, 10) == []


async def test_a_patch_is_checked_like_a_new_one(rest: Rest) -> None:
    webhook_id = (await create(rest))["webhookId"]
    for body, path in (
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": None}, "url"),
        ({"types": ["nothing.*"]}, "types[0]"),
        ({"secret": SECRET}, "secret"),
        ({"state": "paused"}, "state"),
    ):
        assert refused(await patch(rest, webhook_id, body), 400, "INVALID_FIELD", path)
    assert (await stored(rest, webhook_id)).revision == 1
    changed = await patch(
        rest, webhook_id, {"url": "https://b.example/", "types": None, "wrapping": "dsse"}
    )
    assert changed.json()["url"] == "https://b.example/"
    assert (changed.json()["types"], changed.json()["wrapping"]) == ([], "dsse")


async def test_two_patches_at_once_both_take_effect(rest: Rest) -> None:
    webhook_id = (await create(rest))["webhookId"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patch, rest, webhook_id, {"description": "one"})
        nursery.start_soon(patch, rest, webhook_id, {"types": ["job.failed"]})
    webhook = await stored(rest, webhook_id)
    assert (webhook.description, webhook.types, webhook.revision) == ("one", ("job.failed",), 3)


async def test_a_patch_of_another_revision_is_refused(rest: Rest) -> None:
    webhook_id = (await create(rest))["webhookId"]
    first = await patch(rest, webhook_id, {"description": "one"}, **{"If-Match": '"1"'})
    assert first.headers["ETag"] == '"2"'
    late = await patch(rest, webhook_id, {"description": "two"}, **{"If-Match": '"1"'})
    assert "revision 2" in refused(late, 412, "REVISION_MISMATCH", "If-Match")
    kept = await rest.client.delete(
        f"/webhooks/{webhook_id}", headers={**SIGNED, "If-Match": '"1"'}
    )
    assert refused(kept, 412, "REVISION_MISMATCH")
    assert (await stored(rest, webhook_id)).description == "one"


async def test_a_pause_by_the_engine_and_a_patch_at_once_both_take_effect(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's pause is committed between the read and the commit of the patch."""
    webhook_id = (await create(rest))["webhookId"]
    present = await stored(rest, webhook_id)
    paused = msgspec.structs.replace(
        present, state=WebhookState.PAUSED, reason=PAUSED_BY_FAILURES, revision=2
    )
    monkeypatch.setattr(rest.engine.store, "webhook", _once_late(rest, paused))
    changed = (await patch(rest, webhook_id, {"description": "mine"})).json()
    assert (changed["state"], changed["description"]) == ("paused", "mine")
    assert (changed["reason"], changed["revision"]) == (PAUSED_BY_FAILURES, 3)


def _once_late(rest: Rest, paused: Any) -> Callable[..., Any]:
    """The store's read; behind the first of them somebody else changes what was read."""
    read, late = rest.engine.store.webhook, [paused]

    async def webhook(tenant_id: str, webhook_id: str) -> Any:
        found = await read(tenant_id, webhook_id)
        if late:
            await commit(rest, to_row(late.pop()))
        return found

    return webhook


async def test_a_webhook_begins_now_behind_a_seq_or_with_the_ledger(rest: Rest) -> None:
    await rest.submit()
    heads = await rest.engine.store.heads(["demo"])
    newest = heads["demo"].next_seq - 1
    for after, begins in ((None, newest), ("begin", 0), (1, 1)):
        body: dict[str, Any] = {} if after is None else {"after": after}
        made = await create(rest, **body)
        assert made["beginsAfterSeq"] in (begins, newest)
        newest += 1


async def test_resuming_further_on_leaves_out_what_lies_between(rest: Rest) -> None:
    webhook_id = (await create(rest, after="begin"))["webhookId"]
    path = f"/webhooks/{webhook_id}"
    active = await rest.operate(f"{path}:resume", json={"after": "now"})
    assert "pause it first" in refused(active, 409, "ILLEGAL_TRANSITION", "after")
    await rest.operate(f"{path}:pause")
    beyond = await rest.operate(f"{path}:resume", json={"after": 99})
    assert refused(beyond, 400, "INVALID_FIELD", "after")
    resumed = await rest.operate(f"{path}:resume", json={"after": "now"})
    assert resumed.json()["beginsAfterSeq"] == 2
    await rest.operate(f"{path}:pause")
    back = await rest.operate(f"{path}:resume", json={"after": 1})
    assert back.json()["beginsAfterSeq"] == 2


async def test_whoever_may_not_say_where_events_go_sees_no_paths(rest: Rest) -> None:
    webhook_id = (await create(rest))["webhookId"]
    reader = rest.headers(scopes=["orch:read", "orch:operate"])
    shown = await rest.client.get(f"/webhooks/{webhook_id}", headers=reader)
    assert shown.json()["url"] == "https://hooks.example.com/…"
    (listed,) = (await rest.client.get("/webhooks", headers=reader)).json()["items"]
    assert listed["url"] == "https://hooks.example.com/…"
    key = {"Idempotency-Key": "p"}
    for _ in range(2):
        paused = await rest.operate(f"/webhooks/{webhook_id}:pause", headers={**reader, **key})
        assert paused.json()["url"] == "https://hooks.example.com/…"
    forbidden = await rest.client.patch(
        f"/webhooks/{webhook_id}", json={"url": URL}, headers={**reader, **SIGNED}
    )
    assert refused(forbidden, 403, "SCOPE_REQUIRED")
    unsigned = await rest.client.post("/webhooks", json={"url": URL})
    assert refused(unsigned, 400, "AUDIT_REASON_REQUIRED")


async def test_a_repeat_of_an_act_changes_nothing_that_came_between(rest: Rest) -> None:
    path = f"/webhooks/{(await create(rest))['webhookId']}"
    key = {"Idempotency-Key": "once"}
    first = await rest.operate(f"{path}:pause", headers=key)
    await rest.operate(f"{path}:resume")
    again = await rest.operate(f"{path}:pause", headers=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert (await rest.client.get(path)).json()["state"] == "active"
    await rest.client.delete(path, headers=SIGNED)
    assert (await rest.operate(f"{path}:pause", headers=key)).content == first.content


async def test_a_tenant_has_so_many_webhooks_and_no_more(rest: Rest) -> None:
    webhooks_max = rest.front.limits.tenant_webhooks_max
    first = await stored(rest, (await create(rest))["webhookId"])
    more = [
        msgspec.structs.replace(first, webhook_id=rest.engine.gateway.new_id())
        for _ in range(webhooks_max - 3)
    ]
    await commit(rest, *map(to_row, more))
    answers: list[int] = []

    async def one_more() -> None:
        answers.append((await post(rest, {"url": URL})).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one_more)
    assert sorted(answers) == [201, 201, 429, 429]
    full = await post(rest, {"url": URL})
    assert "tenant_webhooks_max" in refused(full, 429, "CAPACITY_EXCEEDED")
    seen: list[str] = []
    query: dict[str, Any] = {"pageSize": 40}
    while True:
        page = (await rest.client.get("/webhooks", params=query)).json()
        seen += [item["webhookId"] for item in page["items"]]
        if page["nextPageToken"] is None:
            break
        query["pageToken"] = page["nextPageToken"]
    assert len(set(seen)) == webhooks_max
    assert seen == sorted(seen, reverse=True)


async def test_the_entry_of_a_webhook_says_what_was_set(rest: Rest) -> None:
    made = await create(rest, types=["run.*"], wrapping="dsse")
    (entry,) = await entries(rest)
    data = json.loads(bytes(entry.data))
    assert data["webhookId"] == made["webhookId"]
    assert (data["url"], data["types"]) == ("https://hooks.example.com/…", ["run.*"])
    assert (data["wrapping"], data["state"], data["revision"]) == ("dsse", "active", 1)
    assert data["urlDigest"].startswith("sha256:")
