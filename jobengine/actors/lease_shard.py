"""Shell of a lease shard: commits by the ledger, reads by the store, words to sessions."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
import trio

from jobengine.actors.node_state import LoadState
from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, SlowCalls, open_calls, run_shell
from jobengine.actors.runtime.step_end import StepEnd
from jobengine.actors.runtime.supervisor import Life
from jobengine.actors.store_trouble import refusal_of
from jobengine.core.lease_shard import LeaseShard, ShardLimits
from jobengine.domain.change import DeadLetterRow, RegistryRow
from jobengine.domain.ids import lease_id
from jobengine.domain.job import Job, State
from jobengine.domain.run_record import RunRecord
from jobengine.messages.admission import SetLoad
from jobengine.messages.governor import (
    Allotted,
    Demands,
    Governed,
    PolicyChanged,
    ShardBegun,
)
from jobengine.messages.ledger import Append, Fence
from jobengine.messages.ledger import Message as LedgerMessage
from jobengine.messages.rate_bucket import (
    Configure,
    Learn,
    Peek,
    PushedBack,
    Refund,
    Reserve,
    Started,
)
from jobengine.messages.run_facts import JobsEnded, RunStarted
from jobengine.messages.runs import ShardBegun as RunsShardBegun
from jobengine.messages.session import Tell
from jobengine.messages.shard_commands import (
    Abandon,
    Commit,
    DocumentWanted,
    DueLoaded,
    LoadDelayed,
    LoadExpiring,
    LoadLane,
    LoadSubjects,
    RankedLoaded,
    ReadFailed,
    Recovered,
    SubjectsLoaded,
)
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["LeaseShardActor", "ShardAbandonedError"]

_FENCE_TIMEOUT_S = 24 * 3600.0
_TO_GOVERNOR = (Allotted, Demands, Governed, PolicyChanged, ShardBegun)
_TO_PLANNER = (JobsEnded, RunStarted, RunsShardBegun)
_TO_BUCKETS = (Configure, Reserve, Refund, Started, Peek, PushedBack, Learn)


class ShardAbandonedError(Exception):
    """A shard's memory and the store disagree; it is rebuilt from the store."""


@attrs.define(kw_only=True)
class LeaseShardActor:
    """``tell`` hands a session what its shard says, and what it makes of that in one step leaves at
    the end of it (``telling``); ``tell_bucket`` speaks to the rate bucket of a tenant,
    ``tell_planner`` the planner of this shard's runs; ``restarted`` tells all sessions of this
    shard to attach again. ``governed``: whether the shards were told to start nothing that is not
    allotted."""

    shard: int
    mailbox: Mailbox[Any]
    ledger: Address[LedgerMessage]
    load: LoadState
    store: Store
    clock: Clock
    asks: Asks
    limits: ShardLimits
    tell: Callable[[int, Any], None]
    telling: StepEnd
    tell_bucket: Callable[[Any], None]
    tell_governor: Callable[[Any], None]
    tell_planner: Callable[[Any], None]
    governed: Callable[[], bool]
    restarted: Callable[[int], None]
    core: LeaseShard | None = None
    _calls: SlowCalls[Any] = attrs.field(init=False)
    _ledger_life: int = attrs.field(init=False)

    async def run(self, life: Life) -> None:
        """One life: wait until nothing of an earlier life is under way, rebuild, go on."""
        core = LeaseShard(self.shard, self.limits, life.incarnation)
        perform: Perform = {
            Commit: self._commit,
            LoadLane: self._load_lane,
            LoadDelayed: self._load_delayed,
            LoadExpiring: self._load_expiring,
            LoadSubjects: self._load_subjects,
            Tell: self._tell,
            Abandon: self._abandon,
            **dict.fromkeys(_TO_BUCKETS, self.tell_bucket),
            **dict.fromkeys(_TO_GOVERNOR, self.tell_governor),
            **dict.fromkeys(_TO_PLANNER, self.tell_planner),
        }
        self._ledger_life = await self.ledger.ask(
            lambda ask_id: Fence(ask_id=ask_id), _FENCE_TIMEOUT_S
        )
        recovered = await self._recover_patiently()
        async with open_calls(self.mailbox, (StoreUnavailableError,)) as self._calls:
            recovered = msgspec.structs.replace(recovered, governed=self.governed())
            for message in (recovered, SetLoad(level=self.load.level)):
                for command in core.handle(message, self.clock.moment()):
                    perform[type(command)](command)
            self.core = core
            self.restarted(self.shard)
            life.ready()
            await run_shell(
                core,
                self.mailbox,
                perform,
                self.clock,
                asks=self.asks,
                performing=self.telling,
            )

    async def _recover_patiently(self) -> Recovered:
        """A database that is away is no failure of the shard: it starts when there is one again."""
        while True:
            try:
                return await self._recover()
            except StoreUnavailableError:
                await trio.sleep(self.limits.read_retry_s)

    async def _recover(self) -> Recovered:
        leased = await self.store.leased(self.shard)
        lanes = await self.store.lanes(self.shard, self.clock.moment().at)
        return Recovered(
            leased=leased,
            lanes=lanes,
            backlogs=await self.store.backlogs(self.shard),
            controls=await self.store.controls(self.shard),
            gate_states=await self.store.gate_states(self.shard),
            ledger_life=self._ledger_life,
        )

    def _commit(self, command: Commit) -> None:
        append = Append(
            life=self._ledger_life,
            sender=self.shard,
            stamp=command.stamp,
            changes=command.changes,
        )
        self.ledger.deliver(append)

    def _tell(self, command: Tell) -> None:
        self.tell(command.session_id, command.message)

    def _abandon(self, command: Abandon) -> None:
        raise ShardAbandonedError(command.why)

    def _load_lane(self, command: LoadLane) -> None:
        async def read() -> RankedLoaded:
            rows = await self.store.ready(
                command.lane, command.after, command.now_at, command.jobs_max, command.bytes_max
            )
            return RankedLoaded(stamp=command.stamp, rows=rows)

        self._read(read, command.stamp)

    def _load_delayed(self, command: LoadDelayed) -> None:
        async def read() -> RankedLoaded:
            rows = await self.store.delayed(self.shard, command.after, command.jobs_max)
            return RankedLoaded(stamp=command.stamp, rows=rows)

        self._read(read, command.stamp)

    def _load_expiring(self, command: LoadExpiring) -> None:
        async def read() -> DueLoaded:
            rows = await self.store.expiring(self.shard, command.after, command.jobs_max)
            return DueLoaded(stamp=command.stamp, rows=rows)

        self._read(read, command.stamp)

    def _load_subjects(self, command: LoadSubjects) -> None:
        self._read(lambda: self._subjects(command), command.stamp, command.tenant_id)

    async def _subjects(self, command: LoadSubjects) -> SubjectsLoaded:
        store, tenant_id = self.store, command.tenant_id
        jobs: Sequence[Job] = ()
        if command.job_ids:
            jobs = await store.jobs(tenant_id, command.job_ids)
        letters: dict[str, DeadLetterRow] = {}
        for job in jobs if command.with_dead_letters else ():
            if job.state is State.FAILED:
                letter = await store.dead_letter(tenant_id, lease_id(job.job_id, job.attempt))
                if letter is not None:
                    letters[job.job_id] = letter
        holders, answers = {}, {}
        wanted = command.claims
        if wanted.unique_keys or wanted.idempotency:
            claims = await store.claims(
                tenant_id, wanted.unique_keys, wanted.idempotency, command.now_at
            )
            holders, answers = claims.holders, claims.answers
        return SubjectsLoaded(
            stamp=command.stamp,
            tenant_id=tenant_id,
            jobs={job.job_id: job for job in jobs},
            dead_letters=letters,
            holders=holders,
            answers=answers,
            run=await self._run(command),
            **await self._document(tenant_id, command.document),
        )

    async def _run(self, command: LoadSubjects) -> RunRecord | None:
        if command.run_id is not None:
            return await self.store.run(command.tenant_id, command.run_id)
        if command.run_token is not None:
            return await self.store.run_by_token(command.tenant_id, command.run_token)
        return None

    async def _document(
        self, tenant_id: str, wanted: DocumentWanted | None
    ) -> dict[str, RegistryRow | None]:
        if wanted is None:
            return {}
        kind, name, version = wanted.kind, wanted.name, wanted.version
        registered = self.store.registered
        return {
            "newest": await registered(tenant_id, kind, name, None),
            "version": None if not version else await registered(tenant_id, kind, name, version),
        }

    def _read(self, call: Callable[[], Any], stamp: int, tenant_id: str | None = None) -> None:
        def failed(error: Exception) -> ReadFailed:
            assert isinstance(error, StoreUnavailableError)
            return ReadFailed(stamp=stamp, tenant_id=tenant_id, refusal=refusal_of(error))

        self._calls.spawn(call, failed=failed)
