"""Shell of the notifier: feeds from the gateway, posts by the door that knows HTTP, entries by the
shards, cursors by the store.

I1  Starting waits for none of it: the node serves while webhooks are still being read.
I2  What was confirmed and not yet written is written when the life ends, if the store answers soon;
    where it is killed, receivers get the last few events again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, Final

import attrs
import structlog
import trio

from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks, AskTimeoutError
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError
from jobengine.actors.runtime.shell import Perform, SlowCalls, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.notifier import ENGINE, Notifier, NotifierCounts, NotifierLimits, pause_in_doubt
from jobengine.domain.errors import Refusal, RefusedError
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EventFilter
from jobengine.domain.ids import shard_of
from jobengine.domain.webhook import Webhook, feed_of
from jobengine.messages.lease_shard import Actor, AdministerTenant, IdempotencyClaim
from jobengine.messages.ledger import Fence
from jobengine.messages.ledger import Message as LedgerMessage
from jobengine.messages.notifier import (
    CloseFeed,
    Cursor,
    CursorsMoved,
    CursorsUnmoved,
    Fed,
    FeedOn,
    FeedRefused,
    ForgetCursors,
    Message,
    MoveCursors,
    OpenFeed,
    Outcome,
    Post,
    Posted,
    Record,
    Recorded,
    Recovered,
    Unrecorded,
)
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.feeds import FeedCursor
from jobengine.store.port import Store

__all__ = ["NotifierActor", "PostEvent", "ReadEvents", "no_way_out"]

ReadEvents = Callable[[str, int, EventFilter], AsyncGenerator[Batch, None]]
"""A tenant's events after a cursor, for ever; used within ``aclosing``."""
PostEvent = Callable[[Webhook, Event, int], Awaitable[Outcome]]
"""Send an event, the so-maniest attempt at it, within a bounded time. Raises nothing for what the
network or the receiver does."""

_PATIENCE_S: Final = 24 * 3600.0
"""Whoever asks a shard here has time: its answer comes with the commit, or when it restarts."""
_AGAIN_S: Final = 1.0
_LAST_WRITE_S: Final = 2.0
_PAGE: Final = 500
_CLAIMS_PATH: Final = "engine/webhooks"
_OPERATING: Final = (
    StoreUnavailableError,
    RefusedError,
    MailboxFullError,
    MailboxClosedError,
    ActorStoppedError,
    AskTimeoutError,
)

_log = structlog.get_logger("jobengine.webhooks")


async def no_way_out(webhook: Webhook, event: Event, number: int) -> Outcome:
    """The `PostEvent` of an engine without doors."""
    await trio.lowlevel.checkpoint()
    return Outcome(error="this engine has no way out for webhooks")


@attrs.define(eq=False)
class _Feed:
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    wanted: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(kw_only=True)
class NotifierActor:
    """``shards`` in the order in which ``shard_of`` numbers them."""

    mailbox: Mailbox[Message]
    shards: Sequence[Address[Any]]
    ledger: Address[LedgerMessage]
    store: Store
    clock: Clock
    asks: Asks
    limits: NotifierLimits
    events: ReadEvents
    post: PostEvent
    core: Notifier | None = attrs.field(init=False, default=None)
    """What decides in this life, for those who look."""
    _calls: SlowCalls[Message] = attrs.field(init=False)
    _feeds: dict[int, _Feed] = attrs.field(init=False, factory=dict)

    def counts(self) -> NotifierCounts:
        """What there is to measure; nothing while webhooks are being read."""
        return NotifierCounts() if self.core is None else self.core.counts()

    async def run(self, life: Life) -> None:
        """One life: wait until nothing of an earlier one is under way, read what there is, and go
        on with it."""
        core = Notifier(self.limits, life.incarnation)
        self._feeds.clear()
        perform: Perform = {
            OpenFeed: self._open_feed,
            FeedOn: self._feed_on,
            CloseFeed: self._close_feed,
            Post: self._post,
            Record: self._record,
            MoveCursors: self._move_cursors,
            ForgetCursors: self._forget_cursors,
        }
        life.ready()
        await self.ledger.ask(lambda ask_id: Fence(ask_id=ask_id), _PATIENCE_S)
        recovered = await self._recovered()
        try:
            async with open_calls(self.mailbox, _OPERATING) as self._calls:
                self.core = core
                for command in core.handle(recovered, self.clock.moment()):
                    perform[type(command)](command)
                await run_shell(core, self.mailbox, perform, self.clock, asks=self.asks)
        finally:
            self.core = None
            await self._write_last(core)

    # ---- the beginning and the end of a life

    async def _recovered(self) -> Recovered:
        """A database that is away is no failure: there will be one again."""
        webhooks: list[Webhook] = []
        cursors: list[Cursor] = []
        pauses: set[str] = set()
        while True:
            last = webhooks[-1] if webhooks else None
            after = None if last is None else (last.tenant_id, last.webhook_id)
            try:
                page = await self.store.webhooks_of_all(after, _PAGE)
                found = await self._cursors_of(page)
                pauses |= await self._pauses_of(found)
            except StoreUnavailableError:
                await trio.sleep(_AGAIN_S)
                continue
            webhooks.extend(page)
            cursors.extend(found)
            if len(page) < _PAGE:
                return Recovered(webhooks=webhooks, cursors=cursors, pauses=frozenset(pauses))

    async def _cursors_of(self, webhooks: Sequence[Webhook]) -> list[Cursor]:
        found: list[Cursor] = []
        for tenant_id, of_tenant in groupby(webhooks, key=lambda each: each.tenant_id):
            names = {feed_of(each.webhook_id): each.webhook_id for each in of_tenant}
            found += [
                Cursor(
                    tenant_id=tenant_id,
                    webhook_id=names[cursor.feed],
                    seq=cursor.seq,
                    note=cursor.note,
                    at=cursor.at,
                )
                for cursor in await self.store.feed_cursors(tenant_id, list(names))
            ]
        return found

    async def _pauses_of(self, cursors: Sequence[Cursor]) -> set[str]:
        """The keys of pauses that cursors leave in doubt and that were recorded."""
        doubts: dict[str, list[tuple[str, str]]] = {}
        for cursor in cursors:
            key = pause_in_doubt(cursor)
            if key is not None:
                doubts.setdefault(cursor.tenant_id, []).append((key, _CLAIMS_PATH))
        recorded: set[str] = set()
        for tenant_id, claims in doubts.items():
            taken = await self.store.claims(tenant_id, (), claims, self.clock.moment().at)
            recorded.update(key for key, _ in taken.answers)
        return recorded

    async def _write_last(self, core: Notifier) -> None:
        """I2"""
        cursors = core.unwritten(self.clock.moment().at)
        if not cursors:
            return
        with trio.move_on_after(_LAST_WRITE_S, shield=True):
            try:
                await self.store.move_feed_cursors(_stored(cursors))
            except StoreUnavailableError:
                _log.warning("webhook_cursors_not_written", webhooks=len(cursors))

    # ---- feeds

    def _open_feed(self, command: OpenFeed) -> None:
        feed = self._feeds[command.feed_id] = _Feed()
        refused = FeedRefused(feed_id=command.feed_id)
        self._calls.spawn(self._read, command, feed, failed=lambda _: refused)

    async def _read(self, command: OpenFeed, feed: _Feed) -> Message | None:
        with feed.scope:
            wanted = EventFilter.of(command.types)
            async with aclosing(
                self.events(command.tenant_id, command.after_seq, wanted)
            ) as batches:
                async for batch in batches:
                    feed.wanted = trio.Event()
                    self.mailbox.deliver(Fed(command.feed_id, batch))
                    await feed.wanted.wait()
        return None

    def _feed_on(self, command: FeedOn) -> None:
        feed = self._feeds.get(command.feed_id)
        if feed is not None:
            feed.wanted.set()

    def _close_feed(self, command: CloseFeed) -> None:
        feed = self._feeds.pop(command.feed_id, None)
        if feed is not None:
            feed.scope.cancel()

    # ---- posts

    def _post(self, command: Post) -> None:
        async def post() -> Message:
            outcome = await self.post(command.webhook, command.event, command.number)
            return Posted(command.stamp, outcome)

        self._calls.spawn(
            post, failed=lambda error: Posted(command.stamp, Outcome(error=str(error)))
        )

    # ---- the ledger

    def _record(self, command: Record) -> None:
        async def record() -> Message:
            tenant_id, webhook_id = command.tenant_id, command.webhook_id
            shard = self.shards[shard_of(tenant_id, len(self.shards))]
            answer = await shard.ask(lambda ask_id: _administer(ask_id, command), _PATIENCE_S)
            if isinstance(answer, Refusal):
                _log.warning("webhook_not_recorded", webhook=webhook_id, reason=answer.message)
                return Unrecorded(stamp=command.stamp)
            webhook = await self.store.webhook(tenant_id, webhook_id)
            _log.info("webhook_recorded", webhook=webhook_id, kind=command.entries[0][0])
            return Recorded(stamp=command.stamp, webhook=webhook)

        self._calls.spawn(record, failed=lambda _: Unrecorded(stamp=command.stamp))

    # ---- cursors

    def _move_cursors(self, command: MoveCursors) -> None:
        async def move() -> Message:
            await self.store.move_feed_cursors(_stored(command.cursors))
            return CursorsMoved(stamp=command.stamp)

        self._calls.spawn(move, failed=lambda _: CursorsUnmoved(stamp=command.stamp))

    def _forget_cursors(self, command: ForgetCursors) -> None:
        async def forget() -> Message:
            for tenant_id, webhook_id in command.webhooks:
                await self.store.forget_feed(tenant_id, feed_of(webhook_id))
            return CursorsMoved(stamp=command.stamp)

        self._calls.spawn(forget, failed=lambda _: CursorsUnmoved(stamp=command.stamp))


def _stored(cursors: Sequence[Cursor]) -> list[FeedCursor]:
    return [
        FeedCursor(
            tenant_id=each.tenant_id,
            feed=feed_of(each.webhook_id),
            seq=each.seq,
            note=each.note,
            at=each.at,
        )
        for each in cursors
    ]


def _administer(ask_id: int, command: Record) -> AdministerTenant:
    (kind, data), *also = command.entries
    return AdministerTenant(
        ask_id=ask_id,
        tenant_id=command.tenant_id,
        actor=Actor(ENGINE),
        kind=kind,
        data=data,
        facts=b"{}",
        webhooks=() if command.row is None else (command.row,),
        also=also,
        claim=IdempotencyClaim(command.key, _CLAIMS_PATH, command.key),
    )
