"""The DAG planner of one shard: which node of a live run may start, and when a run has ended.

Decides what is released, cancelled and ended as the ends of jobs are told. Doors ask it (cancel,
grow, approve, call back, run again), the lease shard tells it what has ended; it commands releases,
cancels, ends of nodes without a worker, growth, and the ends of runs. It lives beside the lease
shard of its tenants; the shell carries its commands to that shard's commits and answers with their
stamps. At a start the shell tells one ``RunStarted`` for each run that has not ended; when the
lease shard was rebuilt all are read again, since what it committed last may never be told.

Definitions. A *flight* is a command under way. A run is *reading* while it is read again from the
store, after an answer was lost that it cannot go on without.

I1  Nothing follows from a command but from what is told of it: releases and ends count when they
    are told as ends of jobs, growth, cancel and finish when they are performed.
I2  A batch whose answer is lost or refused is commanded again later, for the nodes that still want
    it; the transition table makes a repetition harmless.
I3  A run has one growth under way at most; while it is, nothing it reaches into is decided.
I4  Nothing told of a run while it is read is lost: it is told again to the run that was read.
I5  A run that was started for a node of another is cancelled when that node is, or when it comes
    after the other has ended.
I6  Memory holds the runs that doors have asked room for (``AdmitRun``), ``nodes_live_max`` nodes of
    all together; of each run ``flights_max`` commands of ``batch_max`` jobs are under way.
I7  No tenant takes all the room. What a live run wants to start has some that doors do not give
    away, and waits where there is none, unless it could never fit.

Not here: what makes a graph (``domain/graph``), which node may start (``live_run``), what may be
asked of a run (``requests``), conditions, templates, lists and policies of nodes (the shell).
The parts: ``doors`` takes requests, ``landings`` answers, ``outbox`` commands, ``state`` remembers.
"""

from collections.abc import Sequence
from typing import Any, Final, assert_never

from jobengine.core.dag_planner.doors import Doors
from jobengine.core.dag_planner.landings import Landings, end_of_sub_run
from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.outbox import PlannerLimits
from jobengine.core.dag_planner.requests import expansion
from jobengine.core.dag_planner.state import PlannerState, Told
from jobengine.domain.instant import Moment
from jobengine.domain.job import State
from jobengine.domain.node import NodeKind
from jobengine.messages.dag_planner import (
    AdmitRun,
    ApproveGate,
    CancelRun,
    CompleteCallback,
    ExplainNode,
    ExtendRun,
    PlannerMessage,
    RejectGate,
    ReplayFrom,
    RetryFailed,
)
from jobengine.messages.planner_commands import Performed, Refused, Unsettled
from jobengine.messages.run_facts import (
    ExpandNode,
    JobsEnded,
    NodeDecided,
    NodeSkipped,
    ParentNode,
    RunGone,
    RunsFound,
    RunStarted,
    RunsTold,
    SubRunEnded,
)
from jobengine.messages.runs import ShardBegun
from jobengine.messages.wake import Wake

__all__ = ["DagPlanner", "PlannerLimits"]

_FAN_OUT: Final = "fan_out_too_large"


class DagPlanner:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: PlannerLimits | None = None, incarnation: int = 1) -> None:
        self._state = PlannerState(limits or PlannerLimits(), incarnation)
        self._doors = Doors(self._state)
        self._landings = Landings(self._state)
        self._all_told = False

    @property
    def wakeup_at(self) -> float | None:
        """When the first command that came to nothing is tried again."""
        return self._state.outbox.wakeup_at

    @property
    def live_runs(self) -> int:
        return self._state.live_runs

    @property
    def live_nodes(self) -> int:
        return self._state.live_nodes

    def handle(self, message: PlannerMessage | ShardBegun | Wake, now: Moment) -> Sequence[Any]:
        state = self._state
        state.now, state.outbox.commands = now, []
        match message:
            case JobsEnded() | NodeSkipped() | NodeDecided() | ExpandNode() | SubRunEnded():
                self._hear(message)
            case Performed() | Refused() | Unsettled():
                self._hear(self._landings.land(message))
            case RunStarted():
                self._start(message)
            case RunGone():
                gone = state.stop_reading(message.run_id, message.stamp)
                if gone is not None:
                    self._hear(end_of_sub_run(gone, message.state))
                    for parent in [each for each in state.sub_runs if each.run_id == gone.run_id]:
                        state.give_up_sub_run(parent)
            case RunsTold():
                self._all_told = True
                for run in list(state.runs.values()):
                    self._give_up_orphan(run)
            case RunsFound():
                if state.outbox.land(message.stamp) is not None:
                    state.read_found(message.runs)
            case ShardBegun():
                state.read_all()
            case AdmitRun():
                tenant_id, nodes, inside = message.tenant_id, message.nodes, message.inside
                state.answer(message.ask_id, state.refuse_room(tenant_id, nodes, inside=inside))
            case RetryFailed() | ReplayFrom():
                self._doors.rerun(message)
            case ExplainNode():
                self._doors.explain(message)
            case CancelRun() | ExtendRun() | ApproveGate() | RejectGate() | CompleteCallback():
                self._doors.ask(message)
            case Wake():
                for flight in state.outbox.due(now.mono):
                    self._landings.try_again(flight)
            case _:
                assert_never(message)
        return state.outbox.commands

    def _start(self, message: RunStarted) -> None:
        told: Sequence[Told] = ()
        if message.stamp is not None:
            reading = self._state.stop_reading(message.run_id, message.stamp)
            if reading is None:
                return
            told = reading.told
        elif message.run_id in self._state.runs or message.run_id in self._state.reading:
            return
        run = LiveRun.of(message)
        assert isinstance(run, LiveRun), f"{message.run_id} was found to be a graph: {run}"
        self._state.add(run)
        for each in told:
            self._apply(run, each)
        self._give_up_sub_runs(run)
        self._state.go_on(run)

    def _give_up_sub_runs(self, run: LiveRun) -> None:
        """Those of nodes that were cancelled before, and the run itself if nobody waits for it."""
        for number, kind in enumerate(run.graph.kinds):
            if kind is NodeKind.SUB_RUN and run.state_of(number) is State.CANCELLED:
                self._state.give_up_sub_run(ParentNode(run.run_id, run.graph.keys[number]))
        self._give_up_orphan(run)

    def _give_up_orphan(self, run: LiveRun) -> None:
        """A run for a node that was cancelled, or of a run that has ended."""
        state, parent = self._state, run.parent
        if parent is None:
            return
        above = state.runs.get(parent.run_id)
        if above is None:
            gone = self._all_told and parent.run_id not in state.reading
        else:
            gone = above.end_of(parent.key) is State.CANCELLED
        if gone:
            state.give_up_sub_run(parent)

    def _hear(self, message: Told | None) -> None:
        if message is None:
            return
        reading = self._state.reading.get(message.run_id)
        if reading is not None:
            reading.told.append(message)
        run = self._state.runs.get(message.run_id)
        if run is not None:
            self._apply(run, message)
            self._state.go_on(run)

    def _apply(self, run: LiveRun, message: Told) -> None:
        match message:
            case JobsEnded():
                for end in message.ends:
                    number = run.end(end)
                    if number is None:
                        continue
                    if number in run.asks:
                        self._doors.answer_node(run, number, end.state)
                    if end.state is State.CANCELLED:
                        self._state.give_up_sub_run(ParentNode(run.run_id, end.key))
            case NodeSkipped():
                run.skip(message.key)
            case NodeDecided():
                run.decide(message)
            case ExpandNode():
                self._expand(run, message)
            case SubRunEnded():
                number = run.open_number(message.key, NodeKind.SUB_RUN)
                if number is not None:
                    run.finish_node(
                        number,
                        State(message.state.value),
                        result=message.result,
                        error=message.error,
                        message=message.message,
                    )
            case _:
                assert_never(message)

    def _expand(self, run: LiveRun, message: ExpandNode) -> None:
        number = run.open_number(message.key, NodeKind.MAP)
        if number is None or number in run.expanding:
            return
        if message.count > self._state.limits.fan_out_max:
            run.finish_node(number, State.FAILED, error=_FAN_OUT)
        elif not message.count:
            run.finish_node(number, State.COMPLETED)
        else:
            run.expanding.add(number)
            self._state.growths_of(run).append(expansion(run, number, message.count))
