"""Shell of the broadcaster: hands batches to sinks, reads the ledger, and keeps the subscriptions.

I1  A subscription outlives the actor: each new life follows anew for it, from where it had come.
I2  A sink that raises is dropped; nobody else notices.
I3  The node has something else to do while a change waits for the database, too.

Not here: who is served from what (`core/broadcaster`), what a sink does (`http`, `reading`).
"""

import attrs
import structlog
from trio.testing import wait_all_tasks_blocked

from jobengine.actors.following import Sink, Subscription, Watcher
from jobengine.actors.node_state import LedgerState
from jobengine.actors.runtime.address import Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, SlowCalls, Wakeup, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.broadcaster import BroadcasterCore, BroadcasterLimits, Census
from jobengine.core.room import Room
from jobengine.domain.event_filter import EVERYTHING, EventFilter
from jobengine.domain.instant import Moment
from jobengine.messages.broadcaster import (
    Deliver,
    Follow,
    Full,
    Leave,
    LedgerRead,
    LedgerUnread,
    Message,
    ReadLedger,
    Roomy,
    Rounded,
    Spare,
    TellLogged,
    TellMoved,
    TimeRound,
    Unwatch,
    Watch,
)
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["BroadcasterActor", "Streams"]

_log = structlog.get_logger("jobengine.streams")


@attrs.define(kw_only=True, eq=False)
class _Reader:
    """A `Subscription`. `after_seq` is how far it has come; `full`: its sink has no room."""

    reader_id: int
    tenant_id: str
    after_seq: int
    sink: Sink
    wanted: EventFilter
    logs_of: str | None
    streams: "Streams"
    counted: bool
    full: bool = False

    def follow(self) -> Follow:
        return Follow(
            reader_id=self.reader_id,
            tenant_id=self.tenant_id,
            after_seq=self.after_seq,
            wanted=self.wanted,
            logs_of=self.logs_of,
        )

    def roomy(self) -> None:
        if self.full:
            self.full = False
            self.streams.mailbox.deliver(Roomy(reader_id=self.reader_id))

    def leave(self) -> None:
        self.streams.drop(self)


@attrs.define(kw_only=True, eq=False)
class _Watching:
    """A `Subscription` of a watcher."""

    watcher_id: int
    watcher: Watcher
    streams: "Streams"

    def roomy(self) -> None:
        """It is told in any case."""

    def leave(self) -> None:
        self.streams.drop_watcher(self)


class Streams:
    """Who follows what on this node. `readers_max` bounds those that come in by `follow`, and half
    of it those of one tenant. `sent_bytes` were sent between two rounds."""

    def __init__(self, mailbox: Mailbox[Message], readers_max: int) -> None:
        self.mailbox = mailbox
        self.readers: dict[int, _Reader] = {}
        self.watchers: dict[int, _Watching] = {}
        self.sent_bytes = 0
        self._room = Room(readers_max)
        self._last_id = 0

    def follow(
        self,
        tenant_id: str,
        after_seq: int,
        sink: Sink,
        wanted: EventFilter = EVERYTHING,
        logs_of: str | None = None,
    ) -> Subscription:
        """Give `sink` a tenant's events after a cursor, until `leave`. `logs_of` names the job, or
        `"*"` any, of whose log lines it is told. Nothing is given before this returns.

        Raises `RefusedError` (`OVERLOADED`) when the node has no room for readers, or none for
        more of this tenant.
        """
        self._room.require(tenant_id, "streams")
        self._room.enter(tenant_id)
        return self._add(tenant_id, after_seq, sink, wanted, logs_of, counted=True)

    def follow_within(
        self, tenant_id: str, after_seq: int, sink: Sink, wanted: EventFilter
    ) -> Subscription:
        """The same for the node's own consumers, which are bounded by what they are for."""
        return self._add(tenant_id, after_seq, sink, wanted, None, counted=False)

    def watch(self, watcher: Watcher) -> Subscription:
        """Tell `watcher` of every tenant whose ledger grows, until `leave`."""
        self._last_id += 1
        watching = _Watching(watcher_id=self._last_id, watcher=watcher, streams=self)
        self.watchers[watching.watcher_id] = watching
        self.mailbox.deliver(Watch(watcher_id=watching.watcher_id))
        return watching

    def sent(self, octets: int) -> None:
        """What a sink had kept was sent: streams cost the node that as well."""
        self.sent_bytes += octets

    def drop(self, reader: _Reader) -> None:
        if self.readers.pop(reader.reader_id, None) is not None:
            if reader.counted:
                self._room.leave(reader.tenant_id)
            self.mailbox.deliver(Leave(reader_id=reader.reader_id))

    def drop_watcher(self, watching: _Watching) -> None:
        if self.watchers.pop(watching.watcher_id, None) is not None:
            self.mailbox.deliver(Unwatch(watcher_id=watching.watcher_id))

    def _add(
        self,
        tenant_id: str,
        after_seq: int,
        sink: Sink,
        wanted: EventFilter,
        logs_of: str | None,
        *,
        counted: bool,
    ) -> _Reader:
        self._last_id += 1
        reader = _Reader(
            reader_id=self._last_id,
            tenant_id=tenant_id,
            after_seq=after_seq,
            sink=sink,
            wanted=wanted,
            logs_of=logs_of,
            streams=self,
            counted=counted,
        )
        self.readers[reader.reader_id] = reader
        self.mailbox.deliver(reader.follow())
        return reader


@attrs.define(kw_only=True)
class BroadcasterActor:
    """`batches_total`, `events_total` and `pages_total` count what was delivered and what was read
    of the ledger, since the node started."""

    mailbox: Mailbox[Message]
    streams: Streams
    store: Store
    ledger: LedgerState
    clock: Clock
    asks: Asks
    limits: BroadcasterLimits
    batches_total: int = 0
    events_total: int = 0
    pages_total: int = 0
    _core: BroadcasterCore = attrs.field(init=False)
    _perform: Perform = attrs.field(init=False)
    _calls: SlowCalls[Message] = attrs.field(init=False)
    _timed: bool = False
    _round: int = 0
    _awaits_spare: bool = False

    def __attrs_post_init__(self) -> None:
        self._core = BroadcasterCore(self.limits, 0)

    def census(self) -> Census:
        """How the readers stand; looks at each of them."""
        return self._core.census()

    async def run(self, life: Life) -> None:
        self._core = core = BroadcasterCore(self.limits, life.incarnation)
        self._timed = self._awaits_spare = False
        self._perform = {
            Deliver: self._deliver,
            TellLogged: self._tell_logged,
            TellMoved: self._tell_moved,
            ReadLedger: self._read_ledger,
            TimeRound: self._time_round,
        }
        async with open_calls(self.mailbox, (StoreUnavailableError,)) as self._calls:
            self._follow_anew()
            life.ready()
            await run_shell(
                core, self.mailbox, self._perform, self.clock, asks=self.asks, observe=self._observe
            )

    def _follow_anew(self) -> None:
        """Before anything that the mailbox holds, which may have come in an earlier life: whoever
        follows there is known then, and whoever leaves is gone afterwards."""
        messages: list[Message] = []
        for reader in self.streams.readers.values():
            messages.append(reader.follow())
            if reader.full:
                messages.append(Full(reader_id=reader.reader_id))
        messages.extend(Watch(watcher_id=watcher_id) for watcher_id in self.streams.watchers)
        now = self.clock.moment()
        for message in messages:
            self._hand_over(message, now)
        for watcher_id in list(self.streams.watchers):
            self._tell_moved(TellMoved(watcher_id=watcher_id, moved=()))

    def _hand_over(self, message: Message, now: Moment) -> None:
        """Have the core handle a message that does not come by the mailbox."""
        for command in self._core.handle(message, now):
            self._perform[type(command)](command)

    # ---- what the core commands

    def _deliver(self, command: Deliver) -> None:
        reader = self.streams.readers.get(command.reader_id)
        if reader is None:
            return
        batch = command.batch
        reader.after_seq = batch.through_seq
        self.batches_total += 1
        self.events_total += len(batch.events)
        try:
            has_room = reader.sink.take(batch)
        except Exception:  # noqa: BLE001 - whose fault it is pays (I2)
            self._drop(reader)
            return
        if not has_room and not reader.full:
            reader.full = True
            self.mailbox.deliver(Full(reader_id=reader.reader_id))

    def _tell_logged(self, command: TellLogged) -> None:
        reader = self.streams.readers.get(command.reader_id)
        if reader is None:
            return
        try:
            reader.sink.logged()
        except Exception:  # noqa: BLE001 - whose fault it is pays (I2)
            self._drop(reader)

    def _drop(self, reader: _Reader) -> None:
        _log.exception("sink_failed", tenant=reader.tenant_id, sink=type(reader.sink).__name__)
        reader.leave()

    def _tell_moved(self, command: TellMoved) -> None:
        watching = self.streams.watchers.get(command.watcher_id)
        if watching is None:
            return
        try:
            watching.watcher.moved(command.moved)
        except Exception:  # noqa: BLE001 - whose fault it is pays (I2)
            _log.exception("watcher_failed", watcher=type(watching.watcher).__name__)
            watching.leave()

    def _read_ledger(self, command: ReadLedger) -> None:
        self._calls.spawn(self._read, command, failed=lambda _: LedgerUnread(stamp=command.stamp))

    async def _read(self, command: ReadLedger) -> Message:
        limits = self.limits
        blocks = await self.store.blocks(
            command.tenant_id, command.after_seq, limits.page_blocks_max, limits.page_bytes_max
        )
        self.pages_total += bool(blocks)
        return LedgerRead(stamp=command.stamp, blocks=blocks)

    def _time_round(self, command: TimeRound) -> None:
        self._timed = True
        self._round = command.number
        if not self._awaits_spare:
            self._awaits_spare = True
            self._calls.spawn(self._await_spare, failed=_cannot_fail)

    async def _await_spare(self) -> Message | None:
        # Of Trio's testing tools, but of its run loop too: it is woken where that would wait.
        await wait_all_tasks_blocked()
        self._awaits_spare = False
        return Spare(number=self._round) if self.ledger.behind_since_mono is None else None

    def _observe(self, wakeup: Wakeup) -> None:
        """The core is told of a round at its end, without a wake-up for it."""
        if self._timed:
            self._timed = False
            sent_bytes, self.streams.sent_bytes = self.streams.sent_bytes, 0
            took = Rounded(took_s=wakeup.busy_s, sent_bytes=sent_bytes)
            self._hand_over(took, self.clock.moment())


def _cannot_fail(error: Exception) -> Message:
    raise error
