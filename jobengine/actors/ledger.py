"""Shell of the ledger: its commits through the store, answers to their senders."""

from collections import Counter
from collections.abc import Awaitable, Sequence

import attrs
import trio

from jobengine.actors.node_state import LedgerState
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, SlowCalls, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.actors.store_trouble import trouble_of
from jobengine.core.ledger import LedgerCore, LedgerLimits
from jobengine.messages.broadcaster import Doubted, Published
from jobengine.messages.ledger import (
    Abandon,
    BatchCommitted,
    BatchRefused,
    BatchUnavailable,
    Confirm,
    Deny,
    HeadsLoaded,
    HeadsUnavailable,
    LoadHeads,
    Message,
    Publish,
    ReportAway,
    ReportBack,
    Write,
)
from jobengine.messages.shard_commands import CommitRefused, Committed, LedgerAway, LedgerBack
from jobengine.store.errors import (
    HeadMovedError,
    StaleRowError,
    StatementRefusedError,
    StoreSilentError,
    StoreUnavailableError,
)
from jobengine.store.port import Store

__all__ = ["LedgerAbandonedError", "LedgerActor"]


class LedgerAbandonedError(Exception):
    """The store's heads are not where this ledger left them: somebody else writes them."""


@attrs.define(kw_only=True)
class LedgerActor:
    """``shards`` are told of their own commits, by number; ``transitions`` counts entries."""

    mailbox: Mailbox[Message]
    shards: Sequence[Address[object]]
    broadcaster: Address[object]
    store: Store
    state: LedgerState
    clock: Clock
    asks: Asks
    limits: LedgerLimits
    transitions: Counter[str] = attrs.field(factory=Counter)
    _calls: SlowCalls[Message] = attrs.field(init=False)
    _life: int = attrs.field(init=False)
    _core: LedgerCore = attrs.field(init=False)
    _back_mono: float = attrs.field(init=False, default=0.0)
    _began_mono: dict[int, float] = attrs.field(init=False)
    _owed: list[tuple[int, Committed | CommitRefused]] = attrs.field(init=False, factory=list)

    async def run(self, life: Life) -> None:
        self._life = life.incarnation
        self._core = core = LedgerCore(self.limits, life.incarnation)
        self._forget_trouble()
        self._began_mono = {}
        self._show_oldest()
        perform: Perform = {
            Write: self._write,
            LoadHeads: self._load_heads,
            Confirm: self._confirm,
            Deny: self._deny,
            Publish: self._publish,
            ReportAway: self._report_away,
            ReportBack: self._report_back,
            Abandon: self._abandon,
        }
        await self._settle_patiently()
        async with open_calls(self.mailbox, (StoreUnavailableError,)) as self._calls:
            self.broadcaster.deliver(Doubted())
            life.ready()
            self._owed = []
            await run_shell(
                core, self.mailbox, perform, self.clock, asks=self.asks, flush=self._tell
            )

    async def _settle_patiently(self) -> None:
        """Wait until no commit of an earlier life is under way; shards read only then."""
        while True:
            try:
                await self.store.settled_heads(())
            except StoreUnavailableError as error:
                self._note_trouble(error, in_doubt=True)
                await trio.sleep(self.limits.backoff_s_max)
            else:
                self._forget_trouble()
                return

    def _write(self, command: Write) -> None:
        """Begin a commit at once: those of one tenant have to reach the store in their order, and
        the database works while shards are told of the last ones."""

        def failed(error: Exception) -> Message:
            assert isinstance(error, StoreUnavailableError)
            unknown = error.may_have_committed
            self._note_trouble(error, in_doubt=unknown)
            tried = error.sqlstate is not None or isinstance(error, StoreSilentError)
            return BatchUnavailable(
                stamp=command.stamp, unknown=unknown, why=str(error), tried=tried
            )

        began_mono = self._began_mono[command.stamp] = trio.current_time()
        committed = self.store.commit(command.batch)
        self._calls.spawn(self._commit, command, committed, began_mono, failed=failed)

    async def _commit(
        self, command: Write, committed: Awaitable[None], began_mono: float
    ) -> Message:
        state = self.state
        try:
            await committed
        except HeadMovedError as error:
            self.state.trouble = "doubt"
            return BatchUnavailable(stamp=command.stamp, unknown=True, why=str(error))
        except (StatementRefusedError, StaleRowError) as error:
            return BatchRefused(stamp=command.stamp, why=str(error))
        finally:
            del self._began_mono[command.stamp]
            self._show_oldest()
        state.last_commit_s = trio.current_time() - began_mono
        state.commits_total += 1
        state.commits_s_total += state.last_commit_s
        if state.away_since_mono is None:
            state.trouble = None
        return BatchCommitted(stamp=command.stamp, took_s=state.last_commit_s)

    def _show_oldest(self) -> None:
        self.state.committing_since_mono = min(self._began_mono.values(), default=None)
        since_mono = self._core.waiting_since_mono
        if since_mono is not None:
            since_mono = max(since_mono, self._back_mono)
        self.state.waiting_since_mono = since_mono

    def _load_heads(self, command: LoadHeads) -> None:
        def failed(error: Exception) -> Message:
            assert isinstance(error, StoreUnavailableError)
            self._note_trouble(error)
            return HeadsUnavailable(stamp=command.stamp)

        self._calls.spawn(self._read_heads, command, failed=failed)

    async def _read_heads(self, command: LoadHeads) -> Message:
        heads = await self.store.settled_heads(command.tenant_ids)
        return HeadsLoaded(stamp=command.stamp, tenant_ids=command.tenant_ids, heads=heads)

    def _confirm(self, command: Confirm) -> None:
        told = Committed(stamp=command.stamp, first_seq=command.first_seq)
        self._owed.append((command.sender, told))

    def _deny(self, command: Deny) -> None:
        self._owed.append((command.sender, CommitRefused(stamp=command.stamp, why=command.why)))

    def _tell(self) -> None:
        """Tell shards what became of their changes, once what the step commits is on its way."""
        self._show_oldest()
        owed, self._owed = self._owed, []
        for sender, told in owed:
            self.shards[sender].deliver(told)

    def _publish(self, command: Publish) -> None:
        self._count(command)
        logged = {
            (line.tenant_id, line.job_id): None
            for changes in command.changes
            for line in changes.logs
        }
        self.broadcaster.deliver(Published(blocks=command.blocks, logged=tuple(logged)))

    def _count(self, command: Publish) -> None:
        kinds: dict[str, Counter[str]] = {block.tenant_id: Counter() for block in command.blocks}
        for changes in command.changes:
            if counted := changes.kinds():
                kinds[changes.tenant_id] += counted
        for block in command.blocks:
            counted = kinds[block.tenant_id]
            self.state.entries_total += block.last_seq - block.first_seq + 1
            self.state.activity.count(block.tenant_id, block.at, counted, block.last_seq)
            for kind, number in counted.items():
                self.transitions[kind] += number

    def _note_trouble(self, error: StoreUnavailableError, *, in_doubt: bool = False) -> None:
        self.state.why = str(error)
        if in_doubt:
            self.state.trouble = "doubt"
        elif self.state.trouble != "doubt":
            self.state.trouble = trouble_of(error)

    def _forget_trouble(self) -> None:
        self.state.away_since_mono = None
        self.state.why = ""
        self.state.trouble = None

    def _report_away(self, command: ReportAway) -> None:
        self.state.away_since_mono = trio.current_time()
        self.state.why = self.state.why or command.why
        for shard in self.shards:
            shard.deliver(LedgerAway(life=self._life))

    def _report_back(self, _: ReportBack) -> None:
        self._forget_trouble()
        self._back_mono = trio.current_time()
        for shard in self.shards:
            shard.deliver(LedgerBack(life=self._life))

    def _abandon(self, command: Abandon) -> None:
        raise LedgerAbandonedError(command.why)
