"""What becomes of a planner's commands, and what follows from that.

I1  A batch that was refused or lost is wished again, later, for the nodes that still want it.
I2  After a lost answer to a growth or a cancel, and after a refused end, the run is read again from
    the store: it cannot be known from here.
I3  An expansion that was refused for the moment is tried again; where its list has changed, the
    node is opened again; for another reason, it fails.
I4  An answer about a run that is read again meanwhile changes nothing here; whoever asked is told.

Not here: what is wished (``live_run``).
"""

from typing import Final, assert_never

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.outbox import Batch, Flight
from jobengine.core.dag_planner.phases import Wish
from jobengine.core.dag_planner.requests import Growth
from jobengine.core.dag_planner.state import UNKNOWN, GivenUp, PlannerState, Reading
from jobengine.domain.errors import ErrorCode
from jobengine.domain.run import RunState
from jobengine.messages.dag_planner import CancelRun, ReplayFrom, RetryFailed, RunAnswer
from jobengine.messages.planner_commands import FindRuns, FinishRun, Performed, Refused, Unsettled
from jobengine.messages.run_facts import SubRunEnded, sub_run_ended

__all__ = ["Landings", "end_of_sub_run"]

_LATER: Final = frozenset({ErrorCode.OVERLOADED, ErrorCode.STORE_UNAVAILABLE})

_Outcome = Performed | Refused | Unsettled


def end_of_sub_run(run: LiveRun | Reading, state: RunState) -> SubRunEnded | None:
    """What the end of a run means to its parent."""
    if run.parent is None:
        return None
    return sub_run_ended(run.parent, run.run_id, state)


class Landings:
    def __init__(self, state: PlannerState) -> None:
        self._state = state

    def land(self, message: _Outcome) -> SubRunEnded | None:
        """Take an answer; returns what a run that has ended with it means to its parent."""
        flight = self._state.outbox.land(message.stamp)
        if flight is None:
            return None
        run, subject = flight.run, flight.subject
        if run is None:
            self._land_alone(flight, message)
            return None
        if subject is FinishRun:
            return self._finished(flight, run, message)
        if isinstance(subject, Batch):
            self._batch(flight, run, subject, message)
        elif isinstance(subject, Growth):
            self._grown(flight, run, subject, message)
        else:
            self._cancelled(flight, run, subject, message)
        if self._state.is_live(run):
            self._state.go_on(run)
        return None

    def try_again(self, flight: Flight) -> None:
        """The time has come for a command that came to nothing."""
        run, subject = flight.run, flight.subject
        if isinstance(subject, Reading):
            if self._state.reading.get(subject.run_id) is subject:
                self._state.command_reading(subject)
        elif subject is FindRuns:
            self._state.find()
        elif isinstance(subject, GivenUp):
            if run is not None and run.parent is not None:
                self._state.give_up_sub_run(run.parent)
        elif run is not None and self._state.is_live(run):
            if isinstance(subject, Batch):
                run.wishes.put(subject.wish, subject.numbers)
            elif isinstance(subject, Growth):
                self._state.growths_of(run).appendleft(subject)
            else:
                run.finishing = False
            self._state.go_on(run)

    def _land_alone(self, flight: Flight, message: _Outcome) -> None:
        """An answer that is about no live run."""
        if isinstance(flight.subject, RetryFailed | ReplayFrom):
            self._rerun(flight.subject, message)
        elif not isinstance(message, Performed):
            self._state.outbox.try_again(flight, self._state.now.mono)

    def _batch(self, flight: Flight, run: LiveRun, batch: Batch, message: _Outcome) -> None:
        run.flights -= 1
        if not isinstance(message, Performed):
            self._state.outbox.try_again(flight, self._state.now.mono)
        elif batch.wish in (Wish.RELEASE, Wish.OPEN):
            run.begun = True

    def _grown(self, flight: Flight, run: LiveRun, growth: Growth, message: _Outcome) -> None:
        live = self._state.is_live(run)
        match message:
            case Performed():
                job_ids = [new.job_id for new in growth.new_nodes(run)]
                if live:
                    run.grow(growth.nodes, growth.edges)
                    run.let_go()
                self._state.answer(growth.ask_id, RunAnswer(run_id=run.run_id, job_ids=job_ids))
            case Refused():
                if live:
                    run.let_go()
                code = message.refusal.code
                if growth.opener is not None and code in _LATER:
                    self._state.outbox.try_again(flight, self._state.now.mono)
                elif growth.opener is not None and code is ErrorCode.REVISION_MISMATCH:
                    run.expanding.discard(growth.opener)
                    run.wishes.put(Wish.OPEN, (growth.opener,))
                else:
                    self._state.decline(run, growth, message.refusal)
            case Unsettled():
                self._state.answer(growth.ask_id, UNKNOWN)
                self._state.read(run)
            case _:
                assert_never(message)

    def _cancelled(
        self, flight: Flight, run: LiveRun, asked: CancelRun | GivenUp, message: _Outcome
    ) -> None:
        run.cancelling -= 1
        match message:
            case Performed():
                run.cancel_requested = True
                run.cut()
                self._state.answer(asked.ask_id, RunAnswer(run_id=run.run_id))
            case Refused():
                self._state.answer(asked.ask_id, message.refusal)
                if isinstance(asked, GivenUp):
                    self._state.outbox.try_again(flight, self._state.now.mono)
            case Unsettled():
                self._state.answer(asked.ask_id, UNKNOWN)
                self._state.read(run)
            case _:
                assert_never(message)

    def _finished(self, flight: Flight, run: LiveRun, message: _Outcome) -> SubRunEnded | None:
        if not self._state.is_live(run):
            return None
        match message:
            case Performed():
                self._state.drop(run)
                return None if run.parent is None else end_of_sub_run(run, run.outcome()[0])
            case Refused():
                self._state.read(run)
            case Unsettled():
                self._state.outbox.try_again(flight, self._state.now.mono)
            case _:
                assert_never(message)
        return None

    def _rerun(self, asked: RetryFailed | ReplayFrom, message: _Outcome) -> None:
        match message:
            case Performed():
                self._state.answer(asked.ask_id, RunAnswer(run_id=message.run_id or asked.rerun_id))
            case Refused():
                self._state.answer(asked.ask_id, message.refusal)
            case Unsettled():
                self._state.answer(asked.ask_id, UNKNOWN)
            case _:
                assert_never(message)
