"""Shell of the load meter: looks at the node, and tells doors, shards and the ledger its level."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import structlog
import trio

from jobengine.actors.memory import memory_bytes_of_process
from jobengine.actors.node_state import LedgerState, LoadState
from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks, AskTimeoutError
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError
from jobengine.actors.runtime.shell import Perform, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.load import LoadLimits, LoadMeter
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import Refusal
from jobengine.domain.governance import SYSTEM_TENANT
from jobengine.domain.ids import shard_of
from jobengine.messages.admission import SetLoad
from jobengine.messages.lease_shard import Actor, AdministerTenant, IdempotencyClaim
from jobengine.messages.load import (
    Cause,
    ChangeLevel,
    Sample,
    Sampled,
    ShowLoad,
)

__all__ = ["LoadMeterActor"]

_NOT_ANSWERED: Final = (MailboxFullError, MailboxClosedError, AskTimeoutError, ActorStoppedError)
_RECORD_S_MAX: Final = 60.0
"""How long a change of level is tried to be recorded; the log has it in any case."""
_AGAIN_S: Final = 1.0

_log = structlog.get_logger("jobengine.load")


@attrs.define(kw_only=True)
class LoadMeterActor:
    """``mailboxes`` are watched, ``shards`` told, in the order in which ``shard_of`` numbers them.
    What it finds stands in ``load``, which outlives it."""

    node_id: str
    mailboxes: Sequence[Mailbox[Any]]
    shards: Sequence[Address[object]]
    ledger: LedgerState
    load: LoadState
    clock: Clock
    asks: Asks
    limits: LoadLimits
    _core: LoadMeter = attrs.field(init=False)
    _perform: Perform = attrs.field(init=False)
    _records: trio.Nursery = attrs.field(init=False)
    _commits: tuple[int, float] = attrs.field(init=False)
    _taken: int = attrs.field(init=False, default=0)

    async def run(self, life: Life) -> None:
        mailbox: Mailbox[Sampled] = Mailbox("load-meter", 16)
        self._commits = (self.ledger.commits_total, self.ledger.commits_s_total)
        self._core = LoadMeter(self.limits, self.load.level, trio.current_time())
        self._perform = {
            Sample: self._sample,
            ShowLoad: self._show,
            ChangeLevel: self._change,
        }
        async with trio.open_nursery() as self._records:
            life.ready()
            await run_shell(self._core, mailbox, self._perform, self.clock, asks=self.asks)

    def _sample(self, _: Sample) -> None:
        """Looking takes no time, so what was seen is judged in the same wake-up."""
        for command in self._core.handle(self._sampled(), self.clock.moment()):
            self._perform[type(command)](command)

    def _sampled(self) -> Sampled:
        fill, name = max([(box.depth / box.capacity, box.name) for box in self.mailboxes])
        ledger = self.ledger
        before, before_s = self._commits
        self._commits = (ledger.commits_total, ledger.commits_s_total)
        taken, self._taken = self._taken, sum([box.taken_total for box in self.mailboxes])
        waiting_s = self._waiting_s()
        return Sampled(
            mailbox=name,
            mailbox_fill=fill,
            commits=ledger.commits_total - before,
            commits_s=ledger.commits_s_total - before_s,
            waiting_s=waiting_s,
            memory_bytes=memory_bytes_of_process(),
            busy=taken != self._taken or waiting_s > 0,
        )

    def _waiting_s(self) -> float:
        """How long the change has waited that waits longest. A database that is known to be away is
        no load: doors refuse by themselves until it is back, and go on at once then."""
        since_mono = self.ledger.behind_since_mono
        if since_mono is None or self.ledger.away_since_mono is not None:
            return 0.0
        return trio.current_time() - since_mono

    def _show(self, command: ShowLoad) -> None:
        self.load.level = command.level
        self.load.causes = command.causes

    def _change(self, command: ChangeLevel) -> None:
        self.load.changes_total += 1
        for shard in self.shards:
            # No room is needed: a shard is told at most once a step of the level.
            shard.deliver(SetLoad(level=command.level))
        log = _log.info if command.level == "normal" else _log.warning
        log(
            "load_level_changed",
            before=command.before,
            level=command.level,
            causes=[_shown(cause) for cause in command.causes],
        )
        self._records.start_soon(self._record, command)

    async def _record(self, command: ChangeLevel) -> None:
        """Record a change once, however often that has to be tried."""
        entry = {
            "before": command.before,
            "causes": [_shown(cause) for cause in command.causes],
            "level": command.level,
            "node": self.node_id,
        }
        claim = IdempotencyClaim(f"{self.node_id} {command.at}", "load", command.level)
        shard = self.shards[shard_of(SYSTEM_TENANT, len(self.shards))]

        def build(ask_id: int) -> AdministerTenant:
            return AdministerTenant(
                ask_id=ask_id,
                tenant_id=SYSTEM_TENANT,
                actor=Actor("engine"),
                kind="load.changed",
                data=canonical_of(entry),
                facts=b"{}",
                claim=claim,
            )

        with trio.move_on_after(_RECORD_S_MAX):
            while True:
                try:
                    answer = await shard.ask(build, _RECORD_S_MAX)
                except _NOT_ANSWERED:
                    answer = None
                if answer is not None and not isinstance(answer, Refusal):
                    return
                await trio.sleep(_AGAIN_S)
        _log.warning("load_level_not_recorded", level=command.level)


def _shown(cause: Cause) -> Mapping[str, str]:
    return {
        "level": cause.level,
        "limit": cause.limit,
        "name": cause.name,
        "observed": cause.observed,
    }
