"""The notifier's decisions, in virtual time: order, backoff, pauses, incidents, turns, cursors."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.machine import Answer
from jobengine.core.notifier import Notifier, NotifierLimits
from jobengine.domain.entry import GENESIS, Block, Entry, encode_entries
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.event import Event, events_of
from jobengine.domain.event_batch import Batch
from jobengine.domain.instant import SECOND, Moment
from jobengine.domain.webhook import PAUSED_BY_FAILURES, PAUSED_BY_OPERATOR, Webhook, WebhookState
from jobengine.domain.webhook_records import to_webhook
from jobengine.messages.notifier import (
    Attempt,
    CloseFeed,
    Cursor,
    CursorsMoved,
    CursorsUnmoved,
    Delivery,
    Fed,
    FeedOn,
    FeedRefused,
    ForgetCursors,
    MoveCursors,
    OpenFeed,
    Outcome,
    Post,
    Posted,
    ReadDeliveries,
    Record,
    Recorded,
    Recovered,
    Unrecorded,
    WebhookChanged,
    WebhookDropped,
)
from jobengine.messages.notifier import TestWebhook as SendTest
from jobengine.messages.wake import Wake

T = TypeVar("T")
T0 = 1_800_000_000 * SECOND
OK = Outcome(status=200)
BAD = Outcome(status=500, error="the answer has the status 500")
GONE = Outcome(status=410, error="the answer has the status 410", gone=True)


def webhook(webhook_id: str = "w1", tenant_id: str = "acme", **fields: Any) -> Webhook:
    given: dict[str, Any] = {
        "url": "https://example.com/in/s3cret?token=s3cret",
        "secret": b"sealed",
        "created_at": T0,
        "created_by": "ops",
        "changed_at": T0,
    }
    return Webhook(tenant_id=tenant_id, webhook_id=webhook_id, **given | fields)


def after(earlier: Webhook, **changes: Any) -> Webhook:
    return msgspec.structs.replace(earlier, revision=earlier.revision + 1, **changes)


def events(first: int, last: int, tenant_id: str = "acme") -> list[Event]:
    entries = [Entry(actor="a", at=T0, kind="job.x", seq=seq) for seq in range(first, last + 1)]
    body = encode_entries(entries)
    block = Block(
        tenant_id=tenant_id, first_seq=first, last_seq=last, at=T0, previous=GENESIS, link=GENESIS,
        body=body,
    )  # fmt: skip
    return events_of(block)


class World:
    """The notifier, and what it has commanded that nobody has answered yet."""

    def __init__(self, *, incarnation: int = 1, **limits: Any) -> None:
        self.core = Notifier(NotifierLimits(**limits), incarnation)
        self.mono = 100.0
        self.open: list[Any] = []
        self.done: list[Any] = []

    @property
    def now(self) -> Moment:
        return Moment(self.mono, T0 + round((self.mono - 100.0) * SECOND))

    def tell(self, message: Any) -> None:
        commands = self.core.handle(message, self.now)
        self.open += commands

    def recover(
        self, *webhooks: Webhook, cursors: Sequence[Cursor] = (), pauses: Collection[str] = ()
    ) -> None:
        self.tell(Recovered(webhooks=webhooks, cursors=cursors, pauses=frozenset(pauses)))

    def change(self, changed: Webhook) -> None:
        self.tell(WebhookChanged(webhook=changed))

    def take(self, kind: type[T], wanted: Callable[[T], bool] = lambda _: True) -> T:
        """The first command of a kind that was not taken yet."""
        for place, command in enumerate(self.open):
            if isinstance(command, kind) and wanted(command):
                del self.open[place]
                return command
        raise AssertionError(f"no {kind.__name__} in {self.open}")

    def none(self, *kinds: type) -> None:
        assert not [each for each in self.open if isinstance(each, kinds)], self.open

    def feed(self, opened: OpenFeed, first: int, last: int, through: int = 0) -> None:
        batch = Batch(
            tenant_id=opened.tenant_id,
            after_seq=first - 1,
            through_seq=through or last,
            events=events(first, last, opened.tenant_id) if last >= first else [],
        )
        self.tell(Fed(opened.feed_id, batch))

    def answer(self, outcome: Outcome = OK) -> Post:
        post = self.take(Post)
        self.tell(Posted(post.stamp, outcome))
        return post

    def pass_time(self, seconds: float) -> None:
        """Step by step, wherever the core wants to be woken."""
        until = self.mono + seconds
        while (at := self.core.wakeup_at) is not None and at <= until:
            self.mono = max(self.mono, at)
            self.tell(Wake())
        self.mono = until

    def write(self) -> dict[str, Cursor]:
        """Let the cursors be written that wait for it."""
        self.pass_time(2.0)
        command = self.take(MoveCursors)
        self.tell(CursorsMoved(stamp=command.stamp))
        return {each.webhook_id: each for each in command.cursors}

    def delivery(self, webhook_id: str = "w1", tenant_id: str = "acme") -> Delivery:
        self.tell(ReadDeliveries(ask_id=7, tenant_id=tenant_id, webhook_ids=[webhook_id]))
        found: Delivery = self.take(Answer).value.deliveries[webhook_id]
        return found

    def settle(self) -> None:
        """Let whatever is being written be stored."""
        for command in [each for each in self.open if isinstance(each, MoveCursors)]:
            self.open.remove(command)
            self.tell(CursorsMoved(stamp=command.stamp))

    def fail_until_paused(self) -> Record:
        """Fail each attempt until the notifier wants to pause the webhook."""
        while not any(isinstance(each, Record) for each in self.open):
            if any(isinstance(each, Post) for each in self.open):
                self.answer(BAD)
            self.pass_time(1.0)
            self.settle()
        return self.take(Record)


@pytest.fixture
def world() -> World:
    return World()


def test_an_event_is_posted_when_the_one_before_was_confirmed(world: World) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    assert (opened.tenant_id, opened.after_seq, opened.types) == ("acme", 0, ())
    world.feed(opened, 1, 3)
    for seq in (1, 2, 3):
        world.none(FeedOn)
        post = world.take(Post)
        world.none(Post)
        assert (post.event.seq, post.number) == (seq, 1)
        world.tell(Posted(post.stamp, OK))
    assert world.take(FeedOn).feed_id == opened.feed_id
    world.none(Post)
    assert world.delivery().delivered_seq == 3
    assert world.delivery().delivered_total == 3


def test_a_webhook_begins_after_its_seq_or_where_its_cursor_stands(world: World) -> None:
    cursor = Cursor(tenant_id="acme", webhook_id="w1", seq=40, note=b"{}", at=T0)
    world.recover(webhook("w1", begins_after_seq=7), webhook("w2", begins_after_seq=7),
                  cursors=[cursor])  # fmt: skip
    assert [world.take(OpenFeed).after_seq, world.take(OpenFeed).after_seq] == [40, 7]


def test_a_failed_event_is_posted_again_and_nothing_overtakes_it(world: World) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 2)
    waits = []
    for number in range(1, 12):
        post = world.answer(BAD)
        assert (post.event.seq, post.number) == (1, number)
        world.none(Post)
        at = world.core.wakeup_at
        assert at is not None
        began = world.mono
        while not any(isinstance(each, Post) for each in world.open):
            world.pass_time(0.25)
        waits.append(world.mono - began)
    for place, waited in enumerate(waits):
        whole = min(2.0**place, 300.0)
        assert whole / 2 <= waited <= whole + 0.25
    assert world.answer().event.seq == 1
    assert world.answer().event.seq == 2
    delivery = world.delivery()
    assert (delivery.failures, delivery.failing_since_at, delivery.next_at) == (0, None, None)
    assert [each.number for each in delivery.recent] == [*range(1, 13), 1]


def test_webhooks_that_fail_together_do_not_come_back_together(world: World) -> None:
    world.recover(*(webhook(f"w{number}") for number in range(8)))
    for _ in range(8):
        world.feed(world.take(OpenFeed), 1, 1)
        world.answer(BAD)
    due = {world.delivery(f"w{number}").next_at for number in range(8)}
    assert len(due) == 8


@pytest.mark.parametrize(("asked_s", "waits_s"), [(30.0, 30.0), (1e9, 3_600.0), (-5.0, 0.5)])
def test_a_receiver_is_left_alone_as_long_as_it_asks_up_to_a_bound(
    world: World, asked_s: float, waits_s: float
) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    world.answer(Outcome(status=503, error="busy", retry_after_s=asked_s))
    next_at = world.delivery().next_at
    assert next_at is not None
    assert waits_s <= (next_at - world.now.at) / SECOND <= max(1.0, waits_s)


def test_the_cursor_moves_over_what_nobody_wants_too(world: World) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    world.feed(opened, 1, 0, through=500)
    world.take(FeedOn)
    world.feed(opened, 501, 501, through=900)
    assert world.delivery().delivered_seq == 500
    world.answer()
    assert world.write()["w1"].seq == 900


def test_what_is_past_retention_is_told_and_passed_over(world: World) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    batch = Batch(tenant_id="acme", after_seq=0, through_seq=11, events=events(11, 11), gap=(1, 10))
    world.tell(Fed(opened.feed_id, batch))
    assert world.answer().event.seq == 11
    assert "1 to 10 are past retention" in (world.delivery().recent[0].error or "")
    assert world.core.counts().missed_total == 10


def test_cursors_of_many_webhooks_are_written_together_once_a_second(world: World) -> None:
    world.recover(*(webhook(f"w{number}") for number in range(3)))
    feeds = [world.take(OpenFeed) for _ in range(3)]
    for opened in feeds:
        world.feed(opened, 1, 4)
    for _ in range(12):
        world.answer()
    world.none(MoveCursors)
    assert {name: each.seq for name, each in world.write().items()} == {"w0": 4, "w1": 4, "w2": 4}
    world.pass_time(60.0)
    world.none(MoveCursors)


def test_a_write_that_failed_is_made_again_with_what_is_true_by_then(world: World) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 2)
    world.answer()
    world.pass_time(1.5)
    world.answer()
    world.tell(CursorsUnmoved(stamp=world.take(MoveCursors).stamp))
    assert [each.seq for each in world.core.unwritten(T0)] == [2]
    assert world.write()["w1"].seq == 2
    assert world.core.unwritten(T0) == []


def test_a_pause_takes_many_failures_and_a_long_time(world: World) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    for _ in range(19):
        world.answer(Outcome(error="refused", retry_after_s=400.0))
        world.pass_time(450.0)
        world.settle()
        world.none(Record)
    world.answer(BAD)
    world.settle()
    assert world.take(Record).entries[0][0] == "webhook.paused"


def test_many_quick_failures_do_not_pause_before_the_time_is_over() -> None:
    world = World(failures_max=3, failing_s=60.0)
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    began = world.mono
    world.fail_until_paused()
    assert 60.0 <= world.mono - began < 300.0
    assert world.delivery().failures > 3


def test_a_pause_opens_an_incident_in_the_same_commit_and_posts_nothing_more(
    world: World,
) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    world.feed(opened, 1, 2)
    world.answer(GONE)
    move = world.take(MoveCursors)
    world.none(Record)
    world.tell(CursorsMoved(stamp=move.stamp))
    record = world.take(Record)
    (paused, about), (incident, facts) = record.entries
    assert (paused, incident) == ("webhook.paused", "incident.opened")
    assert b"s3cret" not in about + facts
    assert msgspec.json.decode(facts) == {
        "incidentId": "webhook-w1-2",
        "kind": "webhook_paused",
        "webhookId": "w1",
        "url": "https://example.com",
        "reason": PAUSED_BY_FAILURES,
        "error": "the answer has the status 410",
        "failures": 1,
        "since": "2027-01-15T08:00:00.000Z",
        "openedAt": "2027-01-15T08:00:00.000Z",
    }
    assert record.row is not None
    stored = to_webhook(record.row)
    assert (stored.state, stored.reason, stored.revision) == (
        WebhookState.PAUSED, PAUSED_BY_FAILURES, 2
    )  # fmt: skip
    world.tell(Recorded(stamp=record.stamp, webhook=stored))
    world.take(CloseFeed)
    world.pass_time(10_000.0)
    world.none(Post, Record, OpenFeed)
    assert world.core.counts().paused == 1


def paused(world: World) -> Webhook:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 2)
    world.answer(GONE)
    world.tell(CursorsMoved(stamp=world.take(MoveCursors).stamp))
    record = world.take(Record)
    assert record.row is not None
    world.tell(Recorded(stamp=record.stamp, webhook=to_webhook(record.row)))
    world.take(CloseFeed)
    return to_webhook(record.row)


def test_a_resumed_webhook_closes_its_incident_and_goes_on_where_it_was(world: World) -> None:
    resumed = after(after(paused(world)), state=WebhookState.ACTIVE, reason=None)
    world.change(resumed)
    record = world.take(Record)
    ((kind, facts),) = record.entries
    assert (kind, msgspec.json.decode(facts)["incidentId"]) == ("incident.closed", "webhook-w1-2")
    assert record.row is None
    world.none(OpenFeed)
    world.tell(Recorded(stamp=record.stamp, webhook=resumed))
    opened = world.take(OpenFeed)
    assert opened.after_seq == 0
    world.feed(opened, 1, 2)
    post = world.answer()
    assert (post.event.seq, post.number) == (1, 2)
    assert world.write()["w1"].note == b"{}"


def test_a_resume_may_skip_events(world: World) -> None:
    skipped = after(paused(world), state=WebhookState.ACTIVE, begins_after_seq=80)
    world.change(skipped)
    world.tell(Recorded(stamp=world.take(Record).stamp, webhook=skipped))
    assert world.take(OpenFeed).after_seq == 80


def test_a_dropped_webhook_closes_its_incident_and_loses_its_cursor(world: World) -> None:
    paused(world)
    world.pass_time(3.0)
    world.tell(CursorsMoved(stamp=world.take(MoveCursors).stamp))
    world.tell(WebhookDropped(tenant_id="acme", webhook_id="w1"))
    record = world.take(Record)
    assert record.entries[0][0] == "incident.closed"
    world.none(ForgetCursors)
    world.tell(Recorded(stamp=record.stamp, webhook=None))
    assert world.take(ForgetCursors).webhooks == [("acme", "w1")]
    world.change(webhook(revision=9))
    world.none(OpenFeed)


def test_an_entry_that_was_not_answered_is_asked_again_under_its_key(world: World) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    world.answer(GONE)
    world.tell(CursorsMoved(stamp=world.take(MoveCursors).stamp))
    first = world.take(Record)
    world.tell(Unrecorded(stamp=first.stamp))
    world.none(Record)
    world.pass_time(1.5)
    again = world.take(Record)
    assert (again.key, again.stamp != first.stamp) == (first.key, True)


def test_a_pause_that_came_too_late_is_taken_back(world: World) -> None:
    """An operator's change had the revision first: the incident is closed, posts go on."""
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    world.answer(GONE)
    world.tell(CursorsMoved(stamp=world.take(MoveCursors).stamp))
    changed = after(webhook(), url="https://example.org/")
    world.tell(Recorded(stamp=world.take(Record).stamp, webhook=changed))
    closing = world.take(Record)
    assert closing.entries[0][0] == "incident.closed"
    world.tell(Recorded(stamp=closing.stamp, webhook=changed))
    assert world.take(Post).webhook == changed


def test_a_life_that_ended_within_a_pause_is_gone_on_with_by_the_next() -> None:
    note = b'{"failures":25,"since_at":%d,"incident":2}' % (T0 - 7_200 * SECOND)
    cursor = Cursor(tenant_id="acme", webhook_id="w1", seq=4, note=note, at=T0)
    before = World(incarnation=2)
    before.recover(webhook(), cursors=[cursor])
    before.none(Record)
    before.feed(before.take(OpenFeed), 5, 5)
    post = before.answer(BAD)
    assert post.number == 26
    assert b'"incident":2' in before.take(MoveCursors).cursors[0].note

    pauses = ["paused-webhook-w1-2"]
    during = World(incarnation=2)
    during.recover(after(webhook(), state=WebhookState.PAUSED), cursors=[cursor], pauses=pauses)
    during.none(Record, OpenFeed)
    known = during.write()["w1"]

    resumed = World(incarnation=3)
    resumed.recover(after(after(webhook())), cursors=[known])
    assert resumed.take(Record).entries[0][0] == "incident.closed"


def test_an_incident_that_was_noted_and_never_opened_is_not_closed_by_the_next_life() -> None:
    note = b'{"failures":25,"since_at":%d,"incident":2}' % (T0 - 7_200 * SECOND)
    cursor = Cursor(tenant_id="acme", webhook_id="w1", seq=4, note=note, at=T0)
    changed = after(webhook(), description="changed")
    world = World(incarnation=2)
    world.recover(changed, cursors=[cursor])
    world.feed(world.take(OpenFeed), 5, 5)
    world.answer()
    world.none(Record)
    assert world.write()["w1"].note == b"{}"


def test_a_change_of_the_url_ends_a_pause_that_was_not_recorded(world: World) -> None:
    world.recover(webhook())
    world.feed(world.take(OpenFeed), 1, 1)
    world.answer(GONE)
    move = world.take(MoveCursors)
    world.change(after(webhook(), url="https://example.org/"))
    world.tell(CursorsMoved(stamp=move.stamp))
    world.none(Record)
    assert world.take(Post).webhook.url == "https://example.org/"


def test_an_operators_pause_waits_for_the_post_under_way_and_keeps_the_cursor(
    world: World,
) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    world.feed(opened, 1, 3)
    stopped = after(webhook(), state=WebhookState.PAUSED, reason=PAUSED_BY_OPERATOR)
    world.change(stopped)
    world.none(CloseFeed)
    world.answer()
    assert world.take(CloseFeed).feed_id == opened.feed_id
    world.none(Post)
    world.feed(opened, 4, 5)
    world.change(after(stopped, state=WebhookState.ACTIVE))
    assert world.take(OpenFeed).after_seq == 1
    world.none(Record)


def test_other_types_are_read_from_where_the_webhook_stands(world: World) -> None:
    world.recover(webhook())
    opened = world.take(OpenFeed)
    world.feed(opened, 1, 3)
    world.answer()
    world.change(after(webhook(), types=("job.failed",)))
    world.answer()
    assert world.take(CloseFeed).feed_id == opened.feed_id
    again = world.take(OpenFeed)
    assert (again.after_seq, again.types) == (2, ("job.failed",))


def test_an_earlier_version_that_comes_late_changes_nothing(world: World) -> None:
    world.recover(after(webhook(), state=WebhookState.PAUSED))
    world.change(webhook())
    world.none(OpenFeed)


def test_a_feed_that_was_refused_is_opened_again_a_moment_later(world: World) -> None:
    world.recover(webhook())
    world.tell(FeedRefused(feed_id=world.take(OpenFeed).feed_id))
    world.none(OpenFeed)
    world.pass_time(1.1)
    world.take(OpenFeed)


def test_a_test_is_posted_at_once_also_to_a_paused_webhook(world: World) -> None:
    world.recover(webhook(state=WebhookState.PAUSED))
    world.tell(SendTest(ask_id=3, tenant_id="acme", webhook_id="w1"))
    post = world.take(Post)
    envelope = msgspec.json.decode(post.event.body)
    assert envelope["eventType"] == "webhook.test"
    assert (envelope["seq"], envelope["data"]) == (0, {"webhookId": "w1"})
    world.tell(Posted(post.stamp, BAD))
    answer = world.take(Answer)
    assert isinstance(answer.value, Attempt)
    assert (answer.ask_id, answer.value.seq, answer.value.status) == (3, 0, 500)
    assert world.delivery().failures == 0
    world.tell(SendTest(ask_id=4, tenant_id="globex", webhook_id="w1"))
    refusal = world.take(Answer).value
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.NOT_FOUND


def test_tests_are_bounded() -> None:
    world = World(tests_max=2)
    world.recover(webhook())
    for ask_id in range(3):
        world.tell(SendTest(ask_id=ask_id, tenant_id="acme", webhook_id="w1"))
    assert world.take(Answer).value.code is ErrorCode.OVERLOADED


def test_a_tenant_with_many_webhooks_leaves_places_to_the_others() -> None:
    world = World(deliveries_max=4)
    many = [webhook(f"w{number}", "acme") for number in range(20)]
    world.recover(*many, webhook("x", "globex"))
    feeds = [world.take(OpenFeed) for _ in range(21)]
    for opened in feeds[:20]:
        world.feed(opened, 1, 5)
    assert world.core.counts().in_flight == 2
    world.feed(feeds[20], 1, 1)
    world.take(Post, lambda post: post.webhook.tenant_id == "globex")
    assert world.core.counts().in_flight == 3


def test_receivers_that_fail_leave_half_of_the_places_to_the_others() -> None:
    world = World(deliveries_max=4)
    world.recover(*(webhook("w", f"t{number}") for number in range(12)))
    feeds = [world.take(OpenFeed) for _ in range(12)]
    for opened in feeds[:10]:
        world.feed(opened, 1, 9)
    for _ in range(10):
        world.answer(BAD)
    world.pass_time(5.0)
    assert world.core.counts().in_flight == 2
    for opened in feeds[10:]:
        world.feed(opened, 1, 1)
    brisk = {post.webhook.tenant_id for post in world.open if isinstance(post, Post)}
    assert brisk >= {"t10", "t11"}


def test_places_go_round_among_tenants() -> None:
    world = World(deliveries_max=1)
    world.recover(*(webhook(f"w{n}", tenant) for tenant in ("a", "b", "c") for n in range(3)))
    for _ in range(9):
        world.feed(world.take(OpenFeed), 1, 2)
    served = [world.answer().webhook.tenant_id for _ in range(18)]
    assert all(len(set(served[place : place + 3])) == 3 for place in range(1, 14))


step = st.one_of(
    st.tuples(st.just("post"), st.sampled_from([OK, OK, BAD, GONE])),
    st.tuples(st.just("feed"), st.integers(0, 3)),
    st.tuples(st.just("cursors"), st.booleans()),
    st.tuples(st.just("record"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.3, 2.0, 400.0])),
    st.tuples(st.just("operator"), st.sampled_from(["pause", "resume", "touch"])),
    st.tuples(st.just("crash"), st.booleans()),
)


class History:
    """One webhook over a ledger of its tenant, with a store, crashes, and an operator."""

    def __init__(self) -> None:
        self.stored = webhook()
        self.cursor: Cursor | None = None
        self.claimed: set[str] = set()
        self.entries: list[str] = []
        self.confirmed: list[int] = []
        self.feed: tuple[OpenFeed, int] | None = None
        self.wanted = False
        self.lives = 0
        self.world = World()
        self.begin()

    def begin(self) -> None:
        self.lives += 1
        mono = self.world.mono
        self.world = World(incarnation=self.lives, failures_max=2, failing_s=0.0)
        self.world.mono = mono
        self.feed = None
        cursors = [self.cursor] if self.cursor else []
        self.world.recover(self.stored, cursors=cursors, pauses=self.claimed)
        self.look()

    def look(self) -> None:
        """Follow what was commanded about feeds."""
        for command in list(self.world.open):
            if isinstance(command, OpenFeed):
                assert self.feed is None
                self.feed, self.wanted = (command, command.after_seq), True
            elif isinstance(command, FeedOn):
                self.wanted = True
            elif isinstance(command, CloseFeed):
                self.feed = None
            else:
                continue
            self.world.open.remove(command)
        assert len([each for each in self.world.open if isinstance(each, Post)]) <= 1

    def run(self, kind: str, value: Any) -> None:
        getattr(self, kind)(value)
        self.look()

    def post(self, outcome: Outcome) -> None:
        for command in [each for each in self.world.open if isinstance(each, Post)]:
            self.world.open.remove(command)
            if outcome.error is None:
                self.confirmed.append(command.event.seq)
            self.world.tell(Posted(command.stamp, outcome))

    def feed_(self, count: int) -> None:
        if self.feed is not None and self.wanted:
            opened, at = self.feed
            self.wanted = False
            self.feed = (opened, at + max(count, 1))
            batch = Batch(
                tenant_id="acme",
                after_seq=at,
                through_seq=at + max(count, 1),
                events=events(at + 1, at + count) if count else [],
            )
            if not count:
                self.confirmed.append(at + 1)  # nobody wants it
            self.world.tell(Fed(opened.feed_id, batch))

    def cursors(self, stored: bool) -> None:
        for command in [each for each in self.world.open if isinstance(each, MoveCursors)]:
            self.world.open.remove(command)
            if stored:
                (cursor,) = command.cursors
                if self.cursor is None or cursor.seq >= self.cursor.seq:
                    self.cursor = cursor
            kind = CursorsMoved if stored else CursorsUnmoved
            self.world.tell(kind(stamp=command.stamp))

    def record(self, answered: bool) -> None:
        for command in [each for each in self.world.open if isinstance(each, Record)]:
            self.world.open.remove(command)
            if command.key not in self.claimed:
                self.claimed.add(command.key)
                self.entries += [kind for kind, _ in command.entries]
                if command.row is not None and command.row.revision > self.stored.revision:
                    self.stored = to_webhook(command.row)
            if answered:
                self.world.tell(Recorded(stamp=command.stamp, webhook=self.stored))
            else:
                self.world.tell(Unrecorded(stamp=command.stamp))

    def time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def operator(self, act: str) -> None:
        before = self.stored
        active = before.state is WebhookState.ACTIVE
        if act == "pause" and active:
            changes: dict[str, Any] = {
                "state": WebhookState.PAUSED, "reason": PAUSED_BY_OPERATOR
            }  # fmt: skip
        elif act == "resume" and not active:
            changes = {"state": WebhookState.ACTIVE, "reason": None}
        else:
            changes = {"description": "touched"}
        self.stored = after(before, **changes)
        self.world.change(self.stored)

    def crash(self, _: bool) -> None:
        self.begin()


@settings(max_examples=100, deadline=None)
@given(st.lists(step, max_size=60))
def test_whatever_happens_events_are_confirmed_in_order_without_loss(
    steps: list[tuple[str, Any]],
) -> None:
    history = History()
    for kind, value in steps:
        history.run("feed_" if kind == "feed" else kind, value)
    heal(history)
    first: list[int] = list(dict.fromkeys(history.confirmed))
    assert first == sorted(first), "an event was confirmed before an earlier one"
    assert first == list(range(1, max(first) + 1)), "an event was left out"
    opened, closed = (history.entries.count(f"incident.{each}") for each in ("opened", "closed"))
    assert opened == closed == history.entries.count("webhook.paused")


def heal(history: History) -> None:
    """The receiver, the store and the operator do what they should, until all is quiet."""
    for _ in range(40):
        history.run("record", True)
        history.run("cursors", True)
        if history.stored.state is WebhookState.PAUSED:
            history.run("operator", "resume")
        history.run("post", OK)
        history.run("time", 4_000.0)
    history.run("feed_", 3)
    for _ in range(40):
        if history.feed is not None and history.feed[1] < max(history.confirmed, default=0):
            history.run("feed_", 3)
        history.run("post", OK)
        history.run("time", 2.0)
        history.run("cursors", True)
    assert history.cursor is not None
    assert history.cursor.seq == max(history.confirmed)
    assert history.cursor.note == b"{}"
