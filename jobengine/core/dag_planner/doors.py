"""What doors ask of a planner: cancel, grow, approve or call back, run a part again.

What is refused, or needs no commit, is answered at once; the rest when what it took is committed.

An explanation changes nothing.

Not here: whether a growth is good, and what runs again (``requests``).
"""

from typing import Final

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.requests import extension, refuse_unfinished, rerun_of
from jobengine.core.dag_planner.state import READING, PlannerState
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import State
from jobengine.domain.node import NodeKind
from jobengine.messages.dag_planner import (
    ApproveGate,
    CancelRun,
    CompleteCallback,
    ExplainNode,
    ExtendRun,
    NodeAnswer,
    NodeExplanation,
    RejectGate,
    ReplayFrom,
    RetryFailed,
    RunAnswer,
    UnmetDependency,
)
from jobengine.messages.planner_commands import CommitCancel, StartRerun

__all__ = ["Doors"]

_BUSY: Final = Refusal(
    ErrorCode.OVERLOADED, "too many growths of this run are waiting; retry later"
)
_REJECTED: Final = "rejected"
_NAMED_MAX: Final = 100

_NodeAsk = ApproveGate | RejectGate | CompleteCallback


class Doors:
    def __init__(self, state: PlannerState) -> None:
        self._state = state

    def ask(self, message: CancelRun | ExtendRun | _NodeAsk) -> None:
        """A request about a run that is live here, or is answered with why it is not."""
        run = self._state.runs.get(message.run_id)
        if run is None or run.tenant_id != message.tenant_id:
            self._state.answer(message.ask_id, self._absent(message.run_id, message.tenant_id))
            return
        match message:
            case CancelRun():
                self._cancel(run, message)
            case ExtendRun():
                self._extend(run, message)
            case ApproveGate():
                self._end(run, message, NodeKind.APPROVAL, State.COMPLETED)
            case RejectGate():
                self._end(run, message, NodeKind.APPROVAL, State.FAILED)
            case CompleteCallback():
                self._end(run, message, NodeKind.CALLBACK, message.state)
        self._state.go_on(run)

    def explain(self, message: ExplainNode) -> None:
        run = self._state.runs.get(message.run_id)
        if run is None or run.tenant_id != message.tenant_id:
            self._state.answer(message.ask_id, self._absent(message.run_id, message.tenant_id))
            return
        number = run.graph.numbers.get(message.key)
        if number is None:
            why = f"there is no {message.key[:160]!r} in run {run.run_id}"
            refusal = Refusal(ErrorCode.NOT_FOUND, why, {"path": "key"})
            self._state.answer(message.ask_id, refusal)
        else:
            self._state.answer(message.ask_id, _explanation(run, number))

    def answer_node(self, run: LiveRun, number: int, state: State) -> None:
        """A node that somebody asked to end has ended: as asked, or in another way before."""
        ask_id, wished = run.asks.pop(number)
        key = run.graph.keys[number]
        if state is not wished:
            self._state.answer(ask_id, _not_open(key, state))
            return
        answer = NodeAnswer(run_id=run.run_id, key=key, job_id=run.job_id(number), state=state)
        self._state.answer(ask_id, answer)

    def rerun(self, message: RetryFailed | ReplayFrom) -> None:
        state = self._state
        if message.run_id in state.runs or message.run_id in state.reading:
            state.answer(message.ask_id, refuse_unfinished(message.run_id))
            return
        rerun = rerun_of(message)
        if isinstance(rerun, Refusal):
            state.answer(message.ask_id, rerun)
            return
        refusal = state.refuse_room(message.tenant_id, len(rerun.nodes))
        if refusal is not None:
            state.answer(message.ask_id, refusal)
            return
        state.outbox.commands.append(
            StartRerun(
                stamp=state.outbox.fly(None, message),
                tenant_id=message.tenant_id,
                run_id=message.rerun_id,
                replay_of=message.run_id,
                run_token=message.run_token,
                actor=message.actor,
                nodes=rerun.nodes,
                edges=rerun.edges,
                kept=rerun.kept,
            )
        )

    def _absent(self, run_id: str, tenant_id: str) -> Refusal:
        reading = self._state.reading.get(run_id)
        if reading is not None and reading.tenant_id == tenant_id:
            return READING
        return Refusal(ErrorCode.NOT_FOUND, f"no run {run_id} is under way", {"runId": run_id})

    def _cancel(self, run: LiveRun, message: CancelRun) -> None:
        if run.finishing:
            why = f"run {run.run_id} has ended"
            refusal = Refusal(ErrorCode.RUN_ENDED, why, {"runId": run.run_id})
            self._state.answer(message.ask_id, refusal)
        elif run.cancel_requested:
            self._state.answer(message.ask_id, RunAnswer(run_id=run.run_id))
        else:
            run.cancelling += 1
            self._state.command(run, message, CommitCancel, actor=message.actor)

    def _extend(self, run: LiveRun, message: ExtendRun) -> None:
        growths = self._state.growths_of(run)
        if len(growths) >= self._state.limits.growths_max:
            self._state.answer(message.ask_id, _BUSY)
        else:
            growths.append(extension(message))

    def _end(self, run: LiveRun, message: _NodeAsk, kind: NodeKind, state: State) -> None:
        number = run.open_number(message.key, kind)
        if number is None:
            self._state.answer(message.ask_id, _not_open(message.key, run.end_of(message.key)))
            return
        result, error = None, _REJECTED if state is State.FAILED else None
        if isinstance(message, CompleteCallback):
            result, error = message.result, message.error
        run.asks[number] = (message.ask_id, state)
        run.finish_node(number, state, result=result, error=error, actor=message.actor)


def _explanation(run: LiveRun, number: int) -> NodeExplanation:
    graph = run.graph
    unmet = list[int]()
    if run.waits(number):
        unmet = [parent for parent in graph.parents[number] if run.state_of(parent) is None]
    return NodeExplanation(
        key=graph.keys[number],
        kind=graph.kinds[number],
        rule=graph.rules[number],
        started=run.starts(number),
        unmet=[
            UnmetDependency(graph.keys[parent], run.job_id(parent), run.starts(parent))
            for parent in unmet[:_NAMED_MAX]
        ],
        unmet_total=len(unmet),
    )


def _not_open(key: str, ended: State | None) -> Refusal:
    how = f"has ended: {ended}" if ended else "is not open, or not of this kind"
    details = {"key": key[:160], "state": None if ended is None else str(ended)}
    return Refusal(ErrorCode.NODE_NOT_OPEN, f"{key[:160]!r} {how}", details)
