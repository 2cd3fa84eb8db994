"""Shell of a DAG planner: commits by the lease shard, reads by the store, values by evaluation.

A life begins when everything that earlier ones asked of the shard is answered, and what the shard
sent to the ledger is settled; then the runs that have not ended are read, and told to the core.

I1  A run is read only while nothing of it is under way, at the shard or at the ledger.
I2  What a command needs is read and evaluated beside the loop; a run of any size is taken in by a
    thread, so that others go on.

The parts: ``shard_calls`` knows what is under way, ``run_reading`` reads runs, ``node_evaluation``
evaluates nodes on their ``run_sheets``, ``run_making`` makes sub-runs and reruns.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from jobengine.actors.node_evaluation import NodeEvaluation
from jobengine.actors.run_making import LaterError, RunMaking
from jobengine.actors.run_reading import read_run
from jobengine.actors.run_sheets import RunSheets
from jobengine.actors.runtime.address import ActorStoppedError, Address, Asks, AskTimeoutError
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.actors.runtime.mailbox import Mailbox, MailboxClosedError, MailboxFullError
from jobengine.actors.runtime.shell import Perform, SlowCalls, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.actors.shard_calls import ShardCalls, UnsettledError
from jobengine.core.dag_planner import DagPlanner, PlannerLimits
from jobengine.domain.errors import Refusal
from jobengine.domain.node import NodeKind
from jobengine.domain.run import ENDED
from jobengine.domain.run_record import RunRecord
from jobengine.domain.run_sheet import SignCallback
from jobengine.messages.dag_planner import AdmitRun, PlannerMessage
from jobengine.messages.ledger import Fence
from jobengine.messages.ledger import Message as LedgerMessage
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FindRuns,
    FinishRun,
    GrowRun,
    OpenNodes,
    Performed,
    ReadRun,
    Refused,
    ReleaseJobs,
    StartRerun,
    Unsettled,
)
from jobengine.messages.run_facts import RunGone, RunRef, RunsFound, RunsTold
from jobengine.messages.runs import CarryOut, RunCommand, ShardBegun
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["DagPlannerActor"]

_PATIENCE_S: Final = 24 * 3600.0
"""The ledger answers when its database does."""
_ADMIT_S: Final = 60.0
_AGAIN_S: Final = 1.0
_RUNS: Final = 100
_READS: Final = 8
_LARGE: Final = 2_000
_OPERATING: Final = (
    ActorStoppedError,
    AskTimeoutError,
    LaterError,
    MailboxClosedError,
    MailboxFullError,
    StoreUnavailableError,
    UnsettledError,
)
_OUTSIDE: Final = frozenset({NodeKind.APPROVAL, NodeKind.CALLBACK})

T = TypeVar("T")
C = TypeVar("C", ReleaseJobs, OpenNodes, GrowRun, StartRerun)
Answered = Callable[[Any, Exception | None], None]


@attrs.define(kw_only=True)
class DagPlannerActor:
    """``calls`` asks the lease shard of the same number; ``sign_callback`` makes the addresses that
    templates see."""

    shard: int
    mailbox: Mailbox[PlannerMessage | ShardBegun]
    calls: ShardCalls
    ledger: Address[LedgerMessage]
    store: Store
    clock: Clock
    dice: Dice
    asks: Asks
    limits: PlannerLimits = attrs.field(factory=PlannerLimits)
    sign_callback: SignCallback | None = None
    core: DagPlanner | None = None
    _fenced: bool = False
    _slow: SlowCalls[Any] = attrs.field(init=False)
    _sheets: RunSheets = attrs.field(init=False)
    _making: RunMaking = attrs.field(init=False)
    _nodes: NodeEvaluation = attrs.field(init=False)
    _reads: trio.Semaphore = attrs.field(init=False)

    def hear(self, message: PlannerMessage | ShardBegun) -> None:
        """What its lease shard says. A planner that has not read its runs yet reads them anyway."""
        if self._fenced or not isinstance(message, ShardBegun):
            self.mailbox.deliver(message)

    async def run(self, life: Life) -> None:
        """One life."""
        core = DagPlanner(self.limits, life.incarnation)
        self._equip()
        perform: Perform = {
            **dict.fromkeys((EndNodes, CancelJobs, CommitCancel), self._carry_out),
            FinishRun: self._finish,
            ReleaseJobs: self._release,
            OpenNodes: self._open,
            GrowRun: self._grow,
            StartRerun: self._rerun,
            ReadRun: self._read,
            FindRuns: self._find,
        }
        async with open_calls(self.mailbox, _OPERATING) as self._slow:
            await self._recover(core, perform)
            self.core = core
            life.ready()
            await run_shell(core, self.mailbox, perform, self.clock, asks=self.asks)

    def _equip(self) -> None:
        self._fenced = False
        self._reads = trio.Semaphore(_READS)
        self._sheets = RunSheets(self.store)
        self._making = RunMaking(
            store=self.store,
            clock=self.clock,
            dice=self.dice,
            tell=self.mailbox.deliver,
            create=self.calls.ask,
            admit=self._admit,
        )
        self._nodes = NodeEvaluation(
            sheets=self._sheets,
            sign=self.sign_callback,
            tell=self.mailbox.deliver,
            carry_out=self._asked,
            start_sub_run=self._making.start_sub_run,
        )

    # ---- reading runs

    async def _recover(self, core: DagPlanner, perform: Perform) -> None:
        await self.calls.settled()
        await self._fence()
        self._fenced = True
        after: tuple[str, str] | None = None
        while True:
            page = await _patiently(partial(self.store.runs_live, self.shard, after, _RUNS))
            for record in page:
                started = await _patiently(partial(read_run, self.store, record))
                now = self.clock.moment()
                if record.nodes > _LARGE:
                    commands = await trio.to_thread.run_sync(core.handle, started, now)
                else:
                    commands = core.handle(started, now)
                for command in commands:
                    perform[type(command)](command)
                after = (record.tenant_id, record.run_id)
            if len(page) < _RUNS:
                break
        for command in core.handle(RunsTold(), self.clock.moment()):
            perform[type(command)](command)

    async def _fence(self) -> None:
        await self.ledger.ask(lambda ask_id: Fence(ask_id=ask_id), _PATIENCE_S)

    def _read(self, command: ReadRun) -> None:
        async def read() -> PlannerMessage:
            async with self._reads:
                await self.calls.settled(command.run_id)
                await self._fence()
                self._sheets.forget(command.run_id)
                record = await self.store.run(command.tenant_id, command.run_id)
                assert record is not None, f"{command.run_id} was created"
                if record.state in ENDED:
                    return _gone(command, record)
                return await read_run(self.store, record, command.stamp)

        self._slow.spawn(read, failed=lambda _: Unsettled(stamp=command.stamp))

    def _find(self, command: FindRuns) -> None:
        async def find() -> PlannerMessage:
            await self._fence()
            found: list[RunRef] = []
            while True:
                page = await self.store.runs_live(self.shard, found[-1] if found else None, _RUNS)
                found += [RunRef(record.tenant_id, record.run_id) for record in page]
                if len(page) < _RUNS:
                    return RunsFound(stamp=command.stamp, runs=found)

        self._slow.spawn(find, failed=lambda _: Unsettled(stamp=command.stamp))

    # ---- commands

    def _carry_out(self, command: RunCommand) -> None:
        self._send(command, self._answering(command.stamp))

    def _finish(self, command: FinishRun) -> None:
        self._send(command, self._forgetting(command))

    def _release(self, command: ReleaseJobs) -> None:
        if command.evaluated:
            self._spawn(command, self._nodes.release)
        else:
            self._carry_out(command)

    def _open(self, command: OpenNodes) -> None:
        if all(node.kind in _OUTSIDE and not node.evaluated for node in command.nodes):
            self._carry_out(command)
        else:
            self._spawn(command, self._nodes.open)

    def _grow(self, command: GrowRun) -> None:
        async def grow(command: GrowRun) -> PlannerMessage | None:
            jobs = await self._nodes.grow(command)
            if isinstance(jobs, Refusal):
                return Refused(stamp=command.stamp, refusal=jobs)
            self.calls.send(
                command.run_id,
                lambda ask_id: CarryOut(
                    ask_id=ask_id, tenant_id=command.tenant_id, command=command, jobs=jobs
                ),
                self._forgetting(command),
            )
            return None

        self._spawn(command, grow)

    def _rerun(self, command: StartRerun) -> None:
        async def rerun(command: StartRerun) -> PlannerMessage:
            created = await self._making.rerun(command)
            if isinstance(created, Refusal):
                return Refused(stamp=command.stamp, refusal=created)
            assert created.run is not None, "it is not asked for under an idempotency key"
            return Performed(stamp=command.stamp, run_id=created.run.run_id)

        self._spawn(command, rerun)

    # ---- asking

    def _spawn(self, command: C, call: Callable[[C], Awaitable[PlannerMessage | None]]) -> None:
        """Perform a command beside the loop; until its end it is under way (I1)."""

        async def perform() -> PlannerMessage | None:
            with self.calls.under_way(command.run_id):
                return await call(command)

        self._slow.spawn(perform, failed=lambda _: Unsettled(stamp=command.stamp))

    def _send(self, command: RunCommand, answered: Answered) -> None:
        self.calls.send(
            command.run_id,
            lambda ask_id: CarryOut(ask_id=ask_id, tenant_id=command.tenant_id, command=command),
            answered,
        )

    async def _asked(self, command: RunCommand, build: Callable[[int], CarryOut]) -> PlannerMessage:
        answer = await self.calls.ask(command.run_id, build)
        return _outcome(command.stamp, answer, None)

    def _answering(self, stamp: int) -> Answered:
        def answered(answer: Any, error: Exception | None) -> None:
            self.mailbox.deliver(_outcome(stamp, answer, error))

        return answered

    def _forgetting(self, command: FinishRun | GrowRun) -> Answered:
        """With the answer, what was read of the run before is old."""
        tell, sheets = self._answering(command.stamp), self._sheets

        def answered(answer: Any, error: Exception | None) -> None:
            sheets.forget(command.run_id)
            tell(answer, error)

        return answered

    async def _admit(self, tenant_id: str, nodes: int) -> Refusal | None:
        address: Address[Any] = Address(self.mailbox, self.asks)
        refusal: Refusal | None = await address.ask(
            lambda ask_id: AdmitRun(ask_id=ask_id, tenant_id=tenant_id, nodes=nodes, inside=True),
            _ADMIT_S,
        )
        return refusal


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """A database that is away is no failure: there will be one again."""
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            await trio.sleep(_AGAIN_S)


def _outcome(stamp: int, answer: Any, error: Exception | None) -> PlannerMessage:
    if error is not None:
        return Unsettled(stamp=stamp)
    if isinstance(answer, Refusal):
        return Refused(stamp=stamp, refusal=answer)
    return Performed(stamp=stamp)


def _gone(command: ReadRun, record: RunRecord) -> RunGone:
    return RunGone(stamp=command.stamp, run_id=record.run_id, state=record.state)
