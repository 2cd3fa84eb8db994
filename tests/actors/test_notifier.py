"""Webhooks over the real actors: with a receiver in memory in virtual time, and over sockets."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.actors.notifier import PostEvent
from jobengine.auth.keys import KeyRing
from jobengine.auth.vault import Vault
from jobengine.domain.event import Event, events_of
from jobengine.domain.webhook import (
    PAUSED_BY_FAILURES,
    PAUSED_BY_OPERATOR,
    Webhook,
    WebhookState,
    feed_of,
)
from jobengine.domain.webhook_records import to_row
from jobengine.engine import Engine
from jobengine.http.outgoing import policy_of
from jobengine.http.webhook_delivery import open_delivery, signature_of
from jobengine.messages.lease_shard import Actor, AdministerTenant
from jobengine.messages.notifier import Outcome
from jobengine.settings import Settings
from jobengine.store.feeds import FeedCursor
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import new_job, submit
from tests.http.receiver import Answer, Received, open_receiver

TENANT = "acme"
OK = Outcome(status=200)
BAD = Outcome(status=500, error="the answer has the status 500")
VIRTUAL = Settings(shards=2, webhook_failures_max=3, webhook_failing_s=5.0)


def webhook(webhook_id: str = "w1", tenant_id: str = TENANT, **fields: Any) -> Webhook:
    given: dict[str, Any] = {
        "url": "https://example.com/",
        "types": ("job.*",),
        "secret": b"sealed",
        "created_at": 1,
        "created_by": "ops",
        "changed_at": 1,
    }
    return Webhook(tenant_id=tenant_id, webhook_id=webhook_id, **given | fields)


async def put(
    engine: Engine, changed: Webhook, *, dropped: bool = False, told: bool = True
) -> None:
    """Commit a webhook as a door does it, and tell of it."""
    row = msgspec.structs.replace(to_row(changed), dropped=dropped)
    await engine.gateway.administer(
        changed.tenant_id,
        lambda ask_id: AdministerTenant(
            ask_id=ask_id,
            tenant_id=changed.tenant_id,
            actor=Actor("ops"),
            kind="webhook.deleted" if dropped else "webhook.updated",
            data=b"{}",
            facts=b"{}",
            webhooks=[row],
        ),
    )
    if not told:
        return
    if dropped:
        engine.gateway.webhook_dropped(changed.tenant_id, changed.webhook_id)
    else:
        engine.gateway.webhook_changed(changed)


async def happen(engine: Engine, jobs: int, tenant_id: str = TENANT) -> None:
    """Let jobs be created, one commit each."""
    for _ in range(jobs):
        await submit(engine, new_job(engine), tenant_id=tenant_id)


async def ledger(store: MemoryStore, tenant_id: str = TENANT) -> list[Event]:
    blocks = await store.blocks(tenant_id, 0, 10_000, 1 << 30)
    return [event for block in blocks for event in events_of(block)]


async def wanted(store: MemoryStore, tenant_id: str = TENANT) -> list[int]:
    """What a webhook of the tenant's jobs has to get."""
    return [event.seq for event in await ledger(store, tenant_id) if event.event_type[:4] == "job."]


async def said(store: MemoryStore, kind: str) -> list[dict[str, Any]]:
    """The data of the entries of a kind."""
    return [
        msgspec.json.decode(event.body)["data"]
        for event in await ledger(store)
        if event.event_type == kind
    ]


async def until(
    true: Callable[[], bool] | Callable[[], Awaitable[bool]], within_s: float = 60.0
) -> None:
    with trio.fail_after(within_s):
        while True:
            found = true()
            if found is True or (not isinstance(found, bool) and await found):
                return
            await trio.sleep(0.01)


class Inbox:
    """A `PostEvent` that keeps what it confirms, by webhook; `answer` says what becomes of one."""

    def __init__(self) -> None:
        self.got: dict[str, list[int]] = {}
        self.tried: list[tuple[str, int, int]] = []
        self.answer: Callable[[Webhook, Event], Awaitable[Outcome]] = self.confirm

    async def confirm(self, webhook: Webhook, event: Event) -> Outcome:
        await trio.sleep(0.01)
        return OK

    async def fail(self, webhook: Webhook, event: Event) -> Outcome:
        await trio.sleep(0.01)
        return BAD

    async def post(self, webhook: Webhook, event: Event, number: int) -> Outcome:
        self.tried.append((webhook.webhook_id, event.seq, number))
        outcome = await self.answer(webhook, event)
        if outcome.error is None:
            self.got.setdefault(webhook.webhook_id, []).append(event.seq)
        return outcome

    def of(self, webhook_id: str = "w1") -> list[int]:
        return self.got.get(webhook_id, [])


class KilledStore(MemoryStore):
    """A store that hears no more of cursors once the process is killed."""

    killed = False

    async def move_feed_cursors(self, cursors: Sequence[FeedCursor]) -> None:
        if not self.killed:
            await super().move_feed_cursors(cursors)


async def cursor_at(store: MemoryStore, webhook_id: str = "w1") -> int:
    found = await store.feed_cursors(TENANT, [feed_of(webhook_id)])
    return found[0].seq if found else 0


async def test_events_come_in_order_from_where_the_webhook_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await happen(engine, 3)
        await put(engine, webhook("from-begin"))
        await put(engine, webhook("from-here", begins_after_seq=2))
        await put(engine, webhook("failures", types=("job.failed",)))
        await happen(engine, 20)
        seqs = await wanted(store)
        await until(lambda: inbox.of("from-begin") == seqs)
        await until(lambda: inbox.of("from-here") == [seq for seq in seqs if seq > 2])
        assert inbox.of("failures") == []
        await until(lambda: _written_to(store, seqs[-1], "from-begin"))
        found = await engine.gateway.webhook_deliveries(TENANT, ["from-begin", "nobody's"])
        assert {name: each.delivered_total for name, each in found.items()} == {
            "from-begin": len(seqs)
        }


async def test_a_restart_goes_on_where_it_stopped_without_repeat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 30)
        await until(lambda: len(inbox.of()) > 10)
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await happen(engine, 5)
        seqs = await wanted(store)
        await until(lambda: inbox.of()[-1] == seqs[-1])
    assert inbox.of() == seqs


async def test_a_kill_repeats_only_what_was_confirmed_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = KilledStore(), Inbox()
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 40)
        before = await wanted(store)
        await until(lambda: _written_to(store, before[-1]))
        store.killed = True
        await happen(engine, 7)
        unwritten = (await wanted(store))[len(before) :]
        await until(lambda: inbox.of() == [*before, *unwritten])
    store.killed = False
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await happen(engine, 3)
        seqs = await wanted(store)
        await until(lambda: inbox.of()[-1] == seqs[-1])
    assert inbox.of() == [*before, *unwritten, *seqs[len(before) :]]


async def test_an_actor_that_fails_begins_again_and_loses_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobengine.engine.log_change", lambda _: None)
    store, inbox = MemoryStore(), Inbox()
    faults = [3, 9]

    async def faulty(webhook: Webhook, event: Event) -> Outcome:
        if event.seq in faults:
            faults.remove(event.seq)
            raise RuntimeError("a fault of ours")
        return await inbox.confirm(webhook, event)

    inbox.answer = faulty
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 15)
        seqs = await wanted(store)
        await until(lambda: inbox.of()[-1:] == seqs[-1:])
    assert inbox.of() == seqs
    assert faults == []


async def test_a_receiver_that_fails_is_paused_told_of_and_resumed_without_loss(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    inbox.answer = inbox.fail
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 4)
        await until(lambda: _is_paused(store))
        paused = await store.webhook(TENANT, "w1")
        assert paused is not None
        assert (paused.reason, paused.revision) == (PAUSED_BY_FAILURES, 2)
        (opened,) = await said(store, "incident.opened")
        (told,) = await said(store, "webhook.paused")
        assert opened["incidentId"] == "webhook-w1-2"
        assert opened["failures"] >= 3
        assert told["reason"] == PAUSED_BY_FAILURES
        tried = len(inbox.tried)
        await trio.sleep(1_000.0)
        assert len(inbox.tried) == tried
    inbox.answer = inbox.confirm
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await happen(engine, 2)
        await trio.sleep(10.0)
        assert inbox.of() == []
        assert await said(store, "incident.closed") == []
        resumed = msgspec.structs.replace(
            paused, state=WebhookState.ACTIVE, reason=None, revision=3
        )
        await put(engine, resumed)
        seqs = await wanted(store)
        await until(lambda: inbox.of() == seqs)
        (closed,) = await said(store, "incident.closed")
        assert closed["incidentId"] == opened["incidentId"]
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await trio.sleep(10.0)
        assert len(await said(store, "incident.closed")) == 1
        assert inbox.of() == seqs


async def _is_paused(store: MemoryStore) -> bool:
    found = await store.webhook(TENANT, "w1")
    return found is not None and found.state is WebhookState.PAUSED


async def test_a_resume_that_the_engine_did_not_hear_of_closes_the_incident_at_the_next_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    inbox.answer = inbox.fail
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 1)
        await until(lambda: _is_paused(store))
        paused = await store.webhook(TENANT, "w1")
        assert paused is not None
        resumed = msgspec.structs.replace(paused, state=WebhookState.ACTIVE, revision=3)
        await put(engine, resumed, told=False)
        assert await said(store, "incident.closed") == []
    inbox.answer = inbox.confirm
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post):
        await until(lambda: len(inbox.of()) == 2)
        assert len(await said(store, "incident.closed")) == 1


async def test_a_pause_that_was_noted_last_is_closed_after_a_kill_only_if_it_was_recorded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    noted = FeedCursor(tenant_id=TENANT, feed=feed_of("w1"), seq=0, note=b'{"incident":2}')
    never, store, inbox = MemoryStore(), MemoryStore(), Inbox()
    async with memory_engine(store=never, settings=VIRTUAL) as engine:
        await put(engine, webhook())
        await put(engine, webhook(description="changed", revision=2), told=False)
    await never.move_feed_cursors([noted])
    async with memory_engine(store=never, settings=VIRTUAL, post_event=inbox.post) as engine:
        await happen(engine, 1)
        await until(lambda: len(inbox.of()) == 2)
    assert await said(never, "incident.closed") == []
    inbox.answer = inbox.fail
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 1)
        await until(lambda: _is_paused(store))
        await put(engine, webhook(revision=3), told=False)
    await store.move_feed_cursors([noted])
    inbox.answer = inbox.confirm
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post):
        await until(lambda: _has_closed(store))
    (opened,) = await said(store, "incident.opened")
    (closed,) = await said(store, "incident.closed")
    assert closed["incidentId"] == opened["incidentId"]


async def _has_closed(store: MemoryStore) -> bool:
    return len(await said(store, "incident.closed")) == 1


async def test_failures_before_a_restart_count_for_the_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    inbox.answer = inbox.fail
    patient = Settings(shards=2, webhook_failures_max=4, webhook_failing_s=0.0)
    async with memory_engine(store=store, settings=patient, post_event=inbox.post) as engine:
        await put(engine, webhook())
        await happen(engine, 1)
        await until(lambda: len(inbox.tried) == 3)
        await trio.sleep(0.1)
    assert not await _is_paused(store)
    async with memory_engine(store=store, settings=patient, post_event=inbox.post):
        await until(lambda: _is_paused(store))
    assert [number for _, _, number in inbox.tried] == [1, 2, 3, 4]


async def test_an_operators_pause_keeps_the_place_and_a_drop_gives_it_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, inbox = MemoryStore(), Inbox()
    async with memory_engine(store=store, settings=VIRTUAL, post_event=inbox.post) as engine:
        first = webhook()
        await put(engine, first)
        await happen(engine, 5)
        await until(lambda: len(inbox.of()) == 10)
        stopped = msgspec.structs.replace(
            first, state=WebhookState.PAUSED, reason=PAUSED_BY_OPERATOR, revision=2
        )
        await put(engine, stopped)
        await happen(engine, 5)
        await trio.sleep(5.0)
        assert len(inbox.of()) == 10
        await put(engine, msgspec.structs.replace(stopped, state=WebhookState.ACTIVE, revision=3))
        seqs = await wanted(store)
        await until(lambda: inbox.of() == seqs)
        await until(lambda: _written_to(store, seqs[-1]))
        await put(engine, msgspec.structs.replace(first, revision=4), dropped=True)
        await happen(engine, 3)
        await until(lambda: _forgotten(store))
        assert inbox.of() == seqs
        assert await engine.gateway.webhook_deliveries(TENANT, ["w1"]) == {}


async def _written_to(store: MemoryStore, seq: int, webhook_id: str = "w1") -> bool:
    return await cursor_at(store, webhook_id) >= seq


async def _forgotten(store: MemoryStore) -> bool:
    return not await store.feed_cursors(TENANT, [feed_of("w1")])


async def test_receivers_that_hang_delay_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Forty receivers hang for ten seconds a post, on eight places; ten answer at once."""
    inbox = Inbox()
    few = Settings(shards=2, webhook_deliveries_max=8)

    async def answer(webhook: Webhook, event: Event) -> Outcome:
        if webhook.webhook_id.startswith("dead"):
            await trio.sleep(10.0)
            return Outcome(error="no answer within 10 s")
        return await inbox.confirm(webhook, event)

    inbox.answer = answer
    async with memory_engine(settings=few, post_event=inbox.post) as engine:
        for number in range(40):
            await put(engine, webhook(f"dead-{number}", f"d{number}"))
            await happen(engine, 1, f"d{number}")
        await until(lambda: len({name for name, *_ in inbox.tried}) == 40, 200.0)
        began = trio.current_time()
        for number in range(10):
            await put(engine, webhook(f"live-{number}", f"l{number}"))
            await happen(engine, 5, f"l{number}")
        await until(lambda: all(len(inbox.of(f"live-{n}")) == 10 for n in range(10)))
        assert trio.current_time() - began < 5.0
        assert inbox.of("dead-0") == []


# ---- over real sockets

SECRET = b"whsec"


@asynccontextmanager
async def delivering(
    decide: Callable[[Received], Awaitable[Answer]], store: MemoryStore | None = None
) -> AsyncIterator[tuple[Engine, Any, Webhook]]:
    """An engine, a receiver that answers by `decide`, and a webhook from one to the other."""
    quick = Settings(shards=2, webhook_backoff_s_min=0.005, webhook_backoff_s_max=0.02)
    vault, ring = Vault(bytes(32)), KeyRing(Ed25519PrivateKey.generate())
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(open_receiver(decide))
        delivery = await stack.enter_async_context(
            open_delivery(
                policy_of("127.0.0.0/8"), vault, lambda: ring, timeout_s=0.3, deliveries_max=8
            )
        )
        post: PostEvent = delivery.post
        engine = await stack.enter_async_context(
            memory_engine(store=store, settings=quick, post_event=post)
        )
        to = webhook(url=receiver.url, secret=vault.seal(TENANT, "w1", SECRET))
        await put(engine, to)
        yield engine, receiver, to


async def test_over_sockets_every_event_arrives_in_order_whatever_the_receiver_does() -> None:
    answers = [
        Answer(status=500), Answer(reset=True), Answer(), Answer(wait_s=5.0), Answer(),
        Answer(status=302, headers=(("location", "/elsewhere"),)), Answer(status=200),
        Answer(status=200, body_bytes=256 << 10), Answer(status=404),
    ]  # fmt: skip
    confirmed: list[int] = []
    given = 0

    async def decide(request: Received) -> Answer:
        nonlocal given
        answer = answers[given] if given < len(answers) else Answer()
        given += 1
        assert request.headers["x-jobengine-signature"] == signature_of(SECRET, request.body)
        if answer.status < 300 and not answer.reset and not answer.wait_s:
            confirmed.append(msgspec.json.decode(request.body)["seq"])
        return answer

    store = MemoryStore()
    async with delivering(decide, store) as (engine, receiver, _):
        await happen(engine, 5)
        seqs = await wanted(store)
        await until(lambda: confirmed[-1:] == seqs[-1:], 20.0)
        found = await engine.gateway.webhook_deliveries(TENANT, ["w1"])
        assert confirmed == seqs
        assert {request.path for request in receiver.received} == {"/in"}
        statuses = {each.status for each in found["w1"].recent}
        assert statuses == {0, 200, 204, 302, 404, 500}


async def test_over_sockets_a_test_says_what_the_receiver_answered() -> None:
    async def decide(_: Received) -> Answer:
        return Answer(status=418)

    async with delivering(decide) as (engine, receiver, _):
        attempt = await engine.gateway.test_webhook(TENANT, "w1")
        (request,) = receiver.received
    assert (attempt.seq, attempt.status, attempt.event_type) == (0, 418, "webhook.test")
    assert msgspec.json.decode(request.body)["eventId"] == "urn:orch:event:acme:0"


@pytest.mark.parametrize("tenants", [6])
async def test_over_sockets_many_tenants_are_served_alike(tenants: int) -> None:
    async def confirm(_: Received) -> Answer:
        return Answer()

    async with delivering(confirm) as (engine, receiver, to):
        vault = Vault(bytes(32))
        for number in range(tenants):
            name = f"t{number}"
            secret = vault.seal(name, name, SECRET)
            await put(engine, webhook(name, name, url=to.url, secret=secret))
            await happen(engine, 5, name)
        await until(lambda: len(receiver.received) == 10 * tenants, 20.0)
        by_tenant: dict[str, list[int]] = {}
        for request in receiver.received:
            envelope = msgspec.json.decode(request.body)
            by_tenant.setdefault(envelope["tenantId"], []).append(envelope["seq"])
        assert len(by_tenant) == tenants
        assert all(seqs == sorted(seqs) for seqs in by_tenant.values())
