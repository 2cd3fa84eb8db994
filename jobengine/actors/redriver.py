"""Shell of the redriver: replays and records by the shards, reads by the store."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio

from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks, AskTimeoutError
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError
from jobengine.actors.runtime.shell import Perform, SlowCalls, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.redriver import Redriver, RedriverLimits
from jobengine.domain.change import DeadLetterState
from jobengine.domain.errors import Refusal
from jobengine.domain.ids import shard_of
from jobengine.domain.redrive import Redrive
from jobengine.messages.lease_shard import AdministerTenant, ReplayJob
from jobengine.messages.ledger import Fence
from jobengine.messages.ledger import Message as LedgerMessage
from jobengine.messages.redriver import (
    Busy,
    Found,
    Letter,
    LettersRead,
    ReadFailed,
    ReadLetters,
    Record,
    Recorded,
    Recovered,
    RedriverMessage,
    Refused,
    Replayed,
    ReplayLetter,
    Settle,
    Settled,
    Unsettled,
)
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import DeadLetterFilter, Store

__all__ = ["RedriverActor"]

_PATIENCE_S: Final = 24 * 3600.0
"""Whoever asks a shard here has time: its answer comes with the commit, or when it restarts."""
_AGAIN_S: Final = 1.0
_LATE_S: Final = 30.0
"""After this nothing of an earlier life is on its way any more."""
_OPERATING: Final = (
    StoreUnavailableError,
    MailboxFullError,
    MailboxClosedError,
    ActorStoppedError,
    AskTimeoutError,
)
_PAGE: Final = 100


@attrs.define(kw_only=True)
class RedriverActor:
    """``shards`` in the order in which ``shard_of`` numbers them."""

    mailbox: Mailbox[RedriverMessage]
    shards: Sequence[Address[Any]]
    ledger: Address[LedgerMessage]
    store: Store
    clock: Clock
    dice: Dice
    asks: Asks
    limits: RedriverLimits
    _calls: SlowCalls[RedriverMessage] = attrs.field(init=False)

    async def run(self, life: Life) -> None:
        """One life: wait until nothing of an earlier life is under way, read what is unfinished, go
        on with it."""
        core = Redriver(self.limits, life.incarnation)
        perform: Perform = {
            Record: self._record,
            ReplayLetter: self._replay,
            ReadLetters: self._read_letters,
            Settle: self._settle,
        }
        await self._fence()
        recovered = Recovered(redrives=await self._unfinished())
        async with open_calls(self.mailbox, _OPERATING) as self._calls:
            for command in core.handle(recovered, self.clock.moment()):
                perform[type(command)](command)
            self._calls.spawn(self._look, failed=lambda _: Found(redrives=()))
            life.ready()
            await run_shell(core, self.mailbox, perform, self.clock, asks=self.asks)

    async def _fence(self) -> None:
        await self.ledger.ask(lambda ask_id: Fence(ask_id=ask_id), _PATIENCE_S)

    async def _unfinished(self) -> Sequence[Redrive]:
        """A database that is away is no failure: there will be one again."""
        found: list[Redrive] = []
        while True:
            last = found[-1] if found else None
            after = None if last is None else (last.tenant_id, last.redrive_id)
            try:
                page = await self.store.redrives_unfinished(after, _PAGE)
            except StoreUnavailableError:
                await trio.sleep(_AGAIN_S)
                continue
            found.extend(page)
            if len(page) < _PAGE:
                return found

    async def _look(self) -> RedriverMessage:
        """Look for what was on its way to a shard when this life began, and committed since: the
        fence, which goes through the ledger, was before it."""
        await trio.sleep(_LATE_S)
        return Found(redrives=await self._unfinished())

    def _record(self, command: Record) -> None:
        async def record() -> RedriverMessage:
            answer = await self._ask(
                command.tenant_id,
                lambda ask_id: AdministerTenant(
                    ask_id=ask_id,
                    tenant_id=command.tenant_id,
                    actor=command.actor,
                    kind=command.kind,
                    data=command.data,
                    facts=command.facts,
                    redrives=(command.row,),
                    claim=command.claim,
                ),
            )
            if isinstance(answer, Refusal):
                return Refused(stamp=command.stamp, refusal=answer)
            return Recorded(stamp=command.stamp, answer=answer)

        self._calls.spawn(record, failed=lambda error: _unanswered(command.stamp, error))

    def _replay(self, command: ReplayLetter) -> None:
        new_job_id = self.dice.uuid7(self.clock.moment().at)
        letter = command.letter

        async def replay() -> RedriverMessage:
            answer = await self._ask(
                command.tenant_id,
                lambda ask_id: ReplayJob(
                    ask_id=ask_id,
                    tenant_id=command.tenant_id,
                    job_id=letter.job_id,
                    actor=command.actor,
                    new_job_id=new_job_id,
                    dead_letter_id=letter.dead_letter_id,
                    redrive_id=command.redrive_id,
                ),
            )
            if isinstance(answer, Refusal):
                return Refused(stamp=command.stamp, refusal=answer)
            return Replayed(stamp=command.stamp)

        self._calls.spawn(replay, failed=lambda error: _unanswered(command.stamp, error))

    def _read_letters(self, command: ReadLetters) -> None:
        async def read() -> RedriverMessage:
            order = command.order
            wanted = DeadLetterFilter(
                states=frozenset({DeadLetterState.OPEN}),
                job_type=order.job_type,
                queue=order.queue,
                class_=order.class_,
                signature=order.signature,
            )
            rows = await self.store.dead_letters(
                command.tenant_id, wanted, command.after, command.letters_max
            )
            letters = [Letter(row.at or 0, row.dead_letter_id, row.job_id) for row in rows]
            return LettersRead(stamp=command.stamp, letters=letters)

        self._calls.spawn(read, failed=lambda _: ReadFailed(stamp=command.stamp))

    def _settle(self, command: Settle) -> None:
        async def settle() -> RedriverMessage:
            if command.fenced:
                await self._fence()
            redrive = await self.store.redrive(command.tenant_id, command.redrive_id)
            return Settled(stamp=command.stamp, redrive=redrive)

        self._calls.spawn(settle, failed=lambda _: ReadFailed(stamp=command.stamp))

    async def _ask(self, tenant_id: str, build: Callable[[int], Any]) -> Any:
        shard = self.shards[shard_of(tenant_id, len(self.shards))]
        return await shard.ask(build, _PATIENCE_S)


def _unanswered(stamp: int, error: Exception) -> RedriverMessage:
    if isinstance(error, MailboxFullError | MailboxClosedError):
        return Busy(stamp=stamp)
    return Unsettled(stamp=stamp)
