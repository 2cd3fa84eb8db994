"""The DAG planner of one shard: which node of a live run may start, and when a run has ended.

Decides what is released, cancelled and ended as the ends of jobs are told. Doors ask it (cancel,
grow, approve, call back, run again), the lease shard tells it what has ended; it commands releases,
cancels, ends of nodes without a worker, growth, and the ends of runs. It lives beside the lease
shard of its tenants; the shell carries its commands to that shard's commits and answers with their
stamps. At a start the shell tells one ``RunStarted`` for each run that has not ended.

Definitions. A *flight* is a command under way. A run is *reading* while it is read again from the
store, after an answer was lost that it cannot go on without.

I1  Nothing follows from a command but from what is told of it: releases and ends count when they
    are told as ends of jobs, growth, cancel and finish when they are performed.
I2  A batch whose answer is lost or refused is commanded again later, for the nodes that still want
    it; the transition table makes a repetition harmless.
I3  A run has one growth under way at most; while it is, nothing it reaches into is decided.
I4  Nothing told of a run while it is read is lost: it is told again to the run that was read.
I5  Memory holds the runs that doors have asked room for (``AdmitRun``), ``nodes_live_max`` nodes of
    all together; of each run ``flights_max`` commands of ``batch_max`` jobs are under way.

Not here: what makes a graph (``domain/graph``), which node may start (``live_run``), what may be
asked of a run (``requests``), lists, inputs and results of nodes (the shell).
The parts: ``doors`` takes requests, ``landings`` answers, ``outbox`` commands, ``state`` remembers.
"""

from collections.abc import Sequence
from typing import Any, Final, assert_never

from jobengine.core.dag_planner.doors import Doors
from jobengine.core.dag_planner.landings import Landings
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
    ExpandNode,
    ExtendRun,
    JobRevived,
    JobsEnded,
    Performed,
    PlannerMessage,
    Refused,
    RejectGate,
    ReplayFrom,
    RetryFailed,
    RunGone,
    RunStarted,
    SubRunEnded,
    Unsettled,
)
from jobengine.messages.wake import Wake

__all__ = ["DagPlanner", "PlannerLimits"]

_FAN_OUT: Final = "fan_out_too_large"


class DagPlanner:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: PlannerLimits | None = None, incarnation: int = 1) -> None:
        self._state = PlannerState(limits or PlannerLimits(), incarnation)
        self._doors = Doors(self._state)
        self._landings = Landings(self._state)

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

    def handle(self, message: PlannerMessage | Wake, now: Moment) -> Sequence[Any]:
        state = self._state
        state.now, state.outbox.commands = now, []
        match message:
            case JobsEnded() | JobRevived() | ExpandNode() | SubRunEnded():
                self._hear(message)
            case Performed() | Refused() | Unsettled():
                told = self._landings.land(message)
                if told is not None:
                    self._hear(told)
            case RunStarted():
                self._start(message)
            case RunGone():
                state.stop_reading(message.run_id)
            case AdmitRun():
                state.answer(message.ask_id, state.refuse_room(message.nodes))
            case RetryFailed() | ReplayFrom():
                self._doors.rerun(message)
            case CancelRun() | ExtendRun() | ApproveGate() | RejectGate() | CompleteCallback():
                self._doors.ask(message)
            case Wake():
                for flight in state.outbox.due(now.mono):
                    self._landings.try_again(flight)
            case _:
                assert_never(message)
        return state.outbox.commands

    def _start(self, message: RunStarted) -> None:
        if message.run_id in self._state.runs:
            return
        told = self._state.stop_reading(message.run_id)
        run = LiveRun.of(message)
        assert isinstance(run, LiveRun), f"{message.run_id} was found to be a graph: {run}"
        self._state.runs[run.run_id] = run
        for each in told:
            self._apply(run, each)
        self._state.go_on(run)

    def _hear(self, message: Told) -> None:
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
                    if number in run.asks:
                        self._doors.answer_node(run, number, end.state)
            case JobRevived():
                run.revive(message.key)
            case ExpandNode():
                self._expand(run, message)
            case SubRunEnded():
                number = run.open_number(message.key, NodeKind.SUB_RUN)
                if number is not None:
                    run.finish_node(number, State(message.state.value), error=message.error)
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
