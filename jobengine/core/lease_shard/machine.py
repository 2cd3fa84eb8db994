"""The lease shard: owner of every job of the tenants hashed onto it.

Decides which state a job takes, who may run it and until when. It is told by doors (submit,
operate), by the planner of runs (release, end, cancel, grow), by worker sessions (attach, credit,
heartbeats, reports), by the ledger (committed, away, back) and by the store (what it asked to
read); it commands commits and reads, answers asks, and speaks to sessions and to the planner.

Definitions. A *lane* is the ready jobs of one tenant, queue and job type, in rank order. *Credit*
is how many more leases a session wants. A job is *busy* while a change of it is in flight.

I1  Nobody is told of a change before the commit that holds it has returned.
I2  A job has at most one change in flight and at most one live lease; a grant takes the next
    attempt number, which is its fencing token.
I3  Memory is a projection of the store: ready, delayed and expiring jobs are windows of it, live
    leases are all here, and a fresh machine built from ``Recovered`` goes on where this one stood.
I4  Instants that are recorded never go back, so what was due once stays due; a wall clock that is
    set back stands still here until it has caught up.
I5  While the ledger is away no lease grows older and nothing is decided to have expired.

I6  A job starts when no gate keeps it and a session asks for it; what keeps it explains it.

Not here: tokens (rate_bucket), sequence numbers (ledger), frames (session).
The parts: ``submits``, ``operations``, ``reports``, ``endings``, ``controls``, ``runs``,
``run_jobs`` and ``registrations`` decide;
``attachments`` knows the workers, ``roster`` tells of them; ``gates`` admits and ``explain`` says
why not; ``grants`` matches, in the turns of ``fair_lanes`` and ``freed_places``; ``proposals`` asks
for tokens; ``allotments`` obeys the governor;
``supply`` keeps the windows; ``draft`` writes; ``settlement`` tells; ``gate_view`` and ``gauges``
show where gates stand; ``state``, ``leases``, ``offers``,
``sessions``, ``kinds``, ``occupancy``, ``sources``, ``waiting_room``, ``backlogs`` and ``window``
remember.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobengine.core.lease_shard.administration import Administrator
from jobengine.core.lease_shard.allotments import Allotments
from jobengine.core.lease_shard.attachments import Attachments
from jobengine.core.lease_shard.calendars import Calendars
from jobengine.core.lease_shard.claims import KeyFreed
from jobengine.core.lease_shard.controls import Controller
from jobengine.core.lease_shard.endings import Endings
from jobengine.core.lease_shard.explain import Explainer
from jobengine.core.lease_shard.gauges import Census
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.held_jobs import HeldJobs
from jobengine.core.lease_shard.leases import LeaseDue
from jobengine.core.lease_shard.operations import Operator
from jobengine.core.lease_shard.reads import Reads
from jobengine.core.lease_shard.recovery import restore_leases
from jobengine.core.lease_shard.registrations import Registrar
from jobengine.core.lease_shard.reports import Reporter
from jobengine.core.lease_shard.roster import Roster
from jobengine.core.lease_shard.run_batches import Batch
from jobengine.core.lease_shard.run_jobs import RunJobs
from jobengine.core.lease_shard.runs import RunCreator
from jobengine.core.lease_shard.settlement import Settlement
from jobengine.core.lease_shard.slices import Slices
from jobengine.core.lease_shard.source_watch import tell_first_starts
from jobengine.core.lease_shard.state import JobFreed, ShardLimits, ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.lease_shard.supply import Supply
from jobengine.core.lease_shard.tenant_turns import TenantTurns
from jobengine.core.lease_shard.token_answers import TokenAnswers
from jobengine.core.window import BEFORE_ALL
from jobengine.domain.instant import Moment
from jobengine.domain.records import DueJob, Lane
from jobengine.messages.admission import (
    Allot,
    ChangeControl,
    Explain,
    LearnRate,
    OperateBreaker,
    ReadGates,
    SetLoad,
)
from jobengine.messages.governor import Govern
from jobengine.messages.lease_shard import (
    AdministerTenant,
    CancelJob,
    DiscardDeadLetter,
    DrainWorker,
    ListWorkers,
    PrioritizeJob,
    ReleaseJob,
    ReplayJob,
    RetryJob,
    SubmitJobs,
)
from jobengine.messages.rate_bucket import Adapted, BucketLost, Peeked, Reserved
from jobengine.messages.runs import (
    CarryOut,
    CreateRun,
    DisableDocument,
    RegisterDocument,
    ShardBegun,
)
from jobengine.messages.session import AttachBriefly
from jobengine.messages.shard_commands import (
    CommitRefused,
    Committed,
    DueLoaded,
    LedgerAway,
    LedgerBack,
    RankedLoaded,
    ReadFailed,
    Recovered,
    SubjectsLoaded,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Attach, Beat, Detach, Drain, Reports, SetCredit

__all__ = ["LeaseShard"]

_OPERATIONS = (CancelJob, RetryJob, ReleaseJob, ReplayJob, PrioritizeJob, DiscardDeadLetter)


class LeaseShard:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, shard: int, limits: ShardLimits, incarnation: int = 1) -> None:
        self._state = state = ShardState(shard, limits, incarnation)
        self._ledger_life = 1
        granter = Granter(state)
        endings = Endings(state)
        slices = Slices(state)
        self._submitter = submitter = Submitter(state, granter, slices)
        self._reporter = reporter = Reporter(state, granter, submitter, endings, slices)
        held_jobs = HeldJobs(state, granter)
        self._operator = operator = Operator(state, held_jobs, submitter)
        self._runs = RunCreator(state, slices, submitter.claims)
        self._run_jobs = RunJobs(state, slices, granter, submitter.claims, held_jobs)
        self._registrar = Registrar(state, submitter.claims)
        self._roster = roster = Roster(state)
        self._administrator = Administrator(state, submitter, roster)
        self._attachments = Attachments(state, granter, reporter, endings)
        self._settlement = Settlement(state, granter, submitter, endings)
        self._supply = Supply(state, granter, operator)
        self._endings = endings
        self._calendars = calendars = Calendars(state)
        self._controller = Controller(state, granter, submitter, calendars)
        self._allotments = Allotments(state)
        self._explainer = Explainer(state)
        self._granter = granter
        self._token_answers = TokenAnswers(state, granter)
        readers = (
            operator,
            submitter,
            self._administrator,
            self._controller,
            self._explainer,
            self._runs,
            self._run_jobs,
            self._registrar,
        )
        self._reads = Reads(readers, reporter, self._supply)
        self._by_type = self._handlers()
        self._turns = TenantTurns(state, slices, self._dispatch)

    @property
    def wakeup_at(self) -> float | None:
        """The first lease, delayed job, expiry or gate to fall due, a failed read to repeat, a
        calendar to turn, demand to tell, or the turn of a tenant."""
        first = self._state.leases.wakeup_at
        for at in (
            self._supply.wakeup_at,
            self._allotments.wakeup_at,
            self._calendars.wakeup_at,
            self._turns.wakeup_at,
        ):
            if at is not None and (first is None or at < first):
                first = at
        return first

    @property
    def leases(self) -> int:
        return len(self._state.leases)

    @property
    def sessions(self) -> int:
        return len(self._state.sessions)

    @property
    def backlog(self) -> int:
        """Jobs that wait, of all tenants."""
        return self._state.backlogs.total

    def be_counted(self, census: Census) -> None:
        """Show where the gates stand."""
        census.take(self._state)

    def ready_counts(self) -> dict[Lane, int]:
        """Ready jobs in memory by lane; what is only in the store is not counted."""
        return {lane: len(window) for lane, window in self._state.lanes.items()}

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        state = self._state
        state.take_time(now)
        state.commands = []
        todo = [message]
        while todo:
            message = todo.pop(0)
            if not self._turns.keep(message):
                todo.extend(self._dispatch(message))
        self._supply.refill_due()
        tell_first_starts(state)
        self._allotments.tell_demands()
        state.kinds.sweep()
        return state.commands

    def _dispatch(self, message: Any) -> Sequence[Any]:
        """Handle one message; what may be handled again now."""
        handler = self._by_type.get(type(message))
        if handler is None:
            raise TypeError(f"a lease shard does not understand {type(message).__name__}")
        again = tuple(handler(message) or ())
        self._granter.serve_opened()
        self._turns.close()
        return again

    def _handlers(self) -> Mapping[type, Callable[[Any], Iterable[Any] | None]]:
        """What handles each kind of message; what it returns may be handled again."""
        operate, administer = self._operator.operate, self._administrator.administer
        attachments, controller = self._attachments, self._controller
        return {
            Reports: self._reporter.reports,
            SubmitJobs: self._submitter.submit,
            Committed: self._settlement.committed,
            SetCredit: attachments.set_credit,
            Beat: attachments.beat,
            Wake: self._wake,
            LeaseDue: self._lease_due,
            Reserved: self._reserved,
            **dict.fromkeys(_OPERATIONS, operate),
            **dict.fromkeys((AdministerTenant, DrainWorker), administer),
            ListWorkers: self._roster.list_workers,
            Attach: attachments.attach,
            AttachBriefly: attachments.attach,
            Detach: attachments.detach,
            Drain: attachments.drain,
            RankedLoaded: self._supply.ranked_loaded,
            DueLoaded: self._supply.due_loaded,
            SubjectsLoaded: self._reads.loaded,
            ReadFailed: self._reads.failed,
            **dict.fromkeys((LedgerAway, LedgerBack), self._ledger_told),
            CommitRefused: self._settlement.refused,
            DueJob: lambda due: self._operator.expire([due]),
            Recovered: self._recover,
            Peeked: self._explainer.peeked,
            BucketLost: self._bucket_lost,
            Adapted: controller.adapted,
            Explain: self._explainer.explain,
            **dict.fromkeys((ChangeControl, OperateBreaker, LearnRate), controller.change),
            ReadGates: controller.read_gates,
            SetLoad: controller.set_load,
            Allot: self._allotments.allot,
            Govern: self._allotments.govern,
            CreateRun: self._runs.create,
            CarryOut: self._run_jobs.carry_out,
            Batch: self._run_jobs.go_on,
            JobFreed: self._state.go_on,
            KeyFreed: self._submitter.claims.go_on,
            **dict.fromkeys((RegisterDocument, DisableDocument), self._registrar.change),
        }

    def _bucket_lost(self, message: BucketLost) -> None:
        self._state.commands.extend(self._state.proposals.lost(message))

    def _reserved(self, message: Reserved) -> Iterable[Any] | None:
        """A bucket has answered: about candidates, or about jobs not yet created."""
        proposals = self._state.proposals
        proposals.keep(message)
        outdated = proposals.take_outdated(message.stamp)
        candidates = proposals.answered(message.stamp)
        if candidates is not None:
            return self._token_answers.answered(candidates, message, outdated=outdated)
        return self._submitter.reserved(message, outdated=outdated)

    def _recover(self, message: Recovered) -> None:
        state = self._state
        self._ledger_life = message.ledger_life
        state.backlogs.restore(message.backlogs)
        self._controller.restore(message.controls, message.gate_states)
        self._allotments.restore(message.controls, governed=message.governed)
        restore_leases(state, message.leased)
        for lane in message.lanes:
            state.open_lane(lane, BEFORE_ALL)
        state.commands.append(ShardBegun())

    def _wake(self, _: Wake) -> None:
        state = self._state
        for lease in state.leases.pop_due(state.now.mono):
            due = LeaseDue(lease.job.tenant_id, lease)
            if not self._turns.keep(due):
                self._lease_due(due)
        self._calendars.wake()
        self._supply.wake()
        self._turns.take()

    def _lease_due(self, due: LeaseDue) -> None:
        state, lease = self._state, due.lease
        if not state.leases.is_due(lease, state.now.mono):
            return
        if lease.job.job_id in state.operating:
            state.leases.watch_later(lease, state.now.mono)
        else:
            self._endings.expire(lease)

    def _ledger_told(self, message: LedgerAway | LedgerBack) -> None:
        """What is left over from a ledger that has died says nothing of the one that commits."""
        leases, mono = self._state.leases, self._state.now.mono
        if message.life != self._ledger_life:
            return
        if isinstance(message, LedgerAway):
            leases.stop_clock(mono)
        else:
            leases.start_clock(mono)
